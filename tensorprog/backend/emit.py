"""Instructions -> the source of functions that run them over a tile of pairs of examples.

One function per kind of instruction, with loops over entries, left examples and right examples (the innermost loop,
which becomes vector instructions); `driver` goes through the steps of a schedule for one tile after another.

    S [slots * area], F [area]            the slots of the pairs of a tile; not 0 where a value is in doubt
    L [rows * lefts], R [rows * rights]   rows of the examples
    W                                     the worst errors, from the first of the kind on
    A, T [RESULTS * cols]                 the tile and the numbers of examples (`driver`); room for lines of the tile
    index, coef                           the entries, of which lo .. hi are run

Every function is a module of its own, a callback of C that `driver` calls by its address: it is compiled once for all
networks that need it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from tensorprog.backend.access import RESULTS
from tensorprog.backend.combine import Form
from tensorprog.backend.formula import ordered, rooted
from tensorprog.backend.judged import SETTLED
from tensorprog.backend.lower import Expect
from tensorprog.backend.series import BODY
from tensorprog.backend.trace import Scalar, Traced

CONDITIONS = frozenset(("gt", "lt", "ge", "le", "eq", "ne", "and", "or", "not"))
BINARY = {
    "add": "({} + {})",
    "sub": "({} - {})",
    "mul": "({} * {})",
    "div": "({} / {})",
    "gt": "({} > {})",
    "lt": "({} < {})",
    "ge": "({} >= {})",
    "le": "({} <= {})",
    "eq": "({} == {})",
    "ne": "({} != {})",
    "and": "({} & {})",
    "or": "({} | {})",
}
TEMPLATES = {
    **BINARY,
    "neg": "(-{})",
    "not": "(not {})",
    "where": "({1} if {0} else {2})",
    "sign": "((1.0 if {0} > 0.0 else -1.0) if {0} != 0.0 else 0.0)",
    "sqrt": "math.sqrt({})",
    "log": "math.log({})",
    "sin": "math.sin({})",
    "cos": "math.cos({})",
    "copysign": "math.copysign({}, {})",
    "residue": "special.fused({}, {}, -({}))",
    "abs": "abs({})",
    "max": "max({}, {})",
    "min": "min({}, {})",
    "exp": "special.exp({})",
    "expm1": "special.expm1({})",
    "atan2": "special.atan2({}, {})",
    "turn": "special.turn({}, {})",
    "erf": "special.erf({})",
    "ndtr": "special.ndtr({})",
    "owens_t": "special.owens_t({}, {})",
}

HEAD = f'''"""Generated from the equations of a limit."""

import math

from numba import cfunc, types

from tensorprog.backend import special
from tensorprog.backend.access import BYTES, INDICES, NUMBERS, behind, called, given, results, spread
from tensorprog.backend.access import indices, numbers, singles, turn

OPTIONS = {{"error_model": "numpy", "cache": True}}
{chr(10).join(f"results{n} = results[{n}]" for n in range(RESULTS))}
'''
POINTERS: Mapping[np.dtype[Any], str] = {np.dtype(np.float32): "singles", np.dtype(np.float64): "numbers"}
"""What makes pointers to numbers of a type."""
PLACE = {"own": "row[{n}] * area", "left": "row[{n}] * lefts + ii", "right": "row[{n}] * rights + jj"}
READ = {"own": "given(S, {row} + p + j)", "left": "L[{row} + i]", "right": "given(R, {row} + j)"}


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """The function of one kind of instruction; `writes` and `reads` are the index columns that are slots, `error` the
    number of its first error."""

    name: str
    source: str
    writes: tuple[int, ...]
    reads: tuple[int, ...]
    error: int = 0


def combination_kind(forms: Sequence[Form], first: bool) -> Kind:
    """S[out] (+)= sum of terms, coef * operands each"""
    name = "_".join(["set" if first else "add", *("".join(w[0] for w in f) or "c" for f in forms)])
    wheres, early, sums = ["own"], [], []
    for t, form in enumerate(forms):
        read = [(w, READ[w].format(row=f"r{len(wheres) + k}")) for k, w in enumerate(form)]
        wheres += form
        early.append(f"x{t} = {' * '.join([f'c[{t}]', *(r for w, r in read if w == 'left')])}")
        sums.append(" * ".join([f"x{t}", *(r for w, r in read if w != "left")]))
    late = [f"results0(S, r0 + p + j, {'' if first else 'S[r0 + p + j] + '}({' + '.join(sums)}))"]
    slots = tuple(n for n, w in enumerate(wheres) if w == "own")
    source = _source(wheres, len(forms), early, [late])
    return Kind(name, source, (0,), slots[1:] if first else slots)


def expect_kind(expect: Expect, number: int, error: int) -> Kind:
    """The formulas of an instruction, first what angles are of: roots of many pairs are then under way at a time.

    Its errors are those from number `error` on.
    """
    outs = len(expect.outs)
    wheres = ["own"] * outs + [operand.where for _, operand in expect.known]
    names: dict[int, str] = {}
    early: list[str] = []
    late: list[str] = []
    for n, (node, operand) in enumerate(expect.known):
        names[id(node)] = f"x{n}"
        truth = " != 0.0" if node.op in CONDITIONS else ""  # rows are numbers
        line = f"x{n} = {READ[operand.where].format(row=f'r{outs + n}')}{truth}"
        (early if operand.where == "left" else late).append(line)
    roots = [*expect.values, *expect.errors, *expect.doubts]
    taken, inner = rooted(roots, frozenset(names))[:RESULTS], dict(names)
    first = [*late, *_assigned(taken, inner)] if taken else []
    first += [f"T[{t} * cols + j] = {inner[id(node)]}" for t, node in enumerate(taken)]
    names |= {id(node): f"d{t}" for t, node in enumerate(taken)}
    late += [f"d{t} = T[{t} * cols + j]" for t in range(len(taken))]
    late += _assigned(roots, names)
    late += [f"results{n % RESULTS}(S, r{n} + p + j, {text_of(v, names)})" for n, v in enumerate(expect.values)]
    late += _judged(expect, names) if expect.errors else []
    slots = tuple(outs + n for n, (_, operand) in enumerate(expect.known) if operand.where == "own")
    source = _source(wheres, 0, early, [first, late] if taken else [late], expect.errors)
    return Kind(f"expect_{number}", source, tuple(range(outs)), slots, error)


def _assigned(values: Sequence[Scalar], names: dict[int, str]) -> list[str]:
    """Assignments to the nodes of values that have no names yet."""
    lines = []
    for t, node in enumerate(ordered(values, frozenset(names))):
        names[id(node)] = f"t{t}"
        lines.append(f"t{t} = {_code(node, names)}")
    return lines


def _source(
    wheres: Sequence[str],
    terms: int,
    early: Sequence[str],
    loops: Sequence[Sequence[str]],
    errors: Sequence[Scalar] = (),
) -> str:
    """The module of a kind whose entries have rows of S, L or R; what happens to a left example, and to its pairs."""
    passes = [line for lines in loops for line in ("for j in range(nj):", *(f"    {line}" for line in lines))]
    return module(f"""\
{lines_of([f"w{n} = 0" for n in range(len(errors))], 4)}
    for k in range(lo, hi):
        row = behind(index, k * {len(wheres)})
        c = behind(coef, k * {terms})
{lines_of([f"r{n} = {PLACE[w].format(n=n)}" for n, w in enumerate(wheres)], 8)}
        for i in range(ni):
            p = i * cols
{lines_of(early, 12)}
{lines_of(passes, 12)}
{lines_of([line for n, error in enumerate(errors) for line in worst(f"W[{n}]", f"w{n}", error)], 4)}""")


def module(body: str, options: str = "") -> str:
    """The source of a kind: of the examples from ii and jj on ni and nj, in a tile with so many columns."""
    return f"""{HEAD}
KIND = types.int64(NUMBERS, INDICES, *(NUMBERS,) * 3, INDICES, NUMBERS, INDICES, NUMBERS, *(types.int64,) * 2)


@cfunc(KIND, {options}**OPTIONS)
def function(S, F, W, L, R, A, T, index, coef, lo, hi):
    ii = A[0]
    jj = A[1]
    ni = A[2]
    nj = A[3]
    cols = A[5]
    area = A[4] * cols
    lefts = A[6]
    rights = A[7]
{body}
    return 0
"""


def worst(place: str, bits: str, error: Scalar) -> list[str]:
    """Keep the largest error, of what was seen of it: absolute values where it is a number times these."""
    scale = error if isinstance(error, float) else 1.0
    return [f"e = {scale!r} * special.number({bits})", f"{place} = e if e > {place} else {place}"]


def series_kind() -> Kind:
    """Hermite series (`series`)"""
    return Kind("series", module(BODY, 'fastmath={"contract"}, '), (0,), (1,))


def _judged(expect: Expect, names: dict[int, str]) -> list[str]:
    """Count a pair with a doubtful value in F; else keep the worst errors, by their bits: a maximum of integers is a
    vector instruction, one of numbers is not."""
    conditions, found = [text_of(c, names) for c in expect.doubts], []
    for n, (value, error) in enumerate(zip(expect.values, expect.errors, strict=True)):
        v = text_of(value, names)
        relative = isinstance(error, float)
        size = f"abs({v})" if relative else text_of(error, names)
        conditions.append(f"({v} != {v})" if relative else f"(not ({size} <= {SETTLED} * abs({v})))")
        found += [f"b{n} = special.bits(0.0 if doubt else {size})", f"w{n} = b{n} if b{n} > w{n} else w{n}"]
    counted = f"results{RESULTS - 1}(F, p + j, F[p + j] + (1 if doubt else 0))"
    return [f"doubt = {' | '.join(conditions)}", *found, counted]


def lines_of(lines: Sequence[str], indent: int) -> str:
    """Lines of source, indented."""
    return "\n".join(" " * indent + line for line in lines)


def _code(node: Traced, names: dict[int, str]) -> str:
    return TEMPLATES[node.op].format(*(text_of(a, names) for a in node.args))


def text_of(value: Scalar, names: Mapping[int, str]) -> str:
    """A node by its name, a number as it is written."""
    if isinstance(value, Traced):
        return names[id(value)]
    if isinstance(value, bool):
        return str(value)
    return {"inf": "math.inf", "-inf": "-math.inf", "nan": "math.nan"}.get(repr(value), f"({value!r})")
