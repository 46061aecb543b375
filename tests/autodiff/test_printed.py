"""The printed adjoint programs of two small programs."""

from tensorprog.autodiff import differentiate
from tensorprog.ir.expr import HALF, ONE, Op, Sym, add, call, div, num, power
from tensorprog.ir.printer import print_differentiated
from tensorprog.ir.program import (
    Axis,
    Data,
    Dim,
    Inner,
    Input,
    Instr,
    Linear,
    Map,
    MatMul,
    Output,
    Pointwise,
    Program,
    Read,
    Term,
    Var,
    Weight,
    Width,
)

N, D = Dim(Sym("n"), True), Dim(Sym("d"), False)
TIME = Axis("t", Sym("T"))
T = Sym("t")
ONCE = Map((), (), ())
EVERY = Map((TIME,), (T,), (T,))


def weight(name, rows, cols, variance):
    return Weight(name, (), rows, cols, num(0), variance, variance)


def program(name, inputs, weights, *instrs):
    return Program(name, (), (Width("n", num(4)),), inputs, weights, instrs, (Output("f", "f"),))


MLP = program(
    "mlp",
    (Input("x", (), Sym("d")),),
    (weight("W", N, D, div(ONE, Sym("d"))), weight("b", N, None, HALF), weight("v", N, None, div(ONE, Sym("n")))),
    Instr(Var("x", (), D), Data("x")),
    Instr(Var("g", (), N), MatMul("W", (), "x", ONCE)),
    Instr(Var("b", (), N), MatMul("b", (), None, ONCE)),
    Instr(Var("h", (), N), Linear((Term("g", ONCE), Term("b", ONCE)))),
    Instr(Var("y", (), N), Pointwise(call("tanh", Sym("a0")), (Read("h"),))),
    Instr(Var("s"), Inner(Read("y"), Read("y"), div(ONE, Sym("n")))),
    Instr(Var("z", (), N), Pointwise(Op("mul", (Sym("a0"), power(Sym("a1"), num(-1)))), (Read("y"), Read("s")))),
    Instr(Var("v", (), N), MatMul("v", (), None, ONCE)),
    Instr(Var("f"), Inner(Read("v"), Read("z"))),
)

LOOP = program(
    "loop",
    (Input("x", (TIME,), Sym("d")),),
    (weight("W", N, N, div(ONE, Sym("n"))), weight("U", N, D, ONE), weight("v", N, None, div(ONE, Sym("n")))),
    Instr(Var("x", (TIME,), D), Data("x")),
    Instr(Var("g", (TIME,), N), MatMul("W", (), "s", Map((TIME,), (T,), (add(T, num(-1)),)))),
    Instr(Var("u", (TIME,), N), MatMul("U", (), "x", EVERY)),
    Instr(Var("s", (TIME,), N), Pointwise(call("erf", add(Sym("a0"), Sym("a1"))), (Read("g", (T,)), Read("u", (T,))))),
    Instr(Var("v", (), N), MatMul("v", (), None, ONCE)),
    Instr(Var("f", (Axis("i", Sym("T")),)), Inner(Read("v"), Read("s", (Sym("i"),)))),
)

MLP_PRINTED = """\
d.f : scalar = 1
d.v : n = d.f * z
d.z : n = d.f * v
z.by.s : n = -y / s^2
d.s.z : scalar = dot(d.z, z.by.s)
d.s : scalar = d.s.z
d.y.z : n = d.z / s
d.y : n = d.y.z + 1 / n * d.s * y + 1 / n * d.s * y
d.h : n = d.y * (-tanh(h)^2 + 1)
d.b : n = d.h
d.g : n = d.h
use dW += d.g (x) x
use db += d.b
use dv += d.v
"""

LOOP_PRINTED = """\
d.f[o_i < T, i < T] : scalar = sum(o_i = i) 1
d.v[o_i < T] : n = sum(i < T) d.f[o_i, i] * s[i]
d.s.g[o_i < T, t < T] : n = sum(t' < T, t' - 1 = t) W.T @ d.g[o_i, t']
d.s[o_i < T, t < T] : n = d.f[o_i, t] * v + d.s.g[o_i, t]
d.u[o_i < T, t < T] : n = 1.1283791671 * d.s[o_i, t] * exp(-(g[t] + u[t])^2)
d.g[o_i < T, t < T] : n = 1.1283791671 * d.s[o_i, t] * exp(-(g[t] + u[t])^2)
use dW += d.g[o_i, t] (x) s[t - 1]   over o_i < T, t < T
use dU += d.u[o_i, t] (x) x[t]   over o_i < T, t < T
use dv += d.v[o_i]   over o_i < T
"""


def adjoints(source):
    lines = print_differentiated(differentiate(source, "f")).splitlines()
    return "\n".join(line[2:] for line in lines if line.startswith(("  d.", "  use")) or ".by." in line) + "\n"


def test_mlp():
    assert adjoints(MLP) == MLP_PRINTED


def test_loop():
    assert adjoints(LOOP) == LOOP_PRINTED
