"""Derivations and data for their evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tensorprog
from tensorprog.derivation.algebra import add
from tensorprog.derivation.derive import derive
from tensorprog.elaborate.symbols import with_symbols
from tensorprog.ir import expr as ex
from tensorprog.ir.check import default_sizes
from tensorprog.limit import analyse
from tests.derivation.evaluating import Reader

EXAMPLES = Path(__file__).parents[2] / "examples"


def derivation(name, **params):
    """The derivation of an example, parameters as symbols."""
    return of(tensorprog.load(EXAMPLES / f"{name}.tp", **params))


def of(net):
    """The derivation of a network, parameters as symbols."""
    return derive(analyse(with_symbols(net.elaborated)))


def both(net, seed=0):
    """(NNGP, NTK) of two random examples, as printed and as the engine has them, and whether it sampled nothing."""
    found = of(net)
    sizes = default_sizes(net.program)
    inputs = _inputs(net.program, sizes, np.random.default_rng(seed))
    numbers = {k: float(v) for k, v in net.program.params if v.replace(".", "").isdigit()}
    extents = {
        (found.table[i.var.name].name, found.table[i.var.name].level): tuple(a.extent for a in i.var.axes)
        for i in found.limit.program.instrs
        if i.var.name in found.table
    }
    blocks = (*found.forward, *found.backward, *((found.nngp,) if found.nngp else ()))
    reader = Reader(blocks, inputs, {**numbers, **sizes}, extents)
    printed = [reader.value(found.nngp.right), reader.value(add(*(n for _, n in found.ntk)))]
    kernels = net.kernels(inputs if len(inputs) > 1 else next(iter(inputs.values())))
    exact = kernels.nngp_se is None and kernels.ntk_se is None
    return printed, [kernels.nngp[0, 1], kernels.ntk[0, 1]], exact


def _inputs(program, sizes, rng):
    """Two random examples."""
    found = {}
    for i in program.inputs:
        axes = [int(ex.evaluate(a.extent, sizes)) for a in i.axes]
        found[i.name] = rng.normal(size=(2, *axes, *([] if i.dim is None else [int(ex.evaluate(i.dim, sizes))])))
    return found
