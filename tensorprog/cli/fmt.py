"""`tensorprog fmt FILE...`: the canonical text of files."""

from __future__ import annotations

from pathlib import Path

import click

from tensorprog.cli.console import Console
from tensorprog.cli.options import spoken


@click.command("fmt")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 when a file is not canonical.")
@click.option("-w", "--write", is_flag=True, help="Write the files instead of printing them.")
@spoken
def command(files: tuple[Path, ...], check: bool, write: bool, quiet: bool, as_json: bool) -> int:
    """Format programs: print them, check them, or write them back."""
    from tensorprog.lang import format_source, read_source

    console = Console(quiet, as_json)
    changed = []
    for file in files:
        source = read_source(file)
        text = format_source(source)
        if text != source.text:
            changed.append(str(file))
            if write and not check:
                _write(file, text)
        if not (check or write):
            console.say(text.rstrip("\n"))
    if check or write:
        for name in changed:
            console.remark(f"{'would change' if check else 'formatted'} {name}")
    console.result({"changed": changed})
    return 1 if check and changed else 0


def _write(file: Path, text: str) -> None:
    from tensorprog.files import written_whole

    with written_whole(file) as temporary:
        temporary.write_bytes(text.encode())
