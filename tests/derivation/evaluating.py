"""An evaluator of printed derivations: what a reader would compute from the equations on the page, slowly.

Indices become numbers, references are followed to the equation that defines them, expectations go to the symbolic
stage.  Whatever lies outside its family is zero.
"""

from __future__ import annotations

import numpy as np

from tensorprog.derivation import notation as nt
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Num, Sym
from tensorprog.symbolic.expectation import Moments, Request, plan


class Reader:
    """Evaluates blocks for two examples: `data[name]` are pairs of arrays, `env` sizes and parameters."""

    def __init__(self, blocks, data, env, extents):
        self.data, self.env, self.extents = data, env, extents
        self.known, self.rules = {}, {}
        for block in blocks:
            for e in block.equations if isinstance(block, nt.Recursion) else (block,):
                recursion = block if isinstance(block, nt.Recursion) else None
                self.rules.setdefault(_names(e.left), []).append((e, recursion))

    # ------------------------------------------------------------ nodes

    def value(self, node, env=None, runs=(0, 1)):
        """The value of a node; `runs` are the examples that the first and the second run stand for."""
        env = self.env if env is None else env
        match node:
            case nt.Scalar(expr=e):
                return float(ex.evaluate(e, env))
            case nt.Condition(left=a, right=b):
                return float(ex.evaluate(a, env) == ex.evaluate(b, env))
            case nt.Within(index=a, extent=b):
                return float(0 <= ex.evaluate(a, env) < ex.evaluate(b, env))
            case nt.Add(terms=terms):
                return sum(self.value(t, env, runs) for t in terms)
            case nt.Product(factors=factors):
                result = 1.0
                for f in sorted(factors, key=lambda f: not isinstance(f, nt.Condition | nt.Within)):
                    result = result * self.value(f, env, runs) if result else 0.0
                return result
            case nt.Sum(ranges=ranges, body=body):
                return sum(self.value(body, e, runs) for e in _grid(ranges, env))
            case nt.Largest(ranges=ranges, body=body):
                return max(self.value(body, e, runs) for e in _grid(ranges, env))
            case nt.Gram(left=a, right=b):
                return float(np.dot(self._data(a, env, runs), self._data(b, env, runs)))
            case nt.Function(body=body, args=args):
                inner = {s: self.value(n, env, runs) for s, n in args}
                return float(ex.evaluate(body, {**env, **inner}))
            case nt.Expectation():
                return self._expectation(node, env, runs)
            case nt.Element() if node.name in self.data:
                return float(self._data(node, env, runs))
            case nt.Kernel():
                return self.value(self.rules["kernel", node.name][0][0].right, env, runs)
            case nt.Moment() | nt.Mean() | nt.Element():
                return self._reference(node, env, runs)
        raise AssertionError(node)

    def _data(self, e, env, runs):
        array = self.data[e.name][runs[e.prime]]
        index = tuple(int(ex.evaluate(i, env)) for i in e.index)
        if any(not 0 <= i < n for i, n in zip(index, array.shape, strict=False)):
            return np.zeros(array.shape[len(index) :])
        return array[index]

    # ------------------------------------------------------------ references

    def _reference(self, node, env, runs):
        elements = _elements(node)
        places = tuple(tuple(int(ex.evaluate(i, env)) for i in e.index) for e in elements)
        levels = tuple(None if e.level is None else int(ex.evaluate(e.level, env)) for e in elements)
        for e, level, place in zip(elements, levels, places, strict=True):
            extents = self.extents[e.name, level]
            if any(not 0 <= i < int(ex.evaluate(n, env)) for i, n in zip(place, extents, strict=True)):
                return 0.0
        at = tuple(runs[e.prime] for e in elements)
        key = (_names(node), places, levels, at)
        if key not in self.known:
            self.known[key] = None
            self.known[key] = self._define(node, places, levels, at)
        assert self.known[key] is not None, f"circle at {key}"
        return self.known[key]

    def _define(self, node, places, levels, at):
        found = [
            (rule, values)
            for rule, block in self.rules[_names(node)]
            if (values := _unify(_elements(rule.left), levels, block)) is not None
        ]
        assert len(found) == 1, (node, levels, len(found))
        rule, env = found[0][0], {**self.env, **found[0][1]}
        for e, place in zip(_elements(rule.left), places, strict=True):
            env |= {i.name: v for i, v in zip(e.index, place, strict=True)}
        return self.value(rule.right, env, at if len(at) == 2 else (at[0], at[0]))

    # ------------------------------------------------------------ expectations

    def _expectation(self, node, env, runs):
        names, sides = {}, {False: [], True: []}
        bodies = {False: ex.ONE, True: ex.ONE}
        for f in node.factors:
            f = f if isinstance(f, nt.Function) else nt.Function(Sym("u"), (("u", f),))
            values, prime = {}, False
            for s, n in f.args:
                if isinstance(n, nt.Element) and self._is_random(n):
                    prime, at = n.prime, (n, tuple(int(ex.evaluate(i, env)) for i in n.index))
                    if at not in names:
                        names[at] = f"{'r' if prime else 'l'}{len(sides[prime])}"
                        sides[prime].append(n)
                    values[s] = Sym(names[at])
                else:
                    values[s] = Num(self.value(n, env, runs))
            values |= {s: Num(float(v)) for s, v in env.items() if s in ex.symbols(f.body) and s not in values}
            bodies[prime] = ex.mul(bodies[prime], ex.substitute(f.body, values))
        request = Request(bodies[False], tuple(f"l{k}" for k in range(len(sides[False]))),
                          bodies[True], tuple(f"r{k}" for k in range(len(sides[True]))))
        mean = {p: np.array([self._mean(u, env, runs) for u in us]) for p, us in sides.items()}

        def cov(p, q):
            second = [[self._second(u, v, env, runs) for v in sides[q]] for u in sides[p]]
            return np.array(second).reshape(len(sides[p]), len(sides[q])) - np.multiply.outer(mean[p], mean[q])

        served = plan(request)
        assert served is not None, request
        moments = Moments(mean[False], cov(False, False), mean[True], cov(True, True), cov(False, True))
        return float(served.evaluate(moments, {})[0])

    def _is_random(self, e):
        return ("moment", e.name, e.name) in self.rules or ("moment", e.name) in self.rules

    def _mean(self, u, env, runs):
        return self._reference(nt.Mean(u), env, runs) if ("mean", u.name) in self.rules else 0.0

    def _second(self, u, v, env, runs):
        node = nt.Moment(u, v)
        return self._reference(node, env, runs) if _names(node) in self.rules else 0.0


def _names(node):
    match node:
        case nt.Moment(left=u, right=v):
            return ("moment", u.name, v.name)
        case nt.Mean(element=u):
            return ("mean", u.name)
        case nt.Element(name=name):
            return ("scalar", name)
        case nt.Kernel(name=name):
            return ("kernel", name)


def _elements(node):
    match node:
        case nt.Moment(left=u, right=v):
            return (u, v)
        case nt.Mean(element=u):
            return (u,)
        case nt.Element():
            return (node,)
    return ()


def _unify(elements, levels, block):
    """The value of the recursion's index at which the left side has these levels; None where it has not."""
    values = {}
    for e, level in zip(elements, levels, strict=True):
        if level is None or e.level is None:
            if level is not e.level:
                return None
        elif block is None:
            if int(ex.evaluate(e.level, {})) != level:
                return None
        else:
            offset = ex.sub(e.level, Sym(block.index))
            if ex.symbols(offset):  # not a level of this recursion
                return None
            k = level - int(ex.evaluate(offset, {}))
            low, high = sorted((block.first, block.last))
            if not low <= k <= high or values.get(block.index, k) != k:
                return None
            values[block.index] = k
    return values


def _grid(ranges, env):
    if not ranges:
        yield env
        return
    r = ranges[0]
    for k in range(int(ex.evaluate(r.low, env)), int(ex.evaluate(r.high, env)) + 1):
        yield from _grid(ranges[1:], {**env, r.index: k})
