"""Pointwise operations of a product tape -> the source of functions that compute them, many places at a time.

Where a value is in doubt, the results are the number `hole`, which is no number at first, and so is the largest error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from tensorprog.backend.access import RESULTS
from tensorprog.backend.emit import TEMPLATES, lines_of, text_of, worst
from tensorprog.backend.formula import is_nonnegative, ordered, rooted
from tensorprog.backend.grid_loops import FAMILY
from tensorprog.backend.judged import SETTLED
from tensorprog.backend.trace import Scalar, Traced


@final
@dataclass(frozen=True, slots=True)
class Formulas:
    """What a pointwise operation computes: `outs` of the slots `slots` that it reads, and of what is known of both
    sides, the nodes `left` and `right`.  Its expectations have `values`, and `errors` where none of the conditions
    `doubts` holds; an error that is a number times the absolute value is that number."""

    outs: tuple[Scalar, ...]
    values: tuple[Scalar, ...]
    errors: tuple[Scalar, ...]
    doubts: tuple[Scalar, ...]
    slots: tuple[Traced, ...]
    left: tuple[Traced, ...]
    right: tuple[Traced, ...]


def source(f: Formulas) -> str:
    """A function that computes them at m places; `at` says where results, slots, and rows of L and R begin, the strides
    of these, and which error is the first.  It returns 1 where a value is in doubt."""
    n, slots = len(f.outs), len(f.slots)
    names = [*(f"o{t}" for t in range(n)), *(f"x{t}" for t in range(slots)), "l", "r", "ln", "rn", "w"]
    known = range(len(f.values))
    return f"""{FAMILY}

@cfunc(FORMULA, **OPTIONS)
def function(S, T, L, R, W, at, m, hole):
{lines_of([f"{name} = at[{t}]" for t, name in enumerate(names)], 4)}
{lines_of([f"u{t} = 0" for t in known], 4)}
{_loops(f)}
{lines_of([f"if u{t} > INFINITE:{chr(10)}        return 1" for t in known], 4)}
{lines_of([line for t, error in enumerate(f.errors) for line in worst(f"W[w + {t}]", f"u{t}", error)], 4)}
    return 0
"""


def _loops(f: Formulas) -> str:
    """What happens at every place, first what angles are of: roots of many places are then under way at a time.

    Results are computed from values that are no numbers where these are in doubt.
    """
    streams = [(f"s{t}", f"given(S, x{t} + q)", node) for t, node in enumerate(f.slots)]
    streams += [(f"l{t}", f"given(L, l + {t} * ln + q)", node) for t, node in enumerate(f.left)]
    streams += [(f"r{t}", f"given(R, r + {t} * rn + q)", node) for t, node in enumerate(f.right)]
    read = [f"{label} = {source}" for label, source, _ in streams]
    given = {id(node): label for label, _, node in streams}
    early, names = rooted([*f.values, *f.errors, *f.doubts], frozenset(given))[:RESULTS], dict(given)
    first = [
        *read,
        *_assigned(early, names, "t"),
        *(f"T[{t} * CHUNK + q] = {names[id(node)]}" for t, node in enumerate(early)),
    ]
    names = given | {id(node): f"d{t}" for t, node in enumerate(early)}
    kept = {**given, **{id(v): f"value{t}" for t, v in enumerate(f.values)}}
    second = [
        *read,
        *(f"d{t} = T[{t} * CHUNK + q]" for t in range(len(early))),
        *_assigned([*f.values, *f.errors, *f.doubts], names, "t"),
        *_judged(f, names),
        *_assigned(f.outs, kept, "z"),
        *(f"results{t}(S, o{t} + q, {text_of(value, kept)})" for t, value in enumerate(f.outs)),
    ]
    loops = [["    for q in range(m):", lines_of(lines, 8)] for lines in ([first] if early else []) + [second]]
    return "\n".join(line for loop in loops for line in loop)


def _assigned(values: Sequence[Scalar], names: dict[int, str], letter: str) -> list[str]:
    """Assignments to the nodes of values that have no names yet."""
    lines = []
    for t, node in enumerate(ordered(values, frozenset(names))):
        names[id(node)] = f"{letter}{t}"
        lines.append(f"{letter}{t} = {_template(node).format(*(text_of(a, names) for a in node.args))}")
    return lines


def _judged(f: Formulas, names: Mapping[int, str]) -> list[str]:
    """Values, and the worst errors where they are not in doubt, by their bits: a maximum of integers is a vector
    instruction, one of numbers is not."""
    if not f.values:
        return []
    conditions, found = [text_of(c, names) for c in f.doubts], []
    for t, (value, error) in enumerate(zip(f.values, f.errors, strict=True)):
        v = text_of(value, names)
        relative = isinstance(error, float)
        conditions.append(f"({v} != {v})" if relative else f"(not ({text_of(error, names)} <= {SETTLED} * abs({v})))")
        size = f"abs(value{t})" if relative else f"(hole if doubt else {text_of(error, names)})"
        found += [f"value{t} = hole if doubt else {v}", f"b{t} = special.bits({size})"]
        found.append(f"u{t} = b{t} if b{t} > u{t} else u{t}")
    return [f"doubt = {' | '.join(conditions)}", *found]


def _template(node: Traced) -> str:
    if node.op == "atan2" and is_nonnegative(node.args[0]):
        return "special.angle({}, {})"
    return TEMPLATES[node.op]
