"""`tensorprog show FILE --stage NAME`: the program as one stage of the compiler sees it."""

from __future__ import annotations

from typing import Any

import click

from tensorprog.cli.options import chosen, program_options
from tensorprog.pipeline import STAGES, Request, show


@click.command("show", epilog="Stages: " + "; ".join(f"{s.name}: {s.about}" for s in STAGES))
@program_options
@click.option("--stage", type=click.Choice([s.name for s in STAGES]), default="ir", show_default=True)
def command(stage: str, **options: Any) -> None:
    """Print a program at a stage of the compiler."""
    choice = chosen(**options)
    text = show(stage, Request.of_file(choice.file, choice.params, choice.program, choice.output))
    choice.console.say(text.rstrip("\n"))
    choice.console.result({"stage": stage, "text": text})
