"""The Gaussian expectations of a derivation: their closed forms, the functions in them, and where they are infinite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tensorprog.derivation.algebra import function, walk
from tensorprog.derivation.derive import Derivation
from tensorprog.derivation.known import U, known_function
from tensorprog.derivation.notation import Block, Element, Expectation, Function, Integral, Node, Recursion, Scalar
from tensorprog.derivation.page import Display, Heading, Line, Paragraph, Part
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, Expr, Op, Sym
from tensorprog.limit.moments import Gaussian
from tensorprog.symbolic.expectation import Closed, Request
from tensorprog.symbolic.formula import closed_formula


def nodes(d: Derivation) -> Iterator[Node]:
    """All nodes of the equations and results."""
    blocks: list[Block] = [*d.forward, *d.backward, *([d.nngp] if d.nngp is not None else [])]
    for block in blocks:
        for e in block.equations if isinstance(block, Recursion) else (block,):
            yield from walk(e.left)
            yield from walk(e.right)
    for _, node in d.ntk:
        yield from walk(node)


def _laws(d: Derivation) -> dict[tuple[Request, bool], Gaussian]:
    """The expectations that occur, up to the names of their arguments."""
    found: dict[tuple[Request, bool], Gaussian] = {}
    for node in nodes(d):
        if isinstance(node, Expectation) and node.law is not None:
            gaussian, centred = node.law
            found.setdefault((gaussian.expectation.request, centred), gaussian)
    return found


def expectations(d: Derivation) -> list[Part]:
    closed: list[Line] = []
    long: list[Node] = []
    numerical: list[Line] = []
    formulas: list[Expr] = []
    for (request, centred), g in _laws(d).items():
        left = general(request)
        if g.expectation.tier == "closed":
            formula = formula_of(g, centred)
            if formula is None:
                long.append(left)
            else:
                closed.append(Line(left, Scalar(formula)))
                formulas.append(formula)
        else:
            numerical.append(Line(left, Integral(left.factors, _variables(left))))
    parts: list[Part] = [Heading("Expectations")] if closed or long or numerical else []
    if closed:
        parts += [Paragraph(tuple(_law_words(formulas))), Display(tuple(closed))]
    if long:
        parts.append(Paragraph(("In closed form, too, but too long to be read: ", *listed(long), ".")))
    if numerical:
        words = "By quadrature, with p the Gaussian density of the arguments:"
        parts += [Paragraph((words,)), Display(tuple(numerical))]
    return parts


def _variables(node: Expectation) -> tuple[str, ...]:
    """The names of the arguments."""
    return tuple(dict.fromkeys(n.name for n in walk(node) if isinstance(n, Element)))


def _law_words(formulas: Sequence[Expr]) -> Iterator[str | Node]:
    used = frozenset[str]().union(*map(ex.symbols, formulas))
    yield from ("In closed form, for ", Element("u"), " and ", Element("v"), " of variances ", Scalar(Sym("a")))
    yield " and "
    yield from (Scalar(Sym("b")), " and covariance ", Scalar(Sym("c")))
    if used & {"m", "n"}:
        yield from (", of means ", Scalar(Sym("m")), " and ", Scalar(Sym("n")))
    if "theta" in used:
        angle = ex.Op("acos", (ex.div(Sym("c"), ex.sqrt(ex.mul(Sym("a"), Sym("b")))),))
        yield from (", with ", Scalar(Sym("theta")), " = ", Scalar(angle))
    yield ":"


def general(request: Request) -> Expectation:
    """E[f(u) g(v)], the arguments by neutral names."""
    names: dict[str, Node] = {}
    for letter, args in (("u", request.left_args), ("v", request.right_args)):
        for k, a in enumerate(args):
            names[a] = Element(letter if len(args) == 1 else f"{letter}_{k + 1}")
    return Expectation(tuple(function(f, names) for f in (request.left, request.right) if f != ONE))


def formula_of(g: Gaussian, centred: bool) -> Expr | None:
    """The closed form of an expectation as a formula; None when it is too long or has parameters."""
    if not isinstance(g.expectation, Closed) or g.params:
        return None
    sums = g.expectation.sums
    return closed_formula(sums.left, sums.right, sums.sizes, centred)


def listed(items: Sequence[Node]) -> Iterator[str | Node]:
    """The formulas, commas between them."""
    for k, item in enumerate(items):
        yield from (", ", item) if k else (item,)


# ---------------------------------------------------------------- functions


def functions(d: Derivation) -> list[Part]:
    """The functions that are written by a name, by what they are: gelu(u) = u Phi(u)."""
    found: dict[str, Expr] = {}
    for node in (*nodes(d), *_drawn_nodes(d)):
        if isinstance(node, Function):
            found |= _named(node.body, dict(node.args))
    lines = tuple(Line(Scalar(Op(name, (U,))), Scalar(body)) for name, body in found.items())
    return [Heading("Functions"), Display(lines)] if lines else []


def _drawn_nodes(d: Derivation) -> Iterator[Node]:
    for block in d.variables:
        for e in block.equations if isinstance(block, Recursion) else (block,):
            yield from walk(e.right)


def _named(body: Expr, names: Mapping[str, Node]) -> dict[str, Expr]:
    """The functions in an expression that are written by a name, as expressions in u."""
    known = known_function(body, names)
    if known is not None:
        return {known[0]: ex.substitute(body, {s: U for s, n in names.items() if n == known[1]})}
    found: dict[str, Expr] = {}
    for part in body.args if isinstance(body, Op) else ():
        found |= _named(part, names)
    return found


# ---------------------------------------------------------------- point masses


def infinite(d: Derivation) -> list[Expectation]:
    """The expectations with the same point mass in both runs, by neutral names: infinite where both arguments agree."""
    found = [n for n in nodes(d) if isinstance(n, Expectation) and _points(n, False) & _points(n, True)]
    return list(dict.fromkeys(_neutral(n) for n in found))


def _neutral(node: Expectation) -> Expectation:
    return node if node.law is None else general(node.law[0].expectation.request)


def _points(node: Expectation, prime: bool) -> set[Expr]:
    """The arguments of point masses on one run's side, variables by their names."""
    found = set()
    for f in (n for factor in node.factors for n in walk(factor) if isinstance(n, Function)):
        own = {s: Sym(n.name) for s, n in f.args if isinstance(n, Element) and n.prime == prime}
        masses = [e for e in _operations(f.body) if e.fn == "dirac" and ex.symbols(e) & own.keys()]
        found |= {ex.substitute(e, own) for e in masses}
    return found


def _operations(e: Expr) -> Iterator[Op]:
    if isinstance(e, Op):
        yield e
        for a in e.args:
            yield from _operations(a)
