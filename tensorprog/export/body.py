"""Definitions of the IR as lines of Python, the same for NumPy and PyTorch; see `library.py` for the helpers.

Families are arrays [N, axes..., dim], scalars [N, axes...].  Indices of the axes are arrays on an open grid, so that an
index map is an expression in them, read(h, i + p - 1, j + q - 1); what is summed over are loops of Python.  Families
that refer to each other in a circle are computed index by index in one loop, as dicts of states.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

from tensorprog.export.names import Names
from tensorprog.export.whole import whole
from tensorprog.export.writing import conjunction, index_text, number_text
from tensorprog.ir.expr import ONE, ZERO, Expr, Op, Sym, add, mul, neg, rebuild, substitute, symbols
from tensorprog.ir.program import (
    Axis,
    Data,
    Inner,
    Instr,
    Linear,
    Map,
    MatMul,
    MaxOver,
    Pointwise,
    Program,
    Read,
    Term,
    Var,
)


@final
@dataclass(frozen=True, slots=True)
class Loop:
    """The loop in which families are computed: its index, which axis of each family it runs over, and where it is.

    `at[family]` is the index of that axis in the index of the loop.  `aligned`: these axes have one extent, so that
    what is read there has been computed.
    """

    index: str
    positions: Mapping[str, int]
    at: Mapping[str, Expr]
    aligned: bool


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """One summand: loops around it, and its value; `whole` if that has all axes and the dimension."""

    loops: tuple[Axis, ...]
    value: str
    whole: bool


@final
@dataclass(frozen=True, slots=True)
class Writer:
    """Writes definitions of `program`, within `loop` if there is one."""

    program: Program
    names: Names
    loop: Loop | None = None

    def lines(self, instr: Instr) -> list[str]:
        """The lines that define a family, or its element at the index of the loop; without `grid_line`."""
        match instr.op:
            case Data():
                return []
            case MatMul():
                return self._sum(instr.var, [self._product(instr.var, instr.op)])
            case Linear(terms=terms):
                return self._sum(instr.var, [self._term(instr.var, t) for t in terms if t.coef != ZERO])
            case Pointwise(fn=fn, args=args):
                return self._set(instr.var, self._function(instr.var, fn, args))
            case MaxOver(operand=h, over=over):
                return self._set(instr.var, Piece((), self._largest(instr.var, h, over), True))
            case Inner():
                return self._set(instr.var, self._inner(instr.var, instr.op))

    def grid_line(self, var: Var, lines: Sequence[str]) -> str | None:
        """`i, j = grid(H, W)` if the lines have these indices."""
        axes = self.grid(var)
        indices = [self._index(a.index) for a in axes]
        text = "\n".join(lines)
        if not any(re.search(rf"\b{name}\b", text) for name in indices):
            return None
        extents = ", ".join(self.number(a.extent) for a in axes)
        return f"{', '.join(indices)}{',' * (len(indices) == 1)} = grid({extents})"

    # ------------------------------------------------------------ assignments

    def _set(self, var: Var, piece: Piece) -> list[str]:
        value = _bare(piece.value) if piece.whole else f"spread({piece.value}, {self._shape(var)})"
        return [f"{self._target(var)} = {value}"]

    def _sum(self, var: Var, pieces: list[Piece]) -> list[str]:
        plain = [p for p in pieces if not p.loops]
        value = " + ".join(p.value for p in plain).replace(" + -1 * ", " - ")
        start = Piece((), value or f"zeros(w, {self._shape(var)})", any(p.whole for p in plain) or not value)
        lines = self._set(var, start)
        for piece in (p for p in pieces if p.loops):
            for depth, axis in enumerate(piece.loops):
                lines.append(f"{'    ' * depth}for {self._index(axis.index)} in range({self.number(axis.extent)}):")
            target = self._target(var)
            lines.append(f"{'    ' * len(piece.loops)}{target} = {target} + {piece.value}")
        return lines

    def _target(self, var: Var) -> str:
        name = self.names.families[var.name]
        return name if self.loop is None else f"{name}[{self.number(self.loop.at[var.name])}]"

    def _shape(self, var: Var) -> str:
        extents = [a.extent for a in self.grid(var)] + ([] if var.dim is None else [var.dim.size])
        return ", ".join(["N", *map(self.number, extents)])

    def grid(self, var: Var) -> tuple[Axis, ...]:
        """The axes that arrays have: all but that of the loop."""
        at = None if self.loop is None else self.loop.positions.get(var.name)
        return tuple(a for k, a in enumerate(var.axes) if k != at)

    def own(self, var: Var) -> dict[str, Expr]:
        """The index of the family's axis in that of the loop."""
        if self.loop is None or var.name not in self.loop.positions:
            return {}
        return {var.axes[self.loop.positions[var.name]].index: self.loop.at[var.name]}

    # ------------------------------------------------------------ sums and products

    def _product(self, var: Var, op: MatMul) -> Piece:
        solved = solve(op.map, var, self.own(var))
        at = tuple(substitute(e, solved.values) for e in op.windex)
        weight = self.names.weights[op.weight]
        place = f"[{', '.join(map(self.number, at))}]" if at else ""
        matrix = f'w["{weight}"]{place}'
        several = self._uses_grid(at, var)
        whole = False
        if op.operand is None:
            value = f"spread({matrix}, {self._shape(var)})"
            whole = True
        else:
            vectors, whole = self._read(var, Read(op.operand, tuple(substitute(e, solved.values)
                                                                    for e in op.map.source)))
            turned = matrix if op.transposed else f"{matrix}.swapaxes(-1, -2)" if several else f"{matrix}.T"
            value = f"({vectors}[..., None, :] @ {turned})[..., 0, :]" if several else f"{vectors} @ {turned}"
        value, whole = self._times(value, whole, substitute(op.coef, solved.values), (), var)
        return self._where(var, solved, value, whole, self._covered(op.operand, op.map, solved))

    def _term(self, var: Var, term: Term) -> Piece:
        solved = solve(term.map, var, self.own(var))
        scalars = tuple(Read(s.var, tuple(substitute(e, solved.values) for e in s.index)) for s in term.scalars)
        value, whole = "", False
        if term.operand is not None:
            read = Read(term.operand, tuple(substitute(e, solved.values) for e in term.map.source))
            summed = None if scalars or symbols(term.coef) & {a.index for a in solved.free} else self._total(
                var, read, solved.free)
            if summed is not None:
                solved = replace(solved, free=())
            value, whole = summed or self._read(var, read)
        value, whole = self._times(value, whole, substitute(term.coef, solved.values), scalars, var)
        return self._where(var, solved, value, whole, self._covered(term.operand, term.map, solved))

    def _total(self, var: Var, read: Read, free: tuple[Axis, ...]) -> tuple[str, bool] | None:
        """The sum over whole axes of a family, which needs no loop; None where it is not one."""
        axes, summed = self.grid(self.program.var(read.var)), {a.index: a.extent for a in free}
        base, index = self._base(read.var, read.index)
        at = [k for k, e in enumerate(index) if isinstance(e, Sym) and summed.get(e.name) == axes[k].extent]
        kept = [(e, axes[k].extent) for k, e in enumerate(index) if k not in at]
        same = kept == [(Sym(a.index), a.extent) for a in self.grid(var)]
        if not free or len({index[k] for k in at}) < len(at) or len(at) != len(free) or not same:
            return None
        return f"{base}.sum(({', '.join(str(1 + k) for k in at)},))", True

    def _times(
        self, value: str, whole: bool, coef: Expr, scalars: Iterable[Read], var: Var
    ) -> tuple[str, bool]:
        """coef * scalars * value, where they are not one."""
        factors = [] if coef == ONE else [self._number(coef, var)]
        for s in scalars:
            text, full = self._read(var, s)
            factors.append(f"{text}[..., None]" if var.dim is not None else text)
            whole = whole or (full and var.dim is None)
        return " * ".join([*factors, *([value] if value else [])]) or "1", whole

    def _where(self, var: Var, solved: Solved, value: str, whole: bool, covered: frozenset[str]) -> Piece:
        """The value where its indices are inside the domain."""
        inside = [text for name, text in self._conditions(solved) if name not in covered]
        if inside:
            condition = conjunction(inside)
            grid = self._uses_grid([e for _, e, _ in solved.bounds] + [e for pair in solved.equal for e in pair], var)
            if grid and var.dim is not None:
                condition = f"({condition})[..., None]"
            value = f"only({condition}, {value if whole else f'spread({value}, {self._shape(var)})'})"
            whole = True
        return Piece(solved.free, value, whole)

    def _conditions(self, solved: Solved) -> list[tuple[str, str]]:
        found = [(name, f"({self.number(e)} >= 0)") for name, e, _ in solved.bounds]
        found += [(name, f"({self.number(e)} < {self.number(extent)})") for name, e, extent in solved.bounds]
        return found + [("", f"({self.number(a)} == {self.number(b)})") for a, b in solved.equal]

    def _covered(self, operand: str | None, map_: Map, solved: Solved) -> frozenset[str]:
        """Indices whose range need not be checked: outside of it the operand is read outside, and is zero."""
        if operand is None:
            return frozenset()
        axes = self.program.var(operand).axes
        return frozenset(e.name for e, axis in zip(map_.source, axes, strict=True) if isinstance(e, Sym)
                         for a in map_.domain if a.index == e.name and a.extent == axis.extent)

    # ------------------------------------------------------------ other operations

    def _function(self, var: Var, fn: Expr, args: tuple[Read, ...]) -> Piece:
        texts: dict[str, str] = {}
        whole = False
        for k, arg in enumerate(args):
            text, full = self._read(var, Read(arg.var, tuple(substitute(e, self.own(var)) for e in arg.index)))
            vector = self.program.var(arg.var).dim is not None
            texts[f"a{k}"] = text if vector or var.dim is None else f"{text}[..., None]"
            whole = whole or (full and f"a{k}" in symbols(fn) and vector == (var.dim is not None))
        return Piece((), self._number(substitute(fn, self.own(var)), var, texts), whole)

    def _inner(self, var: Var, op: Inner) -> Piece:
        own = self.own(var)
        texts = []
        whole = False
        for read in (op.left, op.right):
            if read is not None:
                index = tuple(substitute(e, own) for e in read.index)
                text, full = self._read(var, Read(read.var, index))
                texts.append(text)
                whole = whole or full
        value = f"inner({', '.join(texts)})" if len(texts) > 1 else f"{texts[0]}.sum(-1)"
        coef = substitute(op.coef, own)
        return Piece((), value if coef == ONE else f"{self._number(coef, var)} * {value}", whole)

    def _largest(self, var: Var, operand: str, over: int) -> str:
        outer = len(self.grid(var))
        at = tuple(Sym(a.index) for a in self.program.var(operand).axes[:-over])
        base, _ = self._base(operand, tuple(substitute(e, self.own(var)) for e in at))
        axes = ", ".join(str(1 + outer + k) for k in range(over))
        return f"largest({base}, ({axes},))"

    # ------------------------------------------------------------ reading

    def _read(self, var: Var, read: Read) -> tuple[str, bool]:
        """A family at index expressions, with the axes of `var`; and whether it surely has all of them in full."""
        base, index = self._base(read.var, read.index)
        grid = self.grid(var)
        axes = self.grid(self.program.var(read.var))
        vector = self.program.var(read.var).dim is not None
        if index == tuple(Sym(a.index) for a in grid) and [a.extent for a in axes] == [a.extent for a in grid]:
            return base, True
        if index:
            base = f"read({base}, {', '.join(map(self.number, index))})"
        if grid and not self._uses_grid(index, var):
            base += f"[:, {', '.join(['None'] * len(grid))}]"
        if vector and var.dim is None:
            return base, self._spans(index, grid)
        return base, False

    def _spans(self, index: tuple[Expr, ...], grid: tuple[Axis, ...]) -> bool:
        used = {name for e in index for name in symbols(whole(e))}
        return all(a.index in used for a in grid)

    def _base(self, family: str, index: tuple[Expr, ...]) -> tuple[str, tuple[Expr, ...]]:
        """The array of a family, or of its element at the index of the loop, and the other indices."""
        name, var = self.names.families[family], self.program.var(family)
        if self.loop is None or family not in self.loop.positions:
            return name, index
        at = self.loop.positions[family]
        rest = index[:at] + index[at + 1 :]
        if index[at] == self.loop.at[family] and self.loop.aligned:
            return f"{name}[{self.number(index[at])}]", rest
        return f"{name}.get({self.number(index[at])}, zeros(w, {self._shape(var)}))", rest

    def _uses_grid(self, expressions: Iterable[Expr], var: Var) -> bool:
        names = {a.index for a in self.grid(var)}
        return any(symbols(whole(e)) & names for e in expressions)

    # ------------------------------------------------------------ text

    def _index(self, name: str) -> str:
        return self.names.plain[name]

    def number(self, e: Expr) -> str:
        """An extent or an index as text."""
        return index_text(e, self.names.plain)

    def _number(self, e: Expr, var: Var, texts: Mapping[str, str] | None = None) -> str:
        """A number, or an array of numbers where indices of axes are in it; `texts` are arguments of a function."""
        own = dict(texts or {})
        for axis in self.grid(var):
            if axis.index in symbols(e):
                text = f"real(w, {self._index(axis.index)})"
                own[axis.index] = text if var.dim is None else f"{text}[..., None]"
        return number_text(e, {**self.names.plain, **own})


def _bare(text: str) -> str:
    """Without parentheses around all of it."""
    depth = 0
    for k, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and k < len(text) - 1:
            return text
    return text[1:-1] if text.startswith("(") else text


# ---------------------------------------------------------------- index maps


@final
@dataclass(frozen=True, slots=True)
class Solved:
    """A map by its target: the domain's indices in those of the target, or free.

    `bounds` (index, expression, extent): 0 <= expression < extent must hold; so must the equations `equal`.
    """

    values: Mapping[str, Expr]
    free: tuple[Axis, ...]
    bounds: tuple[tuple[str, Expr, Expr], ...]
    equal: tuple[tuple[Expr, Expr], ...]


def solve(map_: Map, var: Var, own: Mapping[str, Expr]) -> Solved:
    """Solves target = element for indices that stand alone in it (up to a constant); others are summed over."""
    values: dict[str, Expr] = {}
    bounds: list[tuple[str, Expr, Expr]] = []
    equations: list[tuple[Expr, Expr]] = []
    extents = {a.index: a.extent for a in map_.domain}
    for axis, target in zip(var.axes, map_.target, strict=True):
        here = own.get(axis.index, Sym(axis.index))
        name = _alone(target, extents.keys() - values.keys())
        if name is None:
            equations.append((target, here))
            continue
        rest = substitute(target, {name: ZERO})
        values[name] = less(here, rest) if less(target, rest) == Sym(name) else less(rest, here)
        if values[name] != here or extents[name] != axis.extent:
            bounds.append((name, values[name], extents[name]))
    free = tuple(a for a in map_.domain if a.index not in values)
    equal = tuple((substitute(a, values), b) for a, b in equations)
    return Solved(values, free, tuple(bounds), equal)


def _alone(target: Expr, names: Iterable[str]) -> str | None:
    """The index i of a target that is i or -i and something without indices."""
    unknown = set(names)
    for name in sorted(symbols(target) & unknown):
        rest = substitute(target, {name: ZERO})
        if less(target, rest) in (Sym(name), neg(Sym(name))) and not symbols(rest) & unknown:
            return name
    return None


def less(a: Expr, b: Expr) -> Expr:
    """a - b, multiplied out."""
    return _expanded(add(a, neg(b)))


def _expanded(e: Expr) -> Expr:
    """Products of sums as sums of products."""
    if not isinstance(e, Op):
        return e
    args = tuple(_expanded(a) for a in e.args)
    if e.fn != "mul":
        return rebuild(e.fn, args)
    terms: list[Expr] = [ONE]
    for factor in args:
        parts = factor.args if isinstance(factor, Op) and factor.fn == "add" else (factor,)
        terms = [mul(t, p) for t in terms for p in parts]
    return add(*terms)
