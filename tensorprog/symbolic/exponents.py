"""Quotients of sums of exponentials without overflow.

    exp(a) (c1 exp(x1) + ... + cn exp(xn))^-p  =  exp(a - p L),
    L = log(c1 exp(x1) + ...) = y1 + softplus(L' - y1),   yi = xi + log ci,   L' the same of the other terms

for positive ci: a softmax written without a shift, or a sigmoid written as a fraction.
"""

from __future__ import annotations

import math

from tensorprog.ir.expr import MINUS_ONE, ONE, ZERO, Expr, Num, Op, add, call, mul, rebuild

TERMS = 16


def tamed(e: Expr) -> Expr:
    """`e` with every such quotient rewritten."""
    if not isinstance(e, Op):
        return e
    done = mul(*(_inside(f) for f in (e.args if e.fn == "mul" else (e,))))
    factors = done.args if isinstance(done, Op) and done.fn == "mul" else (done,)
    logs = [_log_power(f) for f in factors]
    if all(x is None for x in logs):
        return done
    rest = [f for f, x in zip(factors, logs, strict=True) if x is None]
    exponent = add(*(x for x in logs if x is not None))
    return add(*(mul(factor, call("exp", add(own, exponent))) for factor, own in _terms(mul(*rest))))


def _inside(e: Expr) -> Expr:
    """A factor whose arguments are rewritten."""
    return rebuild(e.fn, tuple(tamed(a) for a in e.args)) if isinstance(e, Op) else e


def _log_power(e: Expr) -> Expr | None:
    """The logarithm of a negative power of a sum of exponentials."""
    if not (isinstance(e, Op) and e.fn == "pow" and isinstance(e.args[1], Num) and e.args[1].value < 0):
        return None
    total = _log_sum(e.args[0])
    return None if total is None else _scaled(e.args[1], total)


def _log_sum(e: Expr) -> Expr | None:
    """L of a sum of at least two terms, of which one is an exponential; None for other expressions."""
    if not (isinstance(e, Op) and e.fn == "add" and 2 <= len(e.args) <= TERMS):
        return None
    exponents = []
    for factor, exponent in map(_exponential, e.args):
        if not isinstance(factor, Num) or factor.value <= 0:
            return None
        exponents.append(exponent if factor == ONE else add(exponent, Num(math.log(factor.value))))
    if all(isinstance(x, Num) for x in exponents):
        return None
    total = exponents[-1]
    for x in reversed(exponents[:-1]):
        total = add(x, call("softplus", add(total, _scaled(MINUS_ONE, x))))
    return total


def _scaled(factor: Expr, e: Expr) -> Expr:
    """factor * e, term by term, so that exponents cancel."""
    return add(*(mul(factor, t) for t in e.args)) if isinstance(e, Op) and e.fn == "add" else mul(factor, e)


def _exponential(term: Expr) -> tuple[Expr, Expr]:
    """(factor, exponent) of factor * exp(exponent)."""
    factors = term.args if isinstance(term, Op) and term.fn == "mul" else (term,)
    rest: list[Expr] = []
    exponent: Expr = ZERO
    for f in factors:
        base, n = f.args if isinstance(f, Op) and f.fn == "pow" else (f, ONE)
        if isinstance(base, Op) and base.fn == "exp":
            exponent = add(exponent, mul(n, base.args[0]))
        else:
            rest.append(f)
    return mul(*rest) if rest else ONE, exponent


def _terms(numerator: Expr) -> list[tuple[Expr, Expr]]:
    """The numerator as (factor, exponent), expanded where a factor is a sum with exponentials."""
    factor, exponent = _exponential(numerator)
    parts = factor.args if isinstance(factor, Op) and factor.fn == "mul" else (factor,)
    for i, part in enumerate(parts):
        if isinstance(part, Op) and part.fn == "add" and any(_exponential(t)[1] != ZERO for t in part.args):
            others = mul(call("exp", exponent), *parts[:i], *parts[i + 1 :])
            return [x for t in part.args for x in _terms(mul(t, others))]
    return [(factor, exponent)]
