"""Index relations on paper: `target(i) <- source(i), i in domain` as the indices of the result see it.

    previous[t + 1] <- s[t]        at previous[t]: s[t - 1]
    h[2 i + p] <- g[i], K[p]       at h[j]: the sum over i of g[i], with p = j - 2 i where that is in range
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import final

from tensorprog.derivation.algebra import condition, product, renamed, total, within
from tensorprog.derivation.notation import ONE, Node, Range
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Op, Sym
from tensorprog.ir.program import Axis

Index = tuple[Expr, ...]
"""The index expressions of an element."""


class Names:
    """The names of indices in one equation, each used once."""

    def __init__(self, taken: frozenset[str]) -> None:
        self.taken = set(taken)

    def fresh(self, base: str, prime: bool) -> str:
        """A name like `base`, primed for the second run."""
        stem, k = re.sub(r"[^A-Za-z_]", "", base.removeprefix("o_")) or "i", 0
        mark = "'" if prime else ""
        while (name := f"{stem}{k or ''}{mark}") in self.taken:
            k += 1
        self.taken.add(name)
        return name


@final
@dataclass(frozen=True, slots=True)
class Solved:
    """`values` of the domain's indices; those in `ranges` are summed over, where all `conditions` hold."""

    values: dict[str, Expr]
    ranges: tuple[Range, ...]
    conditions: tuple[Node, ...]

    def at(self, index: tuple[Expr, ...]) -> tuple[Expr, ...]:
        """Index expressions over the domain, in the indices of the result."""
        return tuple(ex.substitute(e, self.values) for e in index)


def solve(
    target: tuple[Expr, ...],
    domain: tuple[Axis, ...],
    place: tuple[Expr, ...],
    extents: tuple[Expr, ...],
    names: Names,
    prime: bool,
    source: tuple[tuple[Expr, Expr], ...] = (),
) -> Solved:
    """The domain's indices where `target` is `place`, at axes of these extents.

    `source` are index expressions that are read there, with the extents of what they index.  A range that reading
    outside a family (which gives zero) implies is not stated.
    """
    apart: dict[str, Expr] = {a.index: Sym(f"@{a.index}") for a in domain}
    read_whole = {f"@{a.index}" for a in domain if (Sym(a.index), a.extent) in source}
    values: dict[str, Expr] = {}
    equal: list[tuple[Expr, Expr]] = []
    for e, p in zip((ex.substitute(e, apart) for e in target), place, strict=True):
        e = ex.substitute(e, values)
        free = [s for s in ex.symbols(e) if s.startswith("@") and s not in ex.symbols(ex.sub(e, Sym(s)))]
        if free:
            chosen = min(free, key=lambda s: (s not in read_whole, s))
            value = ex.add(p, opposite(ex.sub(e, Sym(chosen))))
            values = {k: ex.substitute(v, {chosen: value}) for k, v in values.items()} | {chosen: value}
        else:
            equal.append((e, p))
    summed = [a for a in domain if f"@{a.index}" not in values]
    fresh: dict[str, Expr] = {f"@{a.index}": Sym(names.fresh(a.index, prime)) for a in summed}
    final = {a.index: ex.substitute(values.get(f"@{a.index}", Sym(f"@{a.index}")), fresh) for a in domain}
    ranges = tuple(Range(_name(final[a.index]), ex.ZERO, ex.sub(a.extent, ex.ONE)) for a in summed)
    read = {*source, *zip(place, extents, strict=True)}
    bounds = [
        within(final[a.index], a.extent)
        for a in domain
        if a not in summed and (Sym(a.index), a.extent) not in read and (final[a.index], a.extent) not in read
    ]
    conditions = [condition(ex.substitute(e, fresh), p) for e, p in equal]
    return Solved(final, ranges, (*conditions, *bounds))


def opposite(e: Expr) -> Expr:
    """-e, term by term."""
    terms = e.args if isinstance(e, Op) and e.fn == "add" else (e,)
    return ex.add(*map(ex.neg, terms))


def _name(e: Expr) -> str:
    assert isinstance(e, Sym)
    return e.name


# ---------------------------------------------------------------- pairs of sums


def meet(left: Solved, right: Solved, here: tuple[Expr, ...], there: tuple[Expr, ...], body: Node) -> Node:
    """The sum of `body` over both, where the indices `here` and `there` of a weight are equal."""
    values: dict[str, Expr] = {}
    conditions = list(left.conditions)
    open_ = {r.index: r for r in (*left.ranges, *right.ranges)}
    for a, b in zip(here, there, strict=True):
        a, b = ex.substitute(a, values), ex.substitute(b, values)
        if isinstance(b, Sym) and b.name in open_:
            conditions.append(_bound(values, open_, b.name, a))
        elif isinstance(a, Sym) and a.name in open_:
            conditions.append(_bound(values, open_, a.name, b))
        else:
            conditions.append(condition(a, b))
    factors = (*conditions, *right.conditions, body)
    return total(tuple(open_.values()), product(*(renamed(f, values) for f in factors)))


def _bound(values: dict[str, Expr], open_: dict[str, Range], name: str, value: Expr) -> Node:
    """Fix a summed index to a value; what remains of its range as a condition."""
    own = open_.pop(name)
    for k in list(values):
        values[k] = ex.substitute(values[k], {name: value})
    values[name] = value
    other = open_.get(value.name) if isinstance(value, Sym) else None
    same = other is not None and (other.low, other.high) == (own.low, own.high)
    return ONE if same else within(value, ex.add(own.high, ex.ONE))


def whole(index: Expr, axis: Axis) -> Range:
    """The range of an index over an axis."""
    return Range(_name(index), ex.ZERO, ex.sub(axis.extent, ex.ONE))


# ---------------------------------------------------------------- guards in expressions


def guarded(fn: Expr) -> tuple[tuple[Node, ...], Expr]:
    """A product cut into conditions on indices and the rest."""
    factors = fn.args if isinstance(fn, Op) and fn.fn == "mul" else (fn,)
    low = [f for f in factors if isinstance(f, Op) and f.fn == "ge" and f.args[1] == ex.ZERO]
    high = {f.args[0]: f for f in factors if isinstance(f, Op) and f.fn == "lt"}
    paired = [f for f in low if f.args[0] in high]
    gone = {*paired, *(high[f.args[0]] for f in paired)}
    equal = [f for f in factors if isinstance(f, Op) and f.fn == "eq"]
    nodes = [within(f.args[0], high[f.args[0]].args[1]) for f in paired if isinstance(f, Op)]
    nodes += [condition(f.args[0], f.args[1]) for f in equal if isinstance(f, Op)]
    return tuple(nodes), ex.mul(*(f for f in factors if f not in gone and f not in equal))


# ---------------------------------------------------------------- the indices of both runs


def primed(axes: tuple[Axis, ...]) -> Index:
    """The indices of the second run."""
    return tuple(Sym(f"{a.index}'") for a in axes)


def run(index: Index, axes: tuple[Axis, ...], prime: bool) -> Index:
    """Index expressions over `axes`, in the indices of a run."""
    if not prime:
        return index
    names: dict[str, Expr] = {a.index: Sym(f"{a.index}'") for a in axes}
    return tuple(ex.substitute(e, names) for e in index)


def extents(axes: tuple[Axis, ...]) -> Index:
    """The extents of axes."""
    return tuple(a.extent for a in axes)
