"""What a study was made of, as texts for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import final

from tensorprog.derivation import compose, derive, html_parts
from tensorprog.elaborate import Elaborated
from tensorprog.limit.analyse import Limit
from tensorprog.verdict import Validation


@final
@dataclass(frozen=True, slots=True)
class Setting:
    """The text of the program, its derivation as HTML, and named facts."""

    title: str
    source: str
    derivation: str
    facts: Mapping[str, str]


def setting(elaborated: Elaborated, limit: Limit, found: Validation) -> Setting:
    """The setting of a study of a program; `limit` has its parameters as symbols."""
    program = elaborated.program
    study = next(iter(found.found.values()))
    networks = ", ".join(f"{s} of width {w}" for w, s in zip(study.widths, study.seeds, strict=True))
    facts = {
        "parameters": ", ".join(f"{name} = {value}" for name, value in program.params) or "none",
        "networks": networks,
        "rows": " x ".join(str(n) for n in study.limit.shape) + " (example, element of the output)",
        "gradient independence": f"{'holds' if limit.verdict.holds else 'fails'}: {limit.verdict.reason}",
        "tensorprog": version("tensorprog"),
    }
    source = "" if program.span is None else program.span.source.text
    return Setting(f"{program.name}: limit and simulation", source, html_parts(compose(derive(limit))), facts)
