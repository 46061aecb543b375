"""Instructions -> the source of functions that run them over a tile of pairs of examples.

One function per kind of instruction, with loops over entries, left examples and right examples (the innermost loop,
which becomes vector instructions); `driver` goes through the steps of a schedule for one tile after another.

    S [slots, TILE_ROWS, TILE_COLS]   the slots of the pairs of a tile       F [..]     not 0 where a value is in doubt
    L [rows, I], R [rows, J]          rows of the examples                   W [e]      the worst error of expectation e
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from tensorprog.backend.combine import Form
from tensorprog.backend.formula import ordered
from tensorprog.backend.judged import SETTLED
from tensorprog.backend.lower import Expect
from tensorprog.backend.series import SOURCE
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

READ = {"own": "S[{row}, i, j]", "left": "L[{row}, ii + i]", "right": "right_{row}[j]"}


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """The function of one kind of instruction; `writes` and `reads` are the index columns that are slots."""

    name: str
    source: str
    writes: tuple[int, ...]
    reads: tuple[int, ...]


def combination_kind(forms: Sequence[Form], first: bool) -> Kind:
    """S[out] (+)= sum of terms, coef * operands each"""
    name = "_".join(["set" if first else "add", *("".join(w[0] for w in f) or "c" for f in forms)])
    rows, right, early, sums = ["o"], [], [], []
    slots: list[int] = [] if first else [0]
    for t, form in enumerate(forms):
        own = [f"r{len(rows) + k}" for k in range(len(form))]
        slots += [len(rows) + k for k, w in enumerate(form) if w == "own"]
        rows += own
        read = [(w, READ[w].format(row=r)) for w, r in zip(form, own, strict=True)]
        early.append(f"x{t} = {' * '.join([f'coef[k, {t}]', *(r for w, r in read if w == 'left')])}")
        sums.append(" * ".join([f"x{t}", *(r for w, r in read if w != "left")]))
        right += [r for w, r in zip(form, own, strict=True) if w == "right"]
    body = f"""
@njit(**OPTIONS)
def {name}(S, F, W, L, R, ii, jj, ni, nj, index, coef, lo, hi):
    for k in range(lo, hi):
{_columns(rows, right)}
        for i in range(ni):
{lines_of(early, 12)}
            for j in range(nj):
                S[o, i, j] {"=" if first else "+="} {" + ".join(sums)}
"""
    return Kind(name, body, (0,), tuple(slots))


def expect_kind(expect: Expect, number: int, first_error: int) -> Kind:
    """The formulas of an instruction; errors are collected from row `first_error` of W on."""
    name = f"expect_{number}"
    outs = [f"o{n}" for n in range(len(expect.outs))]
    rows = [*outs, *(f"r{n}" for n in range(len(expect.known)))]
    names: dict[int, str] = {}
    early: list[str] = []
    late: list[str] = []
    for n, (node, operand) in enumerate(expect.known):
        names[id(node)] = f"x{n}"
        truth = " != 0.0" if node.op in CONDITIONS else ""  # rows are numbers
        line = f"x{n} = {READ[operand.where].format(row=f'r{n}')}{truth}"
        (early if operand.where == "left" else late).append(line)
    right = [f"r{n}" for n, (_, operand) in enumerate(expect.known) if operand.where == "right"]
    roots = [*expect.values, *expect.errors, *expect.doubts]
    for t, node in enumerate(ordered(roots, frozenset(names))):
        names[id(node)] = f"t{t}"
        late.append(f"t{t} = {_code(node, names)}")
    late += [f"S[o{n}, i, j] = {text_of(v, names)}" for n, v in enumerate(expect.values)]
    late += _judged(expect, names) if expect.errors else []
    worst = [f"w{n}" for n in range(len(expect.errors))]
    body = f"""
@njit(**OPTIONS)
def {name}(S, F, W, L, R, ii, jj, ni, nj, index, coef, lo, hi):
{lines_of([f"{w} = 0" for w in worst], 4)}
    for k in range(lo, hi):
{_columns(rows, right)}
        for i in range(ni):
{lines_of(early, 12)}
            for j in range(nj):
{lines_of(late, 16)}
{lines_of([_worst(f"W[{first_error + n}]", f"w{n}", error) for n, error in enumerate(expect.errors)], 4)}
"""
    slots = tuple(len(outs) + n for n, (_, operand) in enumerate(expect.known) if operand.where == "own")
    return Kind(name, body, tuple(range(len(outs))), slots)


def series_kind() -> Kind:
    """Hermite series (`series`)"""
    return Kind("series", SOURCE, (0,), (1,))


def _judged(expect: Expect, names: dict[int, str]) -> list[str]:
    """Count a pair with a doubtful value in F; else keep the worst errors, by their bits: a maximum of integers is a
    vector instruction, one of numbers is not."""
    conditions, found = [text_of(c, names) for c in expect.doubts], []
    for n, (value, error) in enumerate(zip(expect.values, expect.errors, strict=True)):
        v = text_of(value, names)
        relative = isinstance(error, float)
        size = f"abs({v})" if relative else text_of(error, names)
        conditions.append(f"({v} != {v})" if relative else f"(not ({size} <= {SETTLED} * abs({v})))")
        found.append(f"w{n} = max(w{n}, special.bits(0.0 if doubt else {size}))")
    return [f"doubt = {' | '.join(conditions)}", *found, "F[i, j] += 1 if doubt else 0"]


def _worst(place: str, bits: str, error: Scalar) -> str:
    """Keep the largest error, of what was seen of it: absolute values where it is a number times these."""
    scale = error if isinstance(error, float) else 1.0
    return f"{place} = max({place}, {scale!r} * special.number({bits}))"


def _columns(names: Sequence[str], right: Sequence[str]) -> str:
    """The index columns of an entry, and the rows of right examples among them as far as the tile goes."""
    lines = [f"{name} = index[k, {n}]" for n, name in enumerate(names)]
    return lines_of([*lines, *(f"right_{r} = R[{r}, jj : jj + nj]" for r in right)], 8)


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
