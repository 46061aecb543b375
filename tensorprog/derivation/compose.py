"""Derivation -> page: what stands where, and the sentences that say what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tensorprog.derivation.algebra import function, symbols, walk
from tensorprog.derivation.derive import Derivation
from tensorprog.derivation.notation import (
    Block,
    Condition,
    Element,
    Expectation,
    Gram,
    Integral,
    Kernel,
    Moment,
    Node,
    Recursion,
    Scalar,
    Within,
)
from tensorprog.derivation.page import Display, Heading, Line, Loop, Page, Paragraph, Part
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import ONE, Expr, Sym, show
from tensorprog.ir.program import Linear
from tensorprog.limit.analyse import Limit
from tensorprog.limit.exact import NotExact, exact_value
from tensorprog.limit.moments import Gaussian
from tensorprog.symbolic.expectation import Closed, Request
from tensorprog.symbolic.formula import closed_formula

NTK = Kernel("NTK")


def compose(d: Derivation) -> Page:
    """The page of a derivation."""
    limit = d.limit
    title = f"{limit.source.name}: the limit of '{limit.output}' as {_widths(limit)} \N{RIGHTWARDS ARROW} \N{INFINITY}"
    parts: list[Part] = [Paragraph((_parameters(limit),))] if limit.source.params else []
    parts += [Heading("Notation"), Paragraph(tuple(_notation(d)))]
    parts += [Heading("Forward pass"), Display((*_lines(d.forward), *_results(d)))]
    parts += _value(limit)
    if d.ntk:
        parts += [Heading("Backward pass"), *([Display(tuple(_lines(d.backward)))] if d.backward else [])]
        parts += [Paragraph(("The tangent kernel is a sum over the weights:",)), Display(tuple(_tangent(d)))]
    elif limit.ntk_error is not None:
        words = f"No tangent kernel: {limit.ntk_error.diagnostics[0].message}."
        parts += [Heading("Backward pass"), Paragraph((words,))]
    parts += _expectations(d)
    parts += _sampled(d)
    return Page(title, (*parts, Heading("Assumptions"), *_assumptions(d)))


def _results(d: Derivation) -> tuple[Line, ...]:
    return () if d.nngp is None else (Line(d.nngp.left, d.nngp.right),)


def _lines(blocks: Iterable[Block]) -> Iterator[Line | Loop]:
    for b in blocks:
        if isinstance(b, Recursion):
            yield Loop(b.index, b.first, b.last)
            yield from (Line(e.left, e.right, True) for e in b.equations)
        else:
            yield Line(b.left, b.right)


def _tangent(d: Derivation) -> Iterator[Line]:
    index = d.nngp.left.index if d.nngp is not None and isinstance(d.nngp.left, Kernel) else ()
    for k, (weights, node) in enumerate(d.ntk):
        yield Line(None if k else Kernel("NTK", index), node, remark=", ".join(weights))


# ---------------------------------------------------------------- words


def _parameters(limit: Limit) -> str:
    return "With " + ", ".join(f"{k} = {v}" for k, v in limit.source.params) + "."


def _widths(limit: Limit) -> str:
    return ", ".join(w.name for w in limit.source.widths) or "the width"


def nodes(d: Derivation) -> Iterator[Node]:
    """All nodes of the equations and results."""
    blocks: list[Block] = [*d.forward, *d.backward, *([d.nngp] if d.nngp is not None else [])]
    for block in blocks:
        for e in block.equations if isinstance(block, Recursion) else (block,):
            yield from walk(e.left)
            yield from walk(e.right)
    for _, node in d.ntk:
        yield from walk(node)


def _notation(d: Derivation) -> Iterator[str | Node]:
    """What the signs mean that occur."""
    found = list(nodes(d))
    name = next((n.left for n in found if isinstance(n, Moment) and n.left.name == n.right.name), None)
    yield "A prime marks the second run, on x'. "
    if name is not None:
        u, v = Element(name.name.removeprefix("d.")), Element(name.name.removeprefix("d."), prime=True)
        yield from (Moment(u, v), " is the second moment of one coordinate of ", u, " over both runs, the mean of ")
        yield from ("its product with ", v, ". ")
    if any(isinstance(n, Element) and n.name.startswith("d.") for n in found):
        yield "d before a name marks the gradient of the output with respect to it, scaled to order 1. "
    if d.table and any(level.level is not None for level in d.table.values()):
        yield from ("Superscripts count the iterations of the loop over ", Scalar(Sym(d.level)), ". ")
    yield from _ranges(d)
    if any(isinstance(n, Condition | Within) for n in found):
        yield "A bracket with a condition in it is 1 where the condition holds, else 0. "
    if any(isinstance(n, Element | Gram) and n.index for n in found if isinstance(n, Element)):
        yield "Whatever is read outside the range of an index is zero. "
    if any(isinstance(n, Expectation) and n.law is not None for n in found):
        yield "Expectations are over Gaussian variables with the second moments of the same names. "


def _ranges(d: Derivation) -> Iterator[str | Node]:
    """t = 0, ..., T - 1, for every index and extent of an equation's left side."""
    seen = frozenset[str]().union(*map(symbols, nodes(d)))
    pairs: dict[str, dict[Expr, None]] = {}
    for axis in (a for name in d.table for a in d.limit.program.var(name).axes):
        if axis.index in seen:
            pairs.setdefault(axis.index, {})[axis.extent] = None
    for k, (index, extents) in enumerate(pairs.items()):
        yield from ("; " if k else "Indices: ", Scalar(Sym(index)), " from 0 to ")
        for m, extent in enumerate(extents):
            yield from (" or ", Scalar(ex.sub(extent, ONE))) if m else (Scalar(ex.sub(extent, ONE)),)
    yield ". " if pairs else ""


def _value(limit: Limit) -> list[Part]:
    """The exact value of an output that is a number, where the program is polynomial."""
    try:
        return [Paragraph((f"Exactly, {limit.output} = {exact_value(limit.source, limit.output)}.",))]
    except NotExact:
        return []


# ---------------------------------------------------------------- expectations


def _laws(d: Derivation) -> dict[tuple[Request, bool], Gaussian]:
    """The expectations that occur, up to the names of their arguments."""
    found: dict[tuple[Request, bool], Gaussian] = {}
    for node in nodes(d):
        if isinstance(node, Expectation) and node.law is not None:
            gaussian, centred = node.law
            found.setdefault((gaussian.expectation.request, centred), gaussian)
    return found


def _expectations(d: Derivation) -> list[Part]:
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
        parts.append(Paragraph(("In closed form, too, but too long to be read: ", *_listed(long), ".")))
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


def _listed(items: Sequence[Node]) -> Iterator[str | Node]:
    for k, item in enumerate(items):
        yield from (", ", item) if k else (item,)


# ---------------------------------------------------------------- sampling


def _sampled(d: Derivation) -> list[Part]:
    """The variables, where some moment is a mean over samples of them."""
    if not d.variables:
        return []
    why = ""
    if d.sampled:
        why += f"What has no equation above is a mean over the variables below, because {'; '.join(d.sampled)}. "
    if d.random:
        why += f"The scalars {', '.join(map(_name, d.random))} stay random: the equations hold given their values. "
    law = (
        "Products with a weight are Gaussian; their covariance is the variance of the weight times the second moment"
        " of what it is applied to."
    )
    how = " Where a kernel needs such means, the program as a whole is evaluated by sampling these variables."
    return [Heading("Sampling"), Paragraph((why + law + how,)), Display(tuple(_lines(d.variables)))]


def _name(name: str) -> str:
    """The name of a variable among words."""
    return f"d{name.removeprefix('d.')}" if name.startswith("d.") else name


# ---------------------------------------------------------------- assumptions


def _assumptions(d: Derivation) -> Iterator[Paragraph]:
    limit = d.limit
    verdict = limit.verdict
    yield Paragraph((f"Gradient independence {'holds' if verdict.holds else 'does not hold'}: {verdict.reason}.",))
    if len(limit.source.widths) > 1:
        ratios = ", ".join(f"{w.name} = {show(w.size)}" for w in limit.source.widths)
        yield Paragraph((f"The widths grow in the ratio of {ratios}.",))
    powers = {n: p for n, p in limit.powers.items() if p and limit.program.var(n).named and not n.startswith("d.")}
    if powers:
        listed = ", ".join(f"{n} of order n^({p})" for n, p in powers.items())
        yield Paragraph((f"Quantities stand without their power of the width: {listed}.",))
    dropped = _dropped(limit)
    if dropped:
        yield Paragraph((f"Terms that vanish as the width grows are left out in {', '.join(dropped)}.",))
    for note in limit.notes:
        yield Paragraph((f"{note.message[:1].upper()}{note.message[1:]}.",))


def _dropped(limit: Limit) -> list[str]:
    """Variables that lost terms of a lower power of the width."""
    kept = {i.var.name: i.op.terms for i in limit.program.instrs if isinstance(i.op, Linear)}
    sums = ((i.var.name, i.op.terms) for i in limit.source.instrs if isinstance(i.op, Linear) and i.var.name in kept)
    return [name for name, terms in sums if len(kept[name]) < sum(t.coef != ex.ZERO for t in terms)]
