"""Activations with their slopes, kinks and point masses, written down by hand as functions of u for mpmath.

The same texts are given to the engine, which finds slopes, kinks and point masses itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp

from .gaussian import Function, Number, square_fourier

Points = tuple[tuple[float, float], ...]
Exact = Callable[[Number, Number, Number], Number]


@dataclass(frozen=True)
class Activation:
    """A function of u and its slope, which is `slope` + sum of weight * dirac(u - t) over `points`.

    `exact`: E[f f] and E[f' f'] from (a, b, c), for functions that oscillate too fast for quadrature at large variance.
    """

    text: str
    slope: str
    kinks: tuple[float, ...] = ()
    points: Points = ()
    centres: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    growth: float = 0.0
    exact: tuple[Exact, Exact] | None = None

    def function(self, order: int) -> Function:
        """The activation (order 0) or its slope (order 1)."""
        f = read(self.slope if order else self.text)
        return Function(f, self.kinks, self.points if order else (), self.centres, self.growth)


NAMES: dict[str, Any] = {
    "exp": mp.exp,
    "log": mp.log,
    "sqrt": mp.sqrt,
    "sin": mp.sin,
    "cos": mp.cos,
    "sinh": mp.sinh,
    "cosh": mp.cosh,
    "tanh": mp.tanh,
    "atan": mp.atan,
    "erf": mp.erf,
    "erfc": mp.erfc,
    "normcdf": mp.ncdf,
    "normpdf": mp.npdf,
    "sinc": mp.sinc,
    "pi": mp.pi,
    "abs": abs,
    "max": max,
    "min": min,
    "sign": mp.sign,
    "step": lambda u: 1 if u > 0 else 0,
    "gt": lambda u, v: 1 if u > v else 0,
    "sigmoid": lambda u: 1 / (1 + mp.exp(-u)),
    "softplus": lambda u: mp.log1p(mp.exp(u)),
}


def read(text: str) -> Callable[[Number], Number]:
    """A function of u from its text."""
    code = compile(text.replace("^", "**"), text, "eval")
    return lambda u: mp.mpf(eval(code, {"__builtins__": {}}, NAMES | {"u": u}))


def _damped(hyperbolic: Callable[[Number], Number]) -> Exact:
    """E sin u sin v = exp(-(a+b)/2) sinh c, E cos u cos v the same with cosh."""
    return lambda a, b, c: mp.exp(-(a + b) / 2) * hyperbolic(c)


def _hermite(k: int, text: str, slope: str) -> Activation:
    """The normalized polynomial of degree k."""
    return Activation(f"({text})/sqrt({mp.factorial(k)})", f"({slope})/sqrt({mp.factorial(k)})")


CUBIC = "sqrt(2/pi)*(u+0.044715*u^3)"
SELU = (1.0507009873554805, 1.0507009873554805 * 1.6732632423543772)
SOFT = "tanh(softplus(u))"

ACTIVATIONS: dict[str, Activation] = {
    "relu": Activation("max(u,0)", "step(u)", (0,)),
    "leaky_relu": Activation("max(u,0)+0.01*min(u,0)", "step(u)+0.01*step(-u)", (0,)),
    "larger of x and x/10": Activation("max(u,0.1*u)", "step(u)+0.1*step(-u)", (0,)),
    "abs": Activation("abs(u)", "sign(u)", (0,)),
    "step": Activation("step(u)", "0", (0,), ((0, 1),)),
    "sign": Activation("sign(u)", "0", (0,), ((0, 2),)),
    "shifted relu": Activation("max(u-0.5,0)", "step(u-0.5)", (0.5,)),
    "relu^2": Activation("max(u,0)^2", "2*max(u,0)", (0,)),
    "relu^3": Activation("max(u,0)^3", "3*max(u,0)^2", (0,)),
    "relu6": Activation("min(max(u,0),6)", "step(u)*step(6-u)", (0, 6)),
    "hard_tanh": Activation("min(max(u,-1),1)", "step(u+1)*step(1-u)", (-1, 1)),
    "hard_sigmoid": Activation("min(max(u/6+0.5,0),1)", "step(u+3)*step(3-u)/6", (-3, 3)),
    "hard swish": Activation("u*min(max(u/6+0.5,0),1)", "min(max(u/6+0.5,0),1)+u*step(u+3)*step(3-u)/6", (-3, 3)),
    "clip(u, -1, 2)": Activation("min(max(u,-1),2)", "step(u+1)*step(2-u)", (-1, 2)),
    "soft threshold": Activation("sign(u)*max(abs(u)-0.3,0)", "step(u-0.3)+step(-u-0.3)", (-0.3, 0, 0.3)),
    "u^2": Activation("u^2", "2*u"),
    "u^3": Activation("u^3", "3*u^2"),
    "u^4": Activation("u^4", "4*u^3"),
    "u^5": Activation("u^5", "5*u^4"),
    "hermite(u, 2)": _hermite(2, "u^2-1", "2*u"),
    "hermite(u, 3)": _hermite(3, "u^3-3*u", "3*u^2-3"),
    "hermite(u, 4)": _hermite(4, "u^4-6*u^2+3", "4*u^3-12*u"),
    "sin": Activation("sin(u)", "cos(u)", exact=(_damped(mp.sinh), _damped(mp.cosh))),
    "cos": Activation("cos(u)", "-sin(u)", exact=(_damped(mp.cosh), _damped(mp.sinh))),
    "sinc": Activation(
        "sinc(u)",
        "(u*cos(u)-sin(u))/u^2",
        exact=(lambda a, b, c: square_fourier(0, a, b, c), lambda a, b, c: square_fourier(1, a, b, c)),
    ),
    "sin times gaussian": Activation("sin(u)*exp(-u^2)", "(cos(u)-2*u*sin(u))*exp(-u^2)"),
    "gaussian": Activation("exp(-u^2)", "-2*u*exp(-u^2)"),
    "rbf feature": Activation("exp(-(u-1)^2/2)", "-(u-1)*exp(-(u-1)^2/2)", centres=((1, 1),)),
    "exp(-abs(u))": Activation("exp(-abs(u))", "-sign(u)*exp(-abs(u))", (0,)),
    "exp": Activation("exp(u)", "exp(u)", growth=1),
    "cosh": Activation("cosh(u)", "sinh(u)", growth=1),
    "sinh": Activation("sinh(u)", "cosh(u)", growth=1),
    "erf": Activation("erf(u)", "2*exp(-u^2)/sqrt(pi)"),
    "erfc": Activation("erfc(u)", "-2*exp(-u^2)/sqrt(pi)"),
    "erf gate": Activation("(1+erf(u))/2", "exp(-u^2)/sqrt(pi)"),
    "normcdf": Activation("normcdf(u)", "normpdf(u)"),
    "normpdf": Activation("normpdf(u)", "-u*normpdf(u)"),
    "gelu": Activation("u*normcdf(u)", "normcdf(u)+u*normpdf(u)"),
    "u erf(u)": Activation("u*erf(u)", "erf(u)+2*u*exp(-u^2)/sqrt(pi)"),
    "gelu times normcdf": Activation("u*normcdf(u)^2", "normcdf(u)^2+2*u*normcdf(u)*normpdf(u)"),
    "u^2 normcdf(u) (u > -1)": Activation(
        "u^2*normcdf(u)*gt(u,-1)",
        "(2*u*normcdf(u)+u^2*normpdf(u))*gt(u,-1)",
        (-1,),
        ((-1, 0.15865525393145705),),
    ),
    "elu": Activation("max(u,0)+exp(min(u,0))-1", "1 if u > 0 else exp(u)", (0,)),
    "selu": Activation(
        f"{SELU[0]}*max(u,0)+{SELU[1]}*(exp(min(u,0))-1)", f"{SELU[0]} if u > 0 else {SELU[1]}*exp(u)", (0,)
    ),
    "celu(u, 2)": Activation("max(u,0)+2*(exp(min(u,0)/2)-1)", "1 if u > 0 else exp(u/2)", (0,), centres=((0, 2),)),
    "tanh": Activation("tanh(u)", "1-tanh(u)^2"),
    "sigmoid": Activation("sigmoid(u)", "sigmoid(u)*sigmoid(-u)"),
    "sharp sigmoid": Activation("sigmoid(10*u-3)", "10*sigmoid(10*u-3)*sigmoid(3-10*u)", centres=((0.3, 0.1),)),
    "softplus": Activation("softplus(u)", "sigmoid(u)"),
    "softsign": Activation("u/(1+abs(u))", "1/(1+abs(u))^2", (0,)),
    "atan": Activation("atan(u)", "1/(1+u^2)"),
    "bump 1 / (1 + u^2)": Activation("1/(1+u^2)", "-2*u/(1+u^2)^2"),
    "swish": Activation("u*sigmoid(u)", "sigmoid(u)+u*sigmoid(u)*sigmoid(-u)"),
    "mish": Activation("u*tanh(softplus(u))", f"{SOFT}+u*(1-{SOFT}^2)*sigmoid(u)"),
    "gelu_tanh": Activation(
        f"u*(1+tanh({CUBIC}))/2", f"(1+tanh({CUBIC}))/2+u*(1-tanh({CUBIC})^2)*sqrt(2/pi)*(1+0.134145*u^2)/2"
    ),
    "u - tanh(u)": Activation("u-tanh(u)", "tanh(u)^2"),
    "squareplus": Activation("(u+sqrt(u^2+4))/2", "(1+u/sqrt(u^2+4))/2"),
}
