"""Functions by the names that the prelude has for them: max(u, 0) is relu(u), its derivatives relu'(u), ...

Read off the prelude itself: one program that applies every function of one argument to the same vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tensorprog.derivation.notation import Element, Node
from tensorprog.elaborate.driver import elaborate, prelude_modules
from tensorprog.errors import Source
from tensorprog.ir import expr as ex
from tensorprog.ir.expr import Expr, Op, Sym
from tensorprog.ir.program import Pointwise, Program, operands
from tensorprog.lang import syntax

U = Sym("u")


def known_function(body: Expr, names: Mapping[str, Node]) -> tuple[str, Node] | None:
    """The name of a function of a single variable, and that variable."""
    nodes = [n for s, n in names.items() if s in ex.symbols(body)]
    if len(nodes) != 1 or not isinstance(nodes[0], Element) or isinstance(body, Sym) or is_primitive(body):
        return None
    name = table().get(ex.substitute(body, {s: U for s, n in names.items() if n == nodes[0]}))
    return None if name is None else (name, nodes[0])


def is_primitive(body: Expr) -> bool:
    """Whether the body is one primitive function of its symbol."""
    return isinstance(body, Op) and len(body.args) == 1 and isinstance(body.args[0], Sym)


@cache
def table() -> Mapping[Expr, str]:
    """The functions of the prelude and their derivatives, as expressions in u."""
    names = [
        d.name
        for module in prelude_modules()
        for d in module.decls
        if isinstance(d, syntax.Def) and d.params and all(p.default is not None for p in d.params[1:])
        and d.params[0].default is None and d.name not in ("identity",)
    ]
    lines = ["program p:", "  width n = 2", "  weight h: [n] ~ N(0, 1)"]
    lines += [f"  output f_{k} = avg({name}(h))" for k, name in enumerate(names)]
    program = elaborate(Source("names", "\n".join(lines) + "\n")).program
    found: dict[Expr, str] = {}
    for name, output in zip(names, program.outputs, strict=True):
        body = _body(program, output.var)
        if body is not None and not is_primitive(body):
            found.setdefault(body, name)
            found.setdefault(_slope(body), f"{name}'")
    return {body: name for body, name in found.items() if _worth_it(body, name)}


def _worth_it(body: Expr, name: str) -> bool:
    """Whether the name says it shorter than the expression."""
    return "u" in ex.symbols(body) and not is_primitive(body) and len(name) + len("(u)") < len(ex.show(body))


def _body(program: Program, var: str) -> Expr | None:
    """The nonlinearity under an average."""
    while True:
        op = program.instr(var).op
        if isinstance(op, Pointwise):
            reads: dict[str, Expr] = {f"a{k}": U for k in range(len(op.args))}
            return ex.substitute(op.fn, reads) if len({a.var for a in op.args}) == 1 else None
        inner = operands(op)
        if len(inner) != 1:
            return None
        var = inner[0]


def _slope(body: Expr) -> Expr:
    try:
        return ex.differentiate(body, "u")
    except ValueError:
        return U
