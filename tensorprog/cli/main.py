"""`tensorprog COMMAND ...`: finds the command, and turns every error into a message and an exit code.

    0 success    1 `validate` disagrees, or a fault of tensorprog    2 a mistake of the user    130 interrupted
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from tensorprog import __version__
from tensorprog.cli.console import diagnostic_data, shown
from tensorprog.errors import Diagnostic, TensorProgError

COMMANDS = ("check", "show", "fmt", "derive", "kernel", "validate", "train", "export", "run")
REPORT = "this is a fault of tensorprog, not of your program; please report it with the file and this message"


class Commands(click.Group):
    """Imports the module of a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"tensorprog.cli.{cmd_name}").command
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Compiles a network, written as a .tp file, to its infinite-width kernels."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line and exits."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(given))


def run(arguments: list[str]) -> int:
    """The exit code of a command line."""
    try:
        return _invoke(arguments)
    except TensorProgError as error:
        return _mistake(error.diagnostics, "--json" in arguments)
    except MemoryError:
        lacking = Diagnostic("not enough memory", hint="take fewer examples (--n) or smaller widths")
        return _mistake([lacking], "--json" in arguments)
    except RecursionError:
        return _mistake([Diagnostic("the program is nested too deeply")], "--json" in arguments)
    except BrokenPipeError:
        _close_pipe()
        return 1


def _invoke(arguments: list[str]) -> int:
    try:
        code: Any = cli.main(arguments, prog_name="tensorprog", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        if "--json" in arguments:
            print(json.dumps({"ok": False, "diagnostics": [diagnostic_data(Diagnostic(error.format_message()))]}))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return 130
    except (TensorProgError, MemoryError, RecursionError, OSError):
        raise
    except Exception as error:
        print(f"internal error: {type(error).__name__}: {error}\n{REPORT}", file=sys.stderr)
        if os.environ.get("TENSORPROG_TRACEBACK"):
            raise
        print("set TENSORPROG_TRACEBACK=1 to see where", file=sys.stderr)
        return 1


def _mistake(diagnostics: Sequence[Diagnostic], as_json: bool) -> int:
    for diagnostic in diagnostics:
        print(shown(diagnostic), file=sys.stderr)
    if as_json:
        print(json.dumps({"ok": False, "diagnostics": [diagnostic_data(d) for d in diagnostics]}))
    return 2


def _close_pipe() -> None:
    """Python would complain when it flushes standard output at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
