"""The Gaussian under which a product of two groups is a polynomial times half-lines.

    z_i = flip_i (u_i - origin_i), then the forms of gates of several variables, then noise for each normcdf or erf
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tensorprog.ir.expr import ONE, ZERO
from tensorprog.symbolic.covariance import Noisy
from tensorprog.symbolic.gates import Group
from tensorprog.symbolic.law import Gates, Law
from tensorprog.symbolic.orthant import Array, array
from tensorprog.symbolic.weights import Params, Weights, affine, number

Row = tuple[Weights, Any]  # an affine form of the variables


def enlarge(law: Law, a: Group, b: Group, params: Params) -> tuple[Law, Gates]:
    """The law of the centred variables z, of the forms of other gates and of noise, and the gates by index."""
    knots = (*a.knots, *b.knots)
    flips = [number(k.flip, params) for k in knots]
    shifts = [-f * number(k.origin, params) for k, f in zip(knots, flips, strict=True)]
    rows: list[Row] = [({i: f}, shift) for i, (f, shift) in enumerate(zip(flips, shifts, strict=True))]
    gates = [(i, knot.kind) for i, knot in enumerate(knots) if knot.kind]
    noisy: list[tuple[str, Noisy]] = []
    for gate, offset in [(g, 0) for g in a.others] + [(g, len(a.knots)) for g in b.others]:
        form, const = affine(gate.form, offset, params)
        single = _on_variable(form, const, rows) if gate.soft else None
        if single is None:
            rows.append((form, const))
            single = Noisy(len(rows) - 1, 1.0, 0.0, 1.0)
        if gate.soft:
            noisy.append((gate.kind, single))
        else:
            gates.append((len(rows) - 1, gate.kind))
    gates += [(len(rows) + i, kind) for i, (kind, _) in enumerate(noisy)]
    plain = len(rows) == len(knots) and all(k.flip == ONE and k.origin == ZERO for k in knots)
    if plain and not noisy:
        return law, tuple(gates)
    mean, cov = (law.mean, law.cov) if plain else _mapped(law, rows)
    return Law(mean, cov, [y for _, y in noisy]), tuple(gates)


def _on_variable(form: Weights, const: Any, rows: list[Row]) -> Noisy | None:
    """A soft gate of one variable, scaled to slope +-1, on the centred one."""
    if len(form) != 1:
        return None
    ((i, slope),) = form.items()
    size = np.abs(slope)
    if not np.all(size > 0):
        return None
    (weights, shift) = rows[i]
    sign = np.sign(slope) * weights[i]
    return Noisy(i, sign if np.ndim(sign) else float(sign), const / size - sign * shift, 1 / size**2)


def _mapped(law: Law, rows: list[Row]) -> tuple[list[Array], list[list[Array]]]:
    """Mean and covariance of the affine images row . x + const."""
    mean = [array(sum((law.mean[i] * c for i, c in row.items()), start=const)) for row, const in rows]
    return mean, [[_image(law, x, y) for y in rows] for x in rows]


def _image(law: Law, x: Row, y: Row) -> Array:
    return array(sum(c * d * law.cov[i][j] for i, c in x[0].items() for j, d in y[0].items()))
