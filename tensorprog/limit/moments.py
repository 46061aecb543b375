"""The equations of the moments: how E[Z^u Z^v'] of two families is made of other moments.

    u or v a sum            bilinear in its terms                                          (Expand)
    u, v the same matrix    gain * sum over taps with equal weight of E[h h']              (Shared)
    otherwise               products of expectations of independent groups of variables    (Product)

A group is a moment of two families again, a mean, or an expectation over jointly Gaussian variables, which
the symbolic stage serves.  Nonlinearities of non-Gaussian variables are opened (inlined) until their
arguments are Gaussian; where that leads through a loop, over too many variables or through a maximum, the
moment is `Unservable` and left to sampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, Expr, Op, Sym
from tensorprog.ir.functions import FUNCTIONS
from tensorprog.ir.program import Axis, Instr, Linear, MatMul, Pointwise, Program, Read, Term, identity, operands
from tensorprog.ir.schedule import components
from tensorprog.limit.analyse import Limit
from tensorprog.limit.forms import (
    FormSide,
    NotHomogeneous,
    QuadraticForms,
    degree,
    form_power,
    has_free_axis,
    positive_factor,
    split_linear,
    squared,
)
from tensorprog.limit.parity import function_characters
from tensorprog.symbolic.expectation import Expectation, Request, plan, with_values
from tensorprog.symbolic.forms import mixture

MAX_TERMS = 400
SUM_INSIDE = "a sum over an axis stands inside a nonlinearity"
MAX_KINKED = 4
"""Variables of a function with kinks beyond which no quadrature is looked for."""


class Unservable(Exception):
    """A moment that has neither a closed form nor a quadrature; the text says why."""


@final
@dataclass(frozen=True, slots=True)
class Side:
    """A function of elements of families on one run: `fn` over symbols that `reads` explains.

    Index expressions are in the indices of `axes`; other symbols of `fn` are such indices or sizes.  Axes behind those
    of the family that is opened are summed over.
    `opened` are the families that were opened on the way.
    """

    axes: tuple[Axis, ...]
    fn: Expr
    reads: Mapping[str, Read]
    opened: frozenset[str] = frozenset()


@final
@dataclass(frozen=True, slots=True)
class MomentOf:
    """E[Z^left Z^right'] as a moment of its own."""

    left: Read
    right: Read


@final
@dataclass(frozen=True, slots=True)
class MeanOf:
    """E[Z] of an element on one side ("left" or "right")."""

    side: str
    read: Read


@final
@dataclass(frozen=True, slots=True)
class Gaussian:
    """An expectation over jointly Gaussian elements; parameters are scalars or index expressions."""

    expectation: Expectation
    left: tuple[Read, ...]
    right: tuple[Read, ...]
    params: tuple[tuple[str, str, Read | Expr], ...]  # (symbol, side, what)


Group = MomentOf | MeanOf | Gaussian | QuadraticForms


@final
@dataclass(frozen=True, slots=True)
class Product:
    """factor (left) * factor (right) * the expectations of independent groups.

    The factors are expressions in scalars (`params`) and indices.
    """

    left: Side
    right: Side
    groups: tuple[Group, ...]


class Moments:
    """Derives the equations of one limit; results are kept."""

    def __init__(self, limit: Limit, prefer: str | None = None) -> None:
        self.limit, self.prefer = limit, prefer
        self.program: Program = limit.program
        self.groups_of = _groups(limit)
        self.recurrent = _recurrent(limit.program)
        self.cache: dict[tuple[str, str | None], tuple[Product, ...]] = {}
        self.forms: dict[str, tuple[Read, ...] | None] = {}
        self.numbered: list[QuadraticForms] = []

    def vanishes(self, *names: str) -> bool:
        """Whether E of the product is zero by symmetry, or a factor is zero."""
        orders = [self.limit.orders.of[n] for n in names]
        if any(o.power is None for o in orders):
            return True
        characters = orders[0].characters
        for o in orders[1:]:
            characters = characters.times(o.characters)
        return not characters.has_mean

    def product(self, left: str, right: str | None) -> tuple[Product, ...]:
        """E[Z^left Z^right'] (or E[Z^left]) as a sum of products.  Raises Unservable."""
        key = (left, right)
        if key not in self.cache:
            one = Side((), ONE, {})
            other = one if right is None else self._whole(right, "r")
            self.cache[key] = self.expectation(self._whole(left, "l"), other)
        return self.cache[key]

    def _whole(self, name: str, prefix: str) -> Side:
        axes = self.program.var(name).axes
        return self._open_atom(Side(axes, Sym(f"{prefix}0"), {f"{prefix}0": Read(name, identity(axes))}), f"{prefix}0")

    def inner(self, name: str, prefix: str) -> Side:
        """The product of the two vectors of an inner product, as a function on one run."""
        instr = self.program.instr(name)
        reads = {f"{prefix}{k}": r for k, r in enumerate((instr.op.left, instr.op.right)) if r is not None}  # type: ignore[union-attr]
        return Side(instr.var.axes, ex.mul(*(Sym(s) for s in reads)), reads)

    # ------------------------------------------------------------ the expectation of a product

    def expectation(self, left: Side, right: Side) -> tuple[Product, ...]:
        """E[left right] as a sum of products over independent groups.  Raises Unservable."""
        found: list[Product] = []
        waiting = [(left, right)]
        while waiting:
            a, b = waiting.pop()
            pairs = [(x, y) for x in self._terms(a) for y in self._terms(b)]
            if len(found) + len(waiting) + len(pairs) > MAX_TERMS:
                raise Unservable("it expands to too many terms")
            if len(pairs) > 1:
                waiting.extend(pairs)
                continue
            for x, y in pairs:
                result = self._factorized(x, y)
                if isinstance(result, Product):
                    found.append(result)
                elif result is not None:
                    waiting.append(result)
        return tuple(found)

    def _terms(self, side: Side) -> list[Side]:
        """The side cut into its terms, where sums mix independent groups or unknown variables."""
        return [Side(side.axes, t, side.reads, side.opened) for t in self._expand(side.fn, side)]

    def _expand(self, fn: Expr, side: Side) -> list[Expr]:
        if isinstance(fn, Op) and fn.fn == "add" and self._mixed(fn, side):
            return [t for a in fn.args for t in self._expand(a, side)]
        if isinstance(fn, Op) and fn.fn == "mul":
            options: list[list[Expr]] = [self._expand(a, side) for a in fn.args]
            products: list[Expr] = [ONE]
            for option in options:
                products = [ex.mul(p, o) for p in products for o in option]
                if len(products) > MAX_TERMS:
                    raise Unservable("it expands to too many terms")
            return products
        if isinstance(fn, Op) and fn.fn == "pow" and fn.args[1] == ex.num(2) and self._mixed(fn.args[0], side):
            parts = self._expand(fn.args[0], side)
            if len(parts) > 1:
                return [ex.mul(a, b) for a in parts for b in parts]
        return [fn]

    def _mixed(self, fn: Expr, side: Side) -> bool:
        """Whether a sum should be cut: its terms are not all functions of one and the same Gaussian."""
        atoms = [s for s in ex.symbols(fn) if self._is_vector(side.reads.get(s))]
        return len(atoms) > 1 or any(not self._is_gaussian(side.reads[s]) for s in atoms)

    def _is_vector(self, read: Read | None) -> bool:
        return read is not None and self.program.var(read.var).dim is not None

    def _is_gaussian(self, read: Read) -> bool:
        return self.limit.roles[read.var] == "G-var"

    def _factorized(self, left: Side, right: Side) -> Product | tuple[Side, Side] | None:
        """One product of groups; None when it vanishes; or the sides with a variable opened."""
        factors = [("l", f) for f in _factors(left.fn)] + [("r", f) for f in _factors(right.fn)]
        sides = {"l": left, "r": right}
        plain = {s: [f for t, f in factors if t == s and not self._atoms(f, sides[s])] for s in "lr"}
        random = [(s, f) for s, f in factors if self._atoms(f, sides[s])]
        groups: list[Group] = []
        for members in self._independent(random, sides):
            if self._odd(members, sides):
                return None
            group = self._group(members, sides)
            if isinstance(group, tuple):
                return group
            groups.append(group)
        rest = {s: Side(x.axes, ex.mul(*plain[s]), x.reads) for s, x in sides.items()}
        return Product(rest["l"], rest["r"], tuple(groups))

    def _atoms(self, fn: Expr, side: Side) -> list[str]:
        return sorted(s for s in ex.symbols(fn) if self._is_vector(side.reads.get(s)))

    def _independent(self, factors: list[tuple[str, Expr]], sides: Mapping[str, Side]) -> list[list[tuple[str, Expr]]]:
        """Factors joined when they share a group of Gaussian variables."""
        classes: list[tuple[frozenset[str], list[tuple[str, Expr]]]] = []
        for s, f in factors:
            names = frozenset().union(*(self.groups_of[sides[s].reads[a].var] for a in self._atoms(f, sides[s])))
            joined = [(s, f)]
            rest = []
            for other, members in classes:
                if other & names:
                    names, joined = names | other, members + joined
                else:
                    rest.append((other, members))
            classes = [*rest, (names, joined)]
        return [members for _, members in classes]

    def _odd(self, members: list[tuple[str, Expr]], sides: Mapping[str, Side]) -> bool:
        of = self.limit.orders.of
        total = None
        for s, f in members:
            args = {a: of[sides[s].reads[a].var].characters for a in self._atoms(f, sides[s])}
            characters = function_characters(f, args)
            total = characters if total is None else total.times(characters)
        return total is not None and not total.has_mean

    def _group(
        self, members: list[tuple[str, Expr]], sides: Mapping[str, Side]
    ) -> Group | tuple[Side, Side]:
        fns = {s: ex.mul(*(f for t, f in members if t == s)) for s in "lr"}
        atoms = {s: self._atoms(fns[s], sides[s]) for s in "lr"}
        linear = all(isinstance(f, Sym) for _, f in members)
        if linear and len(members) == 2 and len(atoms["l"]) == len(atoms["r"]) == 1:
            return MomentOf(sides["l"].reads[atoms["l"][0]], sides["r"].reads[atoms["r"][0]])
        if linear and len(members) == 1:
            s, name = members[0][0], members[0][1].name  # type: ignore[union-attr]
            return MeanOf("left" if s == "l" else "right", sides[s].reads[name])
        for s in "lr":
            for a in atoms[s]:
                if not self._stays(sides[s].reads[a]):
                    opened = self._open_atom(sides[s], a)
                    return (opened, sides["r"]) if s == "l" else (sides["l"], opened)
        if any(not self._is_gaussian(sides[s].reads[a]) for s in "lr" for a in atoms[s]):
            return self._quadratic_forms(fns, atoms, sides)
        return self._gaussian(fns, atoms, sides)

    def _quadratic_forms(
        self, fns: Mapping[str, Expr], atoms: Mapping[str, list[str]], sides: Mapping[str, Side]
    ) -> QuadraticForms:
        """Functions of Gaussian elements times negative powers of quadratic forms."""
        if self.prefer == "closed":
            raise Unservable("negative powers of quadratic forms are integrated")
        try:
            parts = {s: self._form_side(fns[s], atoms[s], sides[s], s) for s in "lr"}
        except NotHomogeneous:
            raise Unservable(SUM_INSIDE) from None
        (left, f, shown), (right, g, other) = parts["l"], parts["r"]
        whole = Request(shown, tuple(ex.symbols(shown)), other, tuple(ex.symbols(other)))
        args = [tuple(f"{s}{k}" for k in range(len(x.args))) for s, x in (("l", left), ("r", right))]
        found = mixture(whole, f, args[0], g, args[1], len(left.linear) + len(right.linear))
        if found is None:
            raise Unservable(SUM_INSIDE)
        return QuadraticForms(found, left, right)

    def _form_side(self, fn: Expr, atoms: list[str], side: Side, s: str) -> tuple[FormSide, Expr, Expr]:
        """One run of such a group, its function in the names of its arguments, and the whole of it for reports."""
        forms = frozenset(a for a in atoms if not self._is_gaussian(side.reads[a]))
        positive, rest = positive_factor(fn, forms)
        if ex.symbols(rest) - (frozenset(atoms) - forms):
            raise NotHomogeneous
        number, power = form_power(positive, dict(side.reads))
        f, linear = split_linear(rest, [a for a in atoms if a not in forms])
        args = [a for a in atoms if a in ex.symbols(f)]
        names: dict[str, Expr] = {a: Sym(f"{s}{k}") for k, a in enumerate([*args, *linear, *sorted(forms)])}
        reads = [tuple(side.reads[a] for a in some) for some in (args, linear)]
        if any(not self.vanishes(r.var) for r in (*reads[0], *reads[1])):
            raise Unservable("a Gaussian variable beside a quadratic form has a mean")
        found = FormSide(side.axes, reads[0], reads[1], power, degree(rest))
        return found, ex.mul(ex.num(number), ex.substitute(f, names)), ex.substitute(fn, names)

    def _stays(self, read: Read) -> bool:
        """Whether a variable is an argument of expectations: Gaussian, or a quadratic form over an axis."""
        return self._is_gaussian(read) or self.form(read.var) is not None

    def form(self, name: str) -> tuple[Read, ...] | None:
        """The elements whose squares a form over an axis adds (see `squared`); None for other variables."""
        if name not in self.forms:
            free = has_free_axis(self.program, name)
            self.forms[name] = squared(self.program, name, self._is_centred_gaussian) if free else None
        return self.forms[name]

    def _is_centred_gaussian(self, name: str) -> bool:
        return self.limit.roles[name] == "G-var" and self.vanishes(name)

    def number(self, group: QuadraticForms) -> int:
        """The number of a group in `numbered`; equal groups have the same."""
        if group not in self.numbered:
            self.numbered.append(group)
        return self.numbered.index(group)

    def _gaussian(self, fns: Mapping[str, Expr], atoms: Mapping[str, list[str]], sides: Mapping[str, Side]) -> Gaussian:
        names: dict[str, dict[str, Expr]] = {"l": {}, "r": {}}
        params: list[tuple[str, str, Read | Expr]] = []
        for s in "lr":
            for k, a in enumerate(atoms[s]):
                names[s][a] = Sym(f"{s}{k}")
            for p in sorted(ex.symbols(fns[s]) - set(atoms[s])):
                names[s][p] = Sym(f"p{len(params)}")
                params.append((f"p{len(params)}", "left" if s == "l" else "right", sides[s].reads.get(p, Sym(p))))
        request = Request(
            ex.substitute(fns["l"], names["l"]),
            tuple(f"l{k}" for k in range(len(atoms["l"]))),
            ex.substitute(fns["r"], names["r"]),
            tuple(f"r{k}" for k in range(len(atoms["r"]))),
        )
        many = len(request.left_args) + len(request.right_args) > MAX_KINKED
        kinked = many and (_has_kinks(request.left) or _has_kinks(request.right))
        expectation = plan(request, self.prefer)
        if expectation is None or (kinked and expectation.tier != "closed"):
            raise Unservable(
                f"E[{ex.show(request.left)} * {ex.show(request.right)}] has no closed form and "
                f"{len(request.left_args) + len(request.right_args)} variables"
            )
        reads = {s: tuple(sides[s].reads[a] for a in atoms[s]) for s in "lr"}
        return Gaussian(expectation, reads["l"], reads["r"], tuple(params))

    def settled(self, request: Request, values: Mapping[str, Any]) -> Expectation:
        """The expectation of a request, with numbers in the place of parameters.  Raises Unservable."""
        known = ex.symbols(request.left) | ex.symbols(request.right)
        known -= {*request.left_args, *request.right_args}
        found = plan(with_values(request, {p: ex.num(values[p]) for p in known & values.keys()}), self.prefer)
        if found is None:
            raise Unservable(f"E[{ex.show(request.left)} * {ex.show(request.right)}] has no closed form")
        return found

    # ------------------------------------------------------------ opening definitions

    def _open_atom(self, side: Side, atom: str) -> Side:
        """The side with one variable replaced by its definition; Gaussian ones and data stay."""
        read = side.reads[atom]
        instr = self.program.instr(read.var)
        if isinstance(instr.op, MatMul) or self._stays(read):
            return side
        if read.var in side.opened & self.recurrent:
            raise Unservable(f"'{read.var}' is a nonlinear function of itself one step earlier")
        reads = dict(side.reads)
        del reads[atom]
        index = {a.index: e for a, e in zip(instr.var.axes, read.index, strict=True)}
        bound = list(side.axes)
        if isinstance(instr.op, Pointwise):
            fn = self._open_pointwise(instr.op, index, reads, atom)
        elif isinstance(instr.op, Linear):
            alone = len(instr.op.terms) == 1 and _is_factor(side.fn, atom)
            fn = ex.add(
                *(
                    self._open_term(t, instr.var.axes, index, reads, f"{atom}_{k}", bound if alone else None)
                    for k, t in enumerate(instr.op.terms)
                )
            )
        else:
            raise Unservable(f"'{read.var}' is a maximum over an axis")
        guard = _guard(instr.var.axes, read.index, side.axes)
        fn = ex.substitute(side.fn, {atom: ex.mul(guard, fn)})
        return Side(tuple(bound), fn, reads, side.opened | {read.var})

    def _open_pointwise(self, op: Pointwise, index: Mapping[str, Expr], reads: dict[str, Read], atom: str) -> Expr:
        names: dict[str, Expr] = dict(index)
        for k, a in enumerate(op.args):
            symbol = self._symbol(Read(a.var, tuple(ex.substitute(e, index) for e in a.index)), reads, f"{atom}.{k}")
            names[f"a{k}"] = Sym(symbol)
        return ex.substitute(op.fn, names)

    def _symbol(self, read: Read, reads: dict[str, Read], fresh: str) -> str:
        """The symbol of an element; the same element has the same symbol."""
        for symbol, known in reads.items():
            if known == read:
                return symbol
        reads[fresh] = read
        return fresh

    def _open_term(
        self,
        term: Term,
        axes: tuple[Axis, ...],
        index: Mapping[str, Expr],
        reads: dict[str, Read],
        atom: str,
        bound: list[Axis] | None,
    ) -> Expr:
        """The summand; axes of a sum go to those of the side, `bound`, where they may (see `Side`)."""
        solved: dict[str, Expr] = {}
        guards: list[Expr] = []
        for axis, target in zip(axes, term.map.target, strict=True):
            shift = _shift_of(target, term.map.domain)
            if shift is not None and shift[0] not in solved:
                solved[shift[0]] = ex.add(index[axis.index], ex.neg(shift[1]))
            else:
                guards.append(ex.call("eq", target, index[axis.index]))
        for a in term.map.domain:
            if a.index not in solved:
                if bound is None:
                    raise Unservable(SUM_INSIDE)
                solved[a.index] = Sym(f"{a.index}.{len(bound)}")
                bound.append(Axis(f"{a.index}.{len(bound)}", a.extent))
        for a in term.map.domain:
            guards.append(_inside(solved[a.index], a.extent))
        factors = [ex.substitute(g, solved) for g in guards] + [ex.substitute(term.coef, solved)]
        for k, s in enumerate(term.scalars):
            where = tuple(ex.substitute(e, solved) for e in s.index)
            factors.append(Sym(self._symbol(Read(s.var, where), reads, f"{atom}s{k}")))
        if term.operand is not None:
            where = tuple(ex.substitute(e, solved) for e in term.map.source)
            factors.append(Sym(self._symbol(Read(term.operand, where), reads, atom)))
        return ex.mul(*factors)


def _factors(fn: Expr) -> tuple[Expr, ...]:
    return fn.args if isinstance(fn, Op) and fn.fn == "mul" else (fn,)


def _is_factor(fn: Expr, atom: str) -> bool:
    """Whether an expression is linear in a symbol, one of its factors."""
    return [f for f in _factors(fn) if atom in ex.symbols(f)] == [Sym(atom)]


def _shift_of(target: Expr, domain: Iterable[Axis]) -> tuple[str, Expr] | None:
    """(index, shift) when the target is an index plus a number."""
    for a in domain:
        rest = ex.add(target, ex.neg(Sym(a.index)))
        if a.index not in ex.symbols(rest) and a.index in ex.symbols(target):
            return a.index, rest
    return None


def _inside(e: Expr, extent: Expr) -> Expr:
    """1 where an index lies in its axis; a plain index always does."""
    if isinstance(e, Sym):
        return ONE
    return ex.mul(ex.call("ge", e, ex.ZERO), ex.call("lt", e, extent))


def _guard(axes: tuple[Axis, ...], index: tuple[Expr, ...], own: tuple[Axis, ...]) -> Expr:
    """1 where an element that is read exists: reading outside a family is zero, whatever its definition."""
    known = {a.index: a.extent for a in own}
    parts = []
    for axis, e in zip(axes, index, strict=True):
        if not (isinstance(e, Sym) and known.get(e.name) == axis.extent):
            parts.append(ex.mul(ex.call("ge", e, ex.ZERO), ex.call("lt", e, axis.extent)))
    return ex.mul(*parts) if parts else ONE


def _has_kinks(fn: Expr) -> bool:
    """Whether a function that jumps or bends stands in the expression."""
    if not isinstance(fn, Op):
        return False
    return (fn.fn in FUNCTIONS and bool(FUNCTIONS[fn.fn].kinks)) or any(map(_has_kinks, fn.args))


def _groups(limit: Limit) -> dict[str, frozenset[str]]:
    """For every vector the independent families of Gaussian variables that it is a function of.

    Two products belong to one family when they share a matrix (used the same way) and their operands can be
    correlated; families are named after their first product.
    """
    program = limit.program
    family = _families(limit)
    reach: dict[str, frozenset[str]] = {i.var.name: frozenset() for i in program.instrs}
    changed = True
    while changed:
        changed = False
        for i in program.instrs:
            if isinstance(i.op, MatMul):
                new = frozenset([family[i.var.name]])
            elif i.var.dim is None:
                new = frozenset()
            else:
                new = reach[i.var.name].union(*(reach[o] for o in operands(i.op)), frozenset())
            if new != reach[i.var.name]:
                reach[i.var.name], changed = new, True
    return reach


def _recurrent(program: Program) -> frozenset[str]:
    """The vectors that are functions of themselves at other indices without a matrix product in between."""
    cut = [replace(i, op=Linear(())) if isinstance(i.op, MatMul) else i for i in program.instrs]
    loops = [g for g in components(cut) if len(g) > 1 or g[0].var.name in operands(g[0].op)]
    return frozenset(i.var.name for g in loops for i in g)


def _families(limit: Limit) -> dict[str, str]:
    """The family of every matrix product."""
    products = [i for i in limit.program.instrs if isinstance(i.op, MatMul)]
    family = {i.var.name: i.var.name for i in products}
    for k, a in enumerate(products):
        for b in products[:k]:
            if _correlated(a, b, limit):
                old, new = family[a.var.name], family[b.var.name]
                family = {n: new if f == old else f for n, f in family.items()}
    return family


def _correlated(a: Instr, b: Instr, limit: Limit) -> bool:
    """Whether two products share their matrix, and the mean product of their operands need not vanish."""
    assert isinstance(a.op, MatMul) and isinstance(b.op, MatMul)
    if (a.op.weight, a.op.transposed) != (b.op.weight, b.op.transposed):
        return False
    if a.op.operand is None or b.op.operand is None:
        return True
    of = limit.orders.of
    return of[a.op.operand].characters.times(of[b.op.operand].characters).has_mean
