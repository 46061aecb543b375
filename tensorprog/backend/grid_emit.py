"""Operations of a product tape -> the source of a module that runs them for a tile of P pairs of examples.

    S, T, X, C      see `grid_loops`
    L, R [rows * P] what is known of the left and the right examples of the pairs

Where a value is in doubt, results are no numbers, and so is the largest error of a chunk of entries: only then these
entries are looked for, and the errors of the others computed once more.

`run` stops behind expectations that left entries in doubt, and is called again when they are settled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from tensorprog.backend.emit import SETTLED, TEMPLATES, lines_of, text_of
from tensorprog.backend.formula import is_nonnegative, ordered
from tensorprog.backend.grid_loops import HEAD, NAMES, loops
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


def point_source(name: str, f: Formulas) -> str:
    """The formulas of an operation; index columns of `outs` come first, then those of slots, left and right."""
    n, slots = len(f.outs), len(f.slots)
    places = [f"o{t} = (k{t} + X1[e, {t}] * n{t} + X2[g, {t}]) * P + start" for t in range(n)]
    for t in range(slots):
        c = n + t
        places.append(f"x{t} = (k{c} + X1[e, {c}] * n{c} + X2[g, {c}]) * P + start")
    for side, c in (("l", n + slots), ("r", n + slots + 1)):
        places.append(f"{side} = ({side}b + X1[e, {c}] * {side}s + X2[g, {c}]) * P + start")
    known = range(len(f.values))
    return f"""

@njit(**OPTIONS)
def {name}(S, P, L, R, W, D, {_listed("k", n + slots)}, lb, rb, ls, rs, ln, rn, we,
           X1, lo1, hi1, X2, lo2, hi2, {_listed("n", n + slots)}):
    doubts = 0
{lines_of([f"w{t} = 0" for t in known], 4)}
    for e in range(lo1, hi1):
        g = lo2
        while g < hi2:
            for start in range(0, X2[g, RUN] * P, Q // P * P):
                m = min(Q // P * P, X2[g, RUN] * P - start)
{lines_of(places, 16)}
                hole, worst = math.nan, INFINITE + 1
                while worst > INFINITE:
                    worst = 0
{lines_of([f"u{t} = 0" for t in known], 20)}
                    for q in range(m):
{lines_of(_entry(f), 24)}
{lines_of([f"worst = max(worst, u{t})" for t in known], 20)}
                    if worst > INFINITE:
                        hole = 0.0
                        for t in range(0, m, P):
                            bad = 0
                            for p in range(t, t + P):
                                bad += 1 if {_no_number(n)} else 0
                            if bad > 0:
                                D[doubts, 0], D[doubts, 1] = e, g + (start + t) // P
                                doubts += 1
{lines_of([f"w{t} = max(w{t}, u{t})" for t in known], 16)}
            g += X2[g, RUN]
{lines_of([_worst(t, error) for t, error in enumerate(f.errors)], 4)}
    return doubts
"""


def _entry(f: Formulas) -> list[str]:
    """What happens at one place; results are computed from values that are no numbers where these are in doubt."""
    streams = [(f"s{t}", f"given(S, x{t} + q)", node) for t, node in enumerate(f.slots)]
    streams += [(f"l{t}", f"given(L, l + {t} * ln * P + q)", node) for t, node in enumerate(f.left)]
    streams += [(f"r{t}", f"given(R, r + {t} * rn * P + q)", node) for t, node in enumerate(f.right)]
    given = {id(node): label for label, _, node in streams}
    names, kept = dict(given), {**given, **{id(v): f"value{t}" for t, v in enumerate(f.values)}}
    return [
        *(f"{label} = {source}" for label, source, _ in streams),
        *_assigned([*f.values, *f.errors, *f.doubts], names, "t"),
        *_judged(f, names),
        *_assigned(f.outs, kept, "z"),
        *(f"results{t}(S, o{t} + q, {text_of(value, kept)})" for t, value in enumerate(f.outs)),
    ]


def _assigned(values: Sequence[Scalar], names: dict[int, str], letter: str) -> list[str]:
    """Assignments to the nodes of values that have no names yet."""
    lines = []
    for t, node in enumerate(ordered(values, frozenset(names))):
        names[id(node)] = f"{letter}{t}"
        lines.append(f"{letter}{t} = {_template(node).format(*(text_of(a, names) for a in node.args))}")
    return lines


def _no_number(results: int) -> str:
    loads = [f"load(S, o{t} + p)" for t in range(results)]
    return " or ".join(f"{x} != {x}" for x in loads)


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
        found += [f"value{t} = hole if doubt else {v}", f"u{t} = max(u{t}, special.bits({size}))"]
    return [f"doubt = {' | '.join(conditions)}", *found]


def _worst(t: int, error: Scalar) -> str:
    scale = error if isinstance(error, float) else 1.0
    return f"W[we + {t}] = max(W[we + {t}], {scale!r} * special.number(w{t}))"


def _template(node: Traced) -> str:
    if node.op == "atan2" and is_nonnegative(node.args[0]):
        return "special.angle({}, {})"
    return TEMPLATES[node.op]


def _listed(name: str, count: int) -> str:
    return ", ".join(f"{name}{t}" for t in range(count))


KINDS = ("clear", "edges", "data", "constant", "times", "dot", "gather", "mix")
"""The functions of all modules, in the order of `_calls`."""


def _calls(formulas: Sequence[Formulas]) -> list[str]:
    tables = "X1, C1, lo1, hi1, X2, C2, lo2, hi2, n0"
    calls = [
        "clear(S, P, K[op, 0], M[U[op, 0], c1] * n0)",
        "edges(S, P, K[op, 0], M[U[op, 0], c1], n0)",
        "data(S, P, L, R, K[op, 0], B[op, 0], B[op, 1], B[op, 2], X1, lo1, hi1, X2, lo2, hi2, n0)",
        f"constant(S, P, K[op, 0], {tables})",
        f"times(S, P, K[op, 0], K[op, 1], K[op, 2], {tables}, N[U[op, 1], c2], N[U[op, 2], c2])",
        f"dot(S, T, P, K[op, 0], K[op, 1], K[op, 2], {tables}, N[U[op, 1], c2], N[U[op, 2], c2])",
        f"gather(S, T, P, K[op, 0], K[op, 1], {tables}, N[U[op, 1], c2])",
        f"mix(S, T, P, K[op, 0], K[op, 1], B[op, 0], B[op, 1], B[op, 2], {tables}, N[U[op, 1], c2])",
    ]
    for n, f in enumerate(formulas):
        columns = range(len(f.outs) + len(f.slots))
        keys, strides = (", ".join(x.format(t=t) for t in columns) for x in ("K[op, {t}]", "N[U[op, {t}], c2]"))
        known = ", ".join(f"B[op, {t}]" for t in range(7))
        calls.append(
            f"doubts = point{n}(S, P, L, R, W, D, {keys}, {known}, X1, lo1, hi1, X2, lo2, hi2, {strides})"
        )
    return calls


def module(formulas: Sequence[Formulas]) -> str:
    """The source of the module: the same for all networks with these nonlinearities."""
    imported = f"from {loops()} import {', '.join(NAMES)}\n"
    parts = [HEAD, imported, *(point_source(f"point{n}", f) for n, f in enumerate(formulas))]
    choices = [
        f"{' ' * 16}{'if' if n == 0 else 'elif'} kind == {n}:\n{' ' * 20}{call}"
        for n, call in enumerate(_calls(formulas))
    ]
    return "".join(parts) + DRIVER.format(choices="\n".join(choices))


DRIVER = """

@njit(**OPTIONS)
def run(S, T, P, L, R, W, D, steps, K, U, B, M, N, X1, C1, P1, X2, C2, P2, state):
    c1, c2, s = state[0], state[1], state[2]
    while c1 < M.shape[1]:
        while c2 < N.shape[1]:
            while s < len(steps):
                kind, op = steps[s, 0], steps[s, 1]
                lo1, hi1, lo2, hi2 = P1[op, c1], P1[op, c1 + 1], P2[op, c2], P2[op, c2 + 1]
                n0 = N[U[op, 0], c2]
                doubts = 0
                s += 1
                if kind > 1 and (lo1 == hi1 or lo2 == hi2):
                    continue
{choices}
                if doubts > 0:
                    state[0], state[1], state[2], state[3] = c1, c2, s, op
                    return doubts
            s = 0
            c2 += 1
        c2 = 0
        c1 += 1
    return 0
"""
