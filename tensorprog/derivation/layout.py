"""Formulas to marks: one walk over the notation, which asks a style how each thing looks.

A style is a table of small pieces (a fraction, a root, a sum, ...); `text`, `latex` and `mathml` are the three there
are.  The walk knows precedence: parentheses stand where they are needed, whatever the style.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from tensorprog.derivation.digits import is_negative, positive, recognized, split
from tensorprog.derivation.known import known_function
from tensorprog.derivation.notation import (
    Add,
    Applied,
    Condition,
    Element,
    Expectation,
    Function,
    Gram,
    Integral,
    Kernel,
    Largest,
    Mean,
    Moment,
    Node,
    Product,
    Range,
    Scalar,
    Sum,
    Within,
)
from tensorprog.derivation.style import Style
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Num, Op, Sym

SUM, PRODUCT, POWER, ATOM = 0, 1, 2, 3
Names = Mapping[str, Node]
RELATIONS = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


class Writer:
    """Writes nodes in a style."""

    def __init__(self, style: Style) -> None:
        self.style = style

    def node(self, node: Node, level: int = SUM) -> str:
        """The node, in parentheses where it binds more loosely than `level`."""
        match node:
            case Scalar(expr=e):
                return self.expr(e, {}, level)
            case Add(terms=terms):
                return self._bracket(self._sum([self._signed_node(t) for t in terms]), SUM, level)
            case Product(factors=factors):
                return self._product_node(factors, level)
            case Sum(ranges=ranges, body=body):
                return self._bracket(self._over("sum", ranges, body), PRODUCT, level)
            case Largest(ranges=ranges, body=body):
                return self._bracket(self._over("max", ranges, body), PRODUCT, level)
            case Function(body=body, args=args):
                return self.expr(body, dict(args), level)
            case _:
                return self._atom(node)

    def _atom(self, node: Node) -> str:
        style = self.style
        match node:
            case Element():
                return self._element(node)
            case Moment(left=u, right=v):
                return self._moment(u, v)
            case Mean(element=u):
                return style.expectation(self._element(u))
            case Gram(left=u, right=v):
                return style.gram(self._element(u), self._element(v))
            case Expectation(factors=factors):
                return style.expectation(self._mean_of(factors))
            case Integral(factors=factors, variables=variables):
                return style.integral(self._mean_of(factors, PRODUCT), [style.symbol(v) for v in variables])
            case Condition(left=a, right=b):
                a, b = (b, a) if isinstance(b, Sym) and not isinstance(a, Sym) else (a, b)
                return style.indicator(style.row([self.expr(a), style.operator("="), self.expr(b)]))
            case Within(index=a, extent=b):
                parts = [style.integer("0"), style.operator("<="), self.expr(a), style.operator("<"), self.expr(b)]
                return style.indicator(style.row(parts))
            case Kernel(name=name, index=index):
                return style.variable(name, False, "", False, [self.expr(i) for i in index])
            case Applied(weight=w, transposed=t, operand=h):
                weight = self._element(w) if not t else style.power(self._element(w), style.symbol("T"))
                return weight if h is None else style.juxtaposed([weight, self._element(h)])
        raise AssertionError(node)

    def _mean_of(self, factors: Sequence[Node], level: int = SUM) -> str:
        """The functions of which a mean is taken."""
        if len(factors) == 2 and factors[0] == factors[1]:
            return self.style.power(self.node(factors[0], ATOM), self.style.integer("2"))
        return self.style.juxtaposed([self.node(f, level if len(factors) == 1 else PRODUCT) for f in factors])

    def _element(self, u: Element) -> str:
        name, adjoint = u.name.removeprefix("d."), u.name.startswith("d.")
        level = "" if u.level is None else self.expr(u.level)
        return self.style.variable(name, adjoint, level, u.prime, [self.expr(i) for i in u.index])

    def _moment(self, u: Element, v: Element) -> str:
        if (u.name, u.level, u.prime, v.prime) == (v.name, v.level, False, True):
            index = [self.expr(i) for i in (*u.index, *v.index)]
            level = "" if u.level is None else self.expr(u.level)
            return self.style.covariance(u.name.removeprefix("d."), u.name.startswith("d."), level, index)
        if u == v:
            return self.style.expectation(self.style.power(self._element(u), self.style.integer("2")))
        return self.style.expectation(self.style.juxtaposed([self._element(u), self._element(v)]))

    def _over(self, kind: str, ranges: Sequence[Range], body: Node) -> str:
        shown = [(self.style.symbol(r.index), self.expr(r.low), self.expr(r.high)) for r in ranges]
        return self.style.over(kind, shown, self.node(body, PRODUCT))

    def _signed_node(self, node: Node) -> tuple[bool, str]:
        """Whether a term is subtracted, and the term."""
        if isinstance(node, Function) and is_negative(node.body):
            return True, self.node(Function(positive(node.body), node.args), PRODUCT)
        factors = node.factors if isinstance(node, Product) else (node,)
        first = factors[0]
        if isinstance(first, Scalar) and is_negative(first.expr):
            rest: Node = Scalar(ex.neg(first.expr))
            if len(factors) > 1:
                kept = factors[1:] if rest == Scalar(ex.ONE) else (rest, *factors[1:])
                rest = Product(kept) if len(kept) > 1 else kept[0]
            return True, self.node(rest, PRODUCT)
        return False, self.node(node, PRODUCT if isinstance(node, Add) else SUM)

    def _product_node(self, factors: Sequence[Node], level: int) -> str:
        first = factors[0]
        if isinstance(first, Scalar) and is_negative(first.expr):
            _, text = self._signed_node(Product(tuple(factors)))
            return self._bracket(self.style.row([self.style.operator("neg"), text]), SUM, level)
        if self.style.below_is_open:
            return self._bracket(self._on_one_line(factors), PRODUCT, level)
        return self._bracket(self.style.juxtaposed([self.node(f, PRODUCT) for f in factors]), PRODUCT, level)

    def _on_one_line(self, factors: Sequence[Node]) -> str:
        """A product where a fraction has no line of its own: what divides the whole comes last."""
        first = factors[0]
        parts = first.expr if isinstance(first, Scalar) else ex.ONE
        over, under = split(parts.args if isinstance(parts, Op) and parts.fn == "mul" else (parts,))
        if not under or isinstance(factors[-1], Sum | Largest):
            return self.style.juxtaposed([self.node(f, POWER if _divides(f) else PRODUCT) for f in factors])
        above = [self.expr(e, {}, PRODUCT) for e in over if e != ex.ONE]
        above += [self.node(f, POWER if _divides(f) else PRODUCT) for f in factors[1:]]
        below = self._factors(under, {}, POWER)
        below = self.style.brackets(below) if len(under) > 1 else below
        return self.style.fraction(self.style.juxtaposed(above), below)

    def expr(self, e: Expr, names: Names | None = None, level: int = SUM) -> str:
        """An expression, its symbols by the nodes `names` or by themselves."""
        names = names or {}
        if isinstance(e, Sym):
            return self.node(names[e.name], level) if e.name in names else self.style.symbol(e.name)
        if isinstance(e, Num):
            return self._number(e.value, level)
        known = known_function(e, names) if names else None
        if known is not None:
            return self.style.call(known[0], [self.node(known[1])])
        if e.fn == "add":
            terms = sorted(e.args, key=is_negative)
            return self._bracket(self._sum([self._signed(t, names) for t in terms]), SUM, level)
        if e.fn == "mul":
            return self._product(e, names, level)
        if e.fn == "pow":
            return self._power(e.args[0], e.args[1], names, level)
        if e.fn in RELATIONS:
            sides = [self.expr(a, names, PRODUCT) for a in e.args]
            return self.style.indicator(self.style.row([sides[0], self.style.operator(RELATIONS[e.fn]), sides[1]]))
        if e.fn == "stop":
            return self.expr(e.args[0], names, level)
        return self.style.call(e.fn, [self.expr(a, names) for a in e.args])

    def _signed(self, e: Expr, names: Names) -> tuple[bool, str]:
        return (True, self.expr(positive(e), names, PRODUCT)) if is_negative(e) else (False, self.expr(e, names))

    def _sum(self, terms: Sequence[tuple[bool, str]]) -> str:
        parts: list[str] = []
        for k, (negative, text) in enumerate(terms):
            if k or negative:
                parts.append(self.style.operator(("-" if negative else "+") if k else "neg"))
            parts.append(text)
        return self.style.row(parts)

    def _product(self, e: Op, names: Names, level: int) -> str:
        if is_negative(e):
            text = self.style.row([self.style.operator("neg"), self.expr(positive(e), names, PRODUCT)])
            return self._bracket(text, SUM, level)
        above, below = split(e.args)
        if not below:
            return self._bracket(self._factors(above, names, PRODUCT), PRODUCT, level)
        sums = [f for f in above if isinstance(f, Op) and f.fn == "add"]
        if not self.style.below_is_open and sums and len(above) > len(sums):
            front = self._quotient([f for f in above if f not in sums], below, names)
            return self._bracket(self.style.juxtaposed([front, self._factors(sums, names, PRODUCT)]), PRODUCT, level)
        return self._bracket(self._quotient(above, below, names), PRODUCT, level)

    def _quotient(self, above: Sequence[Expr], below: Sequence[Expr], names: Names) -> str:
        under = POWER if self.style.below_is_open else SUM
        if len(below) > 1 and self.style.below_is_open:
            bottom = self.style.brackets(self._factors(below, names, PRODUCT))
        else:
            bottom = self._factors(below, names, under)
        top = self._factors(above, names, PRODUCT if self.style.below_is_open or len(above) > 1 else SUM)
        return self.style.fraction(top, bottom)

    def _factors(self, factors: Sequence[Expr], names: Names, level: int) -> str:
        if not factors:
            return self.style.integer("1")
        if len(factors) == 1:
            return self.expr(factors[0], names, level)
        return self.style.juxtaposed([self.expr(f, names, PRODUCT) for f in factors])

    def _power(self, base: Expr, exponent: Expr, names: Names, level: int) -> str:
        if is_negative(exponent):
            return self._product(Op("mul", (Op("pow", (base, exponent)),)), names, level)
        if exponent == ex.HALF:
            return self.style.root(self.expr(base, names))
        return self.style.power(self.expr(base, names, ATOM), self.expr(exponent))

    def _number(self, value: Fraction | float, level: int) -> str:
        if value < 0:
            text = self.style.row([self.style.operator("neg"), self._number(-value, PRODUCT)])
            return self._bracket(text, SUM, level)
        shape = recognized(value)
        if isinstance(shape, str):
            return self.style.symbol("pi") if shape == "pi" else self.style.integer(shape)
        if isinstance(shape, Fraction):
            parts = self.style.integer(str(shape.numerator)), self.style.integer(str(shape.denominator))
            return self._bracket(self.style.fraction(*parts), PRODUCT, level)
        return self.expr(shape, {}, level)

    def _bracket(self, text: str, own: int, level: int) -> str:
        return self.style.brackets(text) if own < level else text


def _divides(node: Node) -> bool:
    """Whether a factor is written with a stroke."""
    if isinstance(node, Scalar | Function):
        e = node.expr if isinstance(node, Scalar) else node.body
        return bool(split(e.args if isinstance(e, Op) and e.fn == "mul" else (e,))[1])
    return False
