"""`tensorprog derive FILE`: the recursion of both kernels."""

from __future__ import annotations

from typing import Any

import click

from tensorprog.cli.options import chosen, program_options


@click.command("derive")
@program_options
@click.option("--format", "kind", type=click.Choice(["text", "latex"]), default="text", show_default=True)
def command(kind: str, **options: Any) -> None:
    """Derive the infinite-width limit and print its equations."""
    choice = chosen(**options)
    derivation = choice.network().derive(choice.output)
    text = derivation.latex() if kind == "latex" else str(derivation)
    choice.console.notes(derivation.limit.notes)
    choice.console.say(text.rstrip("\n"))
    choice.console.result({"format": kind, "text": text})
