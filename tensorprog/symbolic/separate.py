"""Products of functions of one argument each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tensorprog.ir.expr import ONE, Expr, Num, Op, mul, power, symbols


def separate(factors: Sequence[Expr], args: tuple[str, ...]) -> tuple[tuple[int, Expr], ...] | None:
    """The product of `factors` as functions of single arguments: (position in args, function).

    None when a factor depends on several.  Factors without arguments go to the first function.
    """
    found: dict[int, Expr] = {}
    constant: Expr = ONE
    for factor in (f for e in factors for f in _factors(e)):
        support = [i for i, a in enumerate(args) if a in symbols(factor)]
        if len(support) > 1:
            return None
        if support:
            found[support[0]] = mul(found.get(support[0], ONE), factor)
        else:
            constant = mul(constant, factor)
    first = min(found, default=0)
    found[first] = mul(constant, found.get(first, ONE))
    return tuple(sorted(found.items()))


def _factors(e: Expr) -> Iterator[Expr]:
    if isinstance(e, Op) and e.fn == "mul":
        for a in e.args:
            yield from _factors(a)
    elif isinstance(e, Op) and e.fn == "pow" and isinstance(e.args[1], Num) and isinstance(e.args[0], Op):
        if e.args[0].fn == "mul":
            for a in e.args[0].args:
                yield power(a, e.args[1])
        else:
            yield e
    else:
        yield e
