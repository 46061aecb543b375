"""The printed form of the IR: `tensorprog show FILE --stage ir`.

g[t < T] : n   = W @ s[t - 1]
"""

from __future__ import annotations

from tensorprog.ir.expr import ONE, Expr, Num, Op, Sym, neg, show, substitute
from tensorprog.ir.program import (
    Axis,
    Data,
    Differentiated,
    Dim,
    Inner,
    Instr,
    Linear,
    Map,
    MatMul,
    MaxOver,
    Operation,
    Pointwise,
    Program,
    Read,
    Term,
    Use,
    Var,
    Weight,
)


def print_program(program: Program) -> str:
    """The whole program, one definition a line."""
    params = ", ".join(f"{k} = {v}" for k, v in program.params)
    lines = [f"program {program.name}({params})"]
    lines += [f"  width {w.name} = {show(w.size)}" for w in program.widths]
    lines += [
        f"  input {i.name}{_brackets(i.axes)}: {'scalar' if i.dim is None else show(i.dim)}" for i in program.inputs
    ]
    lines += ["  " + print_weight(w) for w in program.weights]
    lines += ["  " + print_instr(i, program) for i in program.instrs if not isinstance(i.op, Data)]
    lines += [f"  output {o.name} = {o.var}{_brackets(program.var(o.var).axes)}" for o in program.outputs]
    return "\n".join(lines) + "\n"


def print_differentiated(diff: Differentiated) -> str:
    """The program with its adjoints, and the uses of the weights."""
    return print_program(diff.program) + "\n".join(["  " + print_use(u) for u in diff.uses]) + "\n"


def print_weight(weight: Weight) -> str:
    """`weight W[3]: [n, d] ~ N(0, 1 / d) lr 1 / d`"""
    dims = [_dim(d) for d in (weight.rows, weight.cols) if d is not None]
    shape = f": [{', '.join(dims)}]" if dims else ""
    extents = f"[{', '.join(show(a.extent) for a in weight.axes)}]" if weight.axes else ""
    law = f"N({show(weight.mean)}, {show(weight.variance)})"
    rate = "" if weight.lr == weight.variance else f" lr {show(weight.lr)}"
    return f"weight {weight.name}{extents}{shape} ~ {law}{rate}"


def print_use(use: Use) -> str:
    """`d W[p] += dg[i] (x) h[i + p]`"""
    col = "" if use.col is None else f" (x) {_element(use.col, use.col_index)}"
    factor = "" if use.coef == ONE else show(use.coef) + " * "
    where = f"   over {_ranges(use.domain)}" if use.domain else ""
    return f"use d{_element(use.weight, use.windex)} += {factor}{_element(use.row, use.row_index)}{col}{where}"


def print_instr(instr: Instr, program: Program) -> str:
    """`name[axes] : dim = right side`"""
    return f"{print_var(instr.var)} = {print_op(instr.op, instr.var, program)}"


def print_var(var: Var) -> str:
    """`g[t < T] : n`"""
    return f"{var.name}{_brackets(var.axes)} : {'scalar' if var.dim is None else _dim(var.dim)}"


def print_op(op: Operation, var: Var, program: Program) -> str:
    """The right side of a definition."""
    match op:
        case Data(input=name):
            return f"input {name}"
        case MatMul():
            return _matmul(op, var)
        case Linear(terms=terms):
            return " + ".join(_term(t, var) for t in terms).replace("+ -", "- ") or "0"
        case Pointwise(fn=fn, args=args):
            return show(substitute(fn, {f"a{k}": Sym(_read(a)) for k, a in enumerate(args)}))
        case MaxOver(operand=h, over=k):
            bound = program.var(h).axes[-k:]
            index = tuple(Sym(a.index) for a in program.var(h).axes)
            return f"max({_ranges(bound)}) {_element(h, index)}"
        case Inner(left=u, right=v, coef=c):
            factor = "" if c == ONE else show(c) + " * "
            return f"{factor}dot({_read(u)}, {'ones' if v is None else _read(v)})"


def _matmul(op: MatMul, var: Var) -> str:
    prefix, back = _reduction(op.map, var)
    weight = _element(op.weight, tuple(substitute(e, back) for e in op.windex)) + (".T" if op.transposed else "")
    if op.operand is None:
        weight = f"weight {weight}"
    operand = (
        "" if op.operand is None else f" @ {_element(op.operand, tuple(substitute(e, back) for e in op.map.source))}"
    )
    factor = "" if op.coef == ONE else show(substitute(op.coef, back)) + " * "
    return f"{prefix}{factor}{weight}{operand}"


def _term(term: Term, var: Var) -> str:
    prefix, back = _reduction(term.map, var)
    coef = substitute(term.coef, back)
    sign = "-" if isinstance(coef, Num) and coef.value < 0 else ""
    coef = neg(coef) if sign else coef
    parts = [_factor(coef)] if coef != ONE else []
    parts += [_element(s.var, tuple(substitute(e, back) for e in s.index)) for s in term.scalars]
    if term.operand is not None:
        parts.append(_element(term.operand, tuple(substitute(e, back) for e in term.map.source)))
    return f"{sign}{prefix}{' * '.join(parts) or '1'}"


def _factor(coef: Expr) -> str:
    return (
        f"({show(coef)})"
        if isinstance(coef, Op) and coef.fn in {"add", "eq", "ne", "lt", "le", "gt", "ge"}
        else show(coef)
    )


def _reduction(map_: Map, var: Var) -> tuple[str, dict[str, Expr]]:
    """What is summed over, and how the domain's indices are written in those of the result."""
    back: dict[str, Expr] = {}
    conditions = []
    for axis, expr in zip(var.axes, map_.target, strict=True):
        if isinstance(expr, Sym) and expr.name not in back and any(a.index == expr.name for a in map_.domain):
            back[expr.name] = Sym(axis.index)
        else:
            conditions.append((expr, axis.index))
    free = [a for a in map_.domain if a.index not in back]
    back.update({a.index: Sym(a.index + "'") for a in free if a.index in {axis.index for axis in var.axes}})
    texts = [f"{show(back.get(a.index, Sym(a.index)))} < {show(a.extent)}" for a in free]
    texts += [f"{show(substitute(e, back))} = {index}" for e, index in conditions]
    return (f"sum({', '.join(texts)}) " if texts else ""), back


def _brackets(axes: tuple[Axis, ...]) -> str:
    return f"[{_ranges(axes)}]" if axes else ""


def _ranges(axes: tuple[Axis, ...]) -> str:
    return ", ".join(f"{a.index} < {show(a.extent)}" for a in axes)


def _dim(dim: Dim) -> str:
    return show(dim.size)


def _read(read: Read) -> str:
    return _element(read.var, read.index)


def _element(name: str, index: tuple[Expr, ...]) -> str:
    return f"{name}[{', '.join(show(e) for e in index)}]" if index else name
