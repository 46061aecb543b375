"""`--widths` and `--width` of the commands."""

from __future__ import annotations

from typing import Any

import click


class Widths(click.ParamType[tuple[int, ...]]):
    """`64,128,256`, or `64..1024` for 64 and its doubles up to 1024."""

    name = "widths"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            widths = tuple(w for part in value.split(",") for w in _doubles(part))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers like 64,128,256 or a range like 64..1024", param, ctx)
        if min(widths, default=0) < 1:
            self.fail("widths must be positive", param, ctx)
        return tuple(sorted(set(widths)))


def _doubles(part: str) -> list[int]:
    """The numbers of `64` or `64..1024`."""
    first, dots, last = part.partition("..")
    if not dots or int(first) < 1:
        return [int(first)]
    return [int(first) << k for k in range((int(last) // int(first)).bit_length())]


class Ratios(click.ParamType[dict[str, int]]):
    """`n=16,m=32`: a number for every width."""

    name = "ratios"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, int]:
        parts = [part.partition("=") for part in value.split(",")]
        if not all(equals and number.strip().isdecimal() for _, equals, number in parts):
            self.fail(f"{value!r} is not of the form n=16,m=32", param, ctx)
        return {name.strip(): int(number) for name, _, number in parts}


def scaled(width: dict[str, int], first: str, size: int) -> dict[str, int]:
    """Widths in these ratios, the first one of this size."""
    return {name: max(1, round(n * size / width[first])) for name, n in width.items()}
