"""`tensorprog derive FILE`: the recursion of both kernels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tensorprog.cli.options import chosen, program_options
from tensorprog.files import written_whole

FORMATS = ("text", "latex", "markdown", "html")


@click.command("derive")
@program_options
@click.option("--format", "kind", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the page there.")
def command(kind: str, out: Path | None, **options: Any) -> None:
    """Derive the infinite-width limit and print its equations."""
    choice = chosen(**options)
    derivation = choice.network().derive(choice.output)
    text = derivation.format(kind)
    choice.console.notes(derivation.limit.notes)
    if out is None:
        choice.console.say(text.rstrip("\n"))
    else:
        with written_whole(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    choice.console.result({"format": kind, "text": text})
