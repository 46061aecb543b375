"""docs/language.md: every program in it elaborates, and nothing of the prelude is missing."""

import re
from pathlib import Path

import pytest

from tensorprog.elaborate import elaborate
from tensorprog.elaborate.calls import BUILTINS
from tensorprog.elaborate.driver import prelude_modules
from tensorprog.errors import Source
from tensorprog.ir.functions import FUNCTIONS
from tensorprog.lang import syntax

TEXT = (Path(__file__).parents[2] / "docs" / "language.md").read_text()
BLOCKS = re.findall(r"```tp( context)?\n(.*?)```", TEXT, re.S)
CONTEXT = next(code for context, code in BLOCKS if context)


def program_of(code: str) -> str:
    """A block as a whole file: fragments go into the program of the page, definitions before it."""
    if re.search(r"^program ", code, re.M):
        return code
    return CONTEXT + code if code.startswith("    ") else code + CONTEXT


@pytest.mark.parametrize("code", [code for _, code in BLOCKS])
def test_program_elaborates(code):
    result = elaborate(Source("language.md", program_of(code)))
    assert not [n for n in result.notes if n.severity == "note"]


def test_everything_is_mentioned():
    names = {d.name for m in prelude_modules() for d in m.decls if isinstance(d, syntax.Def | syntax.Block)}
    known = names | set(BUILTINS) | set(FUNCTIONS) - {"dirac", "stop", "dsinc"}
    assert not [name for name in sorted(known) if not re.search(rf"[`( ]{name}\b", TEXT)]


def test_prelude_signatures_are_as_written():
    for module in prelude_modules():
        for d in module.decls:
            if isinstance(d, syntax.Block) and "..." not in _signature(d.name):
                given = re.findall(r"(\w+)(?: = [^,]+)?(?:, |$)", _signature(d.name))
                assert given == [p.name for p in d.params], d.name


def _signature(name: str) -> str:
    match = re.search(rf"`{name}\(([^`]*)\)`", TEXT)
    assert match, f"{name} has no row"
    return match.group(1)
