"""The rule for expectations with powers of quadratic forms: one slot for every choice of elements of both runs.

The arguments of such a group and the elements of its form lie in a few Gaussian families, whose second moments are
asked for as a whole; `execute.py` then computes all slots at once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from tensorprog.ir import expr as ex
from tensorprog.ir.program import Linear, Read
from tensorprog.ir.tables import Ints, count, flat_index, grid
from tensorprog.limit.forms import FormPower, FormSide, QuadraticForms
from tensorprog.limit.moments import Side, Unservable
from tensorprog.symbolic.tilted import Form
from tensorprog.tape.asking import Asking
from tensorprog.tape.blocks import Ensemble, Forms, Key, Mix, Placed

MOST_ELEMENTS = 256


class FormRules(Asking):
    """Expands the keys of quadratic forms."""

    def _forms_slots(self, group: QuadraticForms, at: tuple[Ints, Ints]) -> tuple[Key, Ints]:
        """The slots of a group for elements `at` of the axes of its sides."""
        numbers, sizes = [], []
        for s, side in enumerate((group.left, group.right)):
            whole = np.arange(count(side.axes, self.sizes[s]))
            fewer = len(whole) < len(at[s])  # each element once
            numbers.append(self._choices(side, whole, s)[at[s]] if fewer else self._choices(side, at[s], s))
            sizes.append(int(np.prod(self._form_shape(side, s))))
        return self.ask(("forms", str(self.moments.number(group))), numbers[0], numbers[1], sizes[0], sizes[1])

    def _choices(self, side: FormSide, at: Ints, s: int) -> Ints:
        """The elements that all reads of a side name, as one number; -1 where one is outside."""
        flat, inside = np.zeros(len(at), dtype=np.int64), np.ones(len(at), dtype=bool)
        for size, read in zip(self._form_shape(side, s), reads_of(side), strict=True):
            part = self._elements(read, Side(side.axes, ex.ONE, {}), at, s)
            flat = flat * size + part
            inside &= part >= 0
        return np.where(inside, flat, -1)

    def _form_shape(self, side: FormSide, s: int) -> tuple[int, ...]:
        return tuple(self._count(r.var, s) for r in reads_of(side))

    def _expand_forms(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        if key not in self.ensembles:
            self.ensembles[key] = self._ensemble(self.moments.numbered[int(key[1])])
        first = np.zeros(len(own), dtype=np.int64)
        ready = self.ask(("ready", *key), first, first, 1, 1)
        self.add(Forms(key, own, li, rj, ready, self.ensembles[key]))

    def _expand_ready(self, key: Key, own: Ints, li: Ints, rj: Ints) -> None:
        """Nothing is added, when all moments of the elements are there."""
        for line in self.ensembles[key[1:]].blocks:
            for where, dep, slots in line:
                out = np.broadcast_to(own[:1], len(slots))
                self.add(Mix(key, out, where, dep, slots, np.zeros(len(slots)), ()))

    def _ensemble(self, group: QuadraticForms) -> Ensemble:
        sides = (group.left, group.right)
        families = [(s, name) for s in (0, 1) for name in self._families(sides[s])]
        sizes = [self._count(name, s) for s, name in families]
        if sum(sizes) > MOST_ELEMENTS:
            raise Unservable(f"a quadratic form has {sum(sizes)} elements")
        start = dict(zip(families, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
        blocks = tuple(tuple(self._block(u, v) for v in families) for u in families)
        args = [(s, r) for s in (0, 1) for r in sides[s].args] + [(s, r) for s in (0, 1) for r in sides[s].linear]
        places = tuple(start[s, r.var] + np.arange(self._count(r.var, s)) for s, r in args)
        forms = tuple(self._forms(x, s, start, sum(sizes)) for s, x in enumerate(sides))
        a, b = ((len(x.args), len(x.linear)) for x in sides)
        left, right = range(sum(a)), range(sum(a), sum(a) + sum(b))
        order = (*left[: a[0]], *right[: b[0]], *left[a[0] :], *right[b[0] :])
        shapes = tuple(self._form_shape(x, s) if x.power else (1, *self._form_shape(x, s)) for s, x in enumerate(sides))
        law = self.laws.setdefault(_law(sizes, blocks, forms), len(self.laws))
        return Ensemble(
            group.expectation, tuple(sizes), blocks, places, order, (shapes[0], shapes[1]), (forms[0], forms[1]), law
        )

    def _families(self, side: FormSide) -> list[str]:
        """The Gaussian families of one run."""
        squares = () if side.power is None else self._squares(side.power)
        return list(dict.fromkeys(r.var for r in (*squares, *side.args, *side.linear)))

    def _squares(self, power: FormPower) -> tuple[Read, ...]:
        found = self.moments.form(power.form.var)
        assert found is not None
        return found

    def _block(self, u: tuple[int, str], v: tuple[int, str]) -> Placed:
        """The second moments of all elements of two families."""
        shape = self._count(u[1], u[0]), self._count(v[1], v[0])
        i, j = (x.ravel() for x in np.indices(shape))
        if u[0] == v[0]:
            return ("left", "right")[u[0]], *self.selves[u[0]].moment(u[1], v[1], i, j)
        return ("own", *(self.moment(u[1], v[1], i, j) if u[0] == 0 else self.moment(v[1], u[1], j, i)))

    def _forms(self, side: FormSide, s: int, start: dict[tuple[int, str], int], size: int) -> tuple[Form, ...]:
        """The form of a run at each of its elements."""
        if side.power is None:
            return ()
        instr = self.program.instr(side.power.form.var)
        assert isinstance(instr.op, Linear)
        sizes = self.sizes[s]
        weights = np.zeros((max(1, count(instr.var.axes, sizes)), size))
        for term, read in zip(instr.op.terms, self._squares(side.power), strict=True):
            domain, length = term.map.domain, count(term.map.domain, sizes)
            env = {**sizes, **grid(domain, sizes)}
            element = flat_index(read.index, self.program.var(read.var).axes, env, sizes, length)
            target = flat_index(term.map.target, instr.var.axes, env, sizes, length)
            coef = np.asarray(ex.evaluate(term.coef, env), dtype=np.float64)
            inside = (target >= 0) & (element >= 0)
            places = target[inside], start[s, read.var] + element[inside]
            np.add.at(weights, places, side.power.scale * np.broadcast_to(coef, len(target))[inside])
        if (weights < 0).any():
            raise Unservable("a quadratic form has a negative coefficient")
        variables = (*side.args, *side.linear)
        own = all((weights[:, start[s, r.var] :][:, : self._count(r.var, s)] > 0).all() for r in variables)
        lost = 2 * side.power.power - (side.degree if own else 0)
        return tuple(Form(side.power.power, w, side.power.constant, lost) for w in weights)


def reads_of(side: FormSide) -> tuple[Read, ...]:
    """The elements that a slot stands for."""
    return (*(() if side.power is None else (side.power.form,)), *side.args, *side.linear)


def _law(sizes: Sequence[int], blocks: Sequence[Sequence[Placed]], forms: Sequence[Sequence[Form]]) -> Hashable:
    """What is equal for ensembles of the same moments and forms."""
    moments = tuple((where, key, slots.tobytes()) for line in blocks for where, key, slots in line)
    return tuple(sizes), moments, tuple(tuple((f.weights.tobytes(), f.constant) for f in side) for side in forms)
