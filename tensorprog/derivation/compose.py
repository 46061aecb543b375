"""Derivation -> page: what stands where, and the sentences that say what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tensorprog.derivation.algebra import symbols
from tensorprog.derivation.derive import Derivation
from tensorprog.derivation.expectations import expectations, functions, infinite, listed, nodes
from tensorprog.derivation.labels import labels
from tensorprog.derivation.notation import (
    Block,
    Condition,
    Element,
    Expectation,
    Gram,
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
    parts += functions(d)
    parts += expectations(d)
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
    for k, ((_, node), label) in enumerate(zip(d.ntk, labels(d.ntk, d.limit), strict=True)):
        yield Line(None if k else Kernel("NTK", index), node, remark=label)


# ---------------------------------------------------------------- words


def _parameters(limit: Limit) -> str:
    return "With " + ", ".join(f"{k} = {v}" for k, v in limit.source.params) + "."


def _widths(limit: Limit) -> str:
    return ", ".join(w.name for w in limit.source.widths) or "the width"


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
    laws = [n.law for n in found if isinstance(n, Expectation) and n.law is not None]
    if laws:
        yield "Expectations are over Gaussian variables with the second moments of the same names"
        yield "; " if any(not centred for _, centred in laws) else ". "
    if any(not centred for _, centred in laws):
        yield "where these have means, the covariance is the second moment less the product of the means. "


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
    how = (
        " An evaluation integrates powers of quadratic forms of these variables, and the variables that enter"
        " linearly or as the argument of one nonlinearity; it draws the rest, if there is any."
    )
    return [Heading("Without equations"), Paragraph((why + law + how,)), Display(tuple(_lines(d.variables)))]


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
    yield from _singular(infinite(d) if d.ntk else [])
    for note in limit.notes:
        yield Paragraph((f"{note.message[:1].upper()}{note.message[1:]}.",))


def _singular(found: Sequence[Expectation]) -> Iterator[Paragraph]:
    """What expectations with point masses in both runs mean for the tangent kernel."""
    if found:
        words = (
            " infinite where the arguments of both runs are fully correlated, as at equal inputs (without biases, at"
            " parallel ones): the tangent kernel exists between different inputs only."
        )
        yield Paragraph((*listed(found), " is" if len(found) == 1 else " are", words))


def _dropped(limit: Limit) -> list[str]:
    """Variables that lost terms of a lower power of the width."""
    kept = {i.var.name: i.op.terms for i in limit.program.instrs if isinstance(i.op, Linear)}
    sums = ((i.var.name, i.op.terms) for i in limit.source.instrs if isinstance(i.op, Linear) and i.var.name in kept)
    return [name for name, terms in sums if len(kept[name]) < sum(t.coef != ex.ZERO for t in terms)]
