"""Programs for tests, written without their first lines."""

from tensorprog.elaborate import elaborate
from tensorprog.errors import Source
from tensorprog.ir.program import Program


def source_of(body: str) -> str:
    """The text of `program p()` with a width n = 8 and this body."""
    lines = "\n".join("    " + line for line in body.strip().split("\n"))
    return f"program p():\n    width n = 8\n{lines}\n"


def program_of(body: str) -> Program:
    """The IR of `source_of(body)`."""
    return elaborate(Source("<string>", source_of(body))).program
