"""`tensorprog check FILE`: is the program right, and what will its limit be like?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from tensorprog.cli.options import chosen, program_options


@click.command("check")
@program_options
def command(**options: Any) -> None:
    """Check a program: roles of its variables, scaling with the width, gradient independence, warnings."""
    choice = chosen(**options)
    net = choice.network()
    if choice.output is not None:
        net.output(choice.output)
    report = net.check()
    choice.console.notes(n for n in report.notes if n not in net.elaborated.notes)
    choice.console.remark(str(report))
    choice.console.result({"program": net.program.name, "outputs": [asdict(o) for o in report.outputs],
                           "diagnostics": report.notes})
