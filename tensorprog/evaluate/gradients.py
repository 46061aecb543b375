"""Derivatives of kernels with respect to parameters of the program, by the deterministic tiers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.dataset import Dataset
from tensorprog.errors import fail
from tensorprog.evaluate import analytic
from tensorprog.evaluate.kernels import Derived, Report, Row, inner_randomness, is_zero, served, viewed, wanted
from tensorprog.evaluate.options import Options
from tensorprog.evaluate.pairs import Tables
from tensorprog.ir import expr as ex
from tensorprog.ir.program import formulas
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Unservable

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True)
class KernelGradients:
    """Both kernels, and their derivatives by the name of the parameter; None for a kernel that is not there.

    `report` has the absolute errors of the expectations.
    """

    nngp: Any
    ntk: Any
    d_nngp: Mapping[str, Any] | None
    d_ntk: Mapping[str, Any] | None
    report: Report = field(default=Report(()))

    def shaped(self, shape: tuple[int, ...], dtype: str) -> KernelGradients:
        """All arrays in another shape and type."""

        def view(k: Any) -> Any:
            if isinstance(k, Mapping):
                return {p: view(x) for p, x in k.items()}
            return viewed(k, shape, dtype)

        return KernelGradients(view(self.nngp), view(self.ntk), view(self.d_nngp), view(self.d_ntk), self.report)


def gradients(
    derived: Derived, values: Mapping[str, Fraction], left: Dataset, right: Dataset | None, options: Options
) -> KernelGradients:
    """The kernels and their derivatives, of a limit in which the parameters `values` are symbols.

    Raises TensorProgError where a kernel has to be sampled, and for what has no derivative.
    """
    limit = derived.limit
    want = wanted(limit, options.want)
    alive = tuple(w for w in want if not is_zero(limit, w))
    left, right = _with_sizes(left, values), None if right is None else _with_sizes(right, values)
    shape = analytic.output_rows(limit, left), analytic.output_rows(limit, right or left)
    found: dict[str, Floats] = {}
    rows: tuple[Row, ...] = ()
    if alive:
        found, rows = _deterministic(derived, alive, tuple(values), left, right, options)
    names = [n for w in want for n in (w, *(analytic.derivative(w, p) for p in values))]
    found = {n: found.get(n, np.zeros(shape)) for n in names}
    for name, k in found.items():
        check_finite(name, k)

    def slopes(w: str) -> dict[str, Floats] | None:
        return {p: found[analytic.derivative(w, p)] for p in values} if w in want else None

    report = Report(rows)
    return KernelGradients(found.get("nngp"), found.get("ntk"), slopes("nngp"), slopes("ntk"), report)


def _deterministic(
    derived: Derived,
    want: tuple[str, ...],
    parameters: tuple[str, ...],
    left: Dataset,
    right: Dataset | None,
    options: Options,
) -> tuple[dict[str, Floats], tuple[Row, ...]]:
    _check_data(derived.limit, parameters)
    with without_sampling(derived.limit):
        prepared = derived.prepared(options.tier, want, parameters)
        tables = Tables() if options.reductions else None
        found, errors = analytic.kernels(prepared, left, right, _progress(options), tables=tables)
        return found, served(errors, tables or {})


@contextmanager
def without_sampling(limit: Limit) -> Iterator[None]:
    """Raises TensorProgError for kernels that have to be sampled, which is found before or inside; silent overflows."""
    try:
        inside = inner_randomness(limit)
        if inside:
            raise Unservable(f"'{inside[0]}' stays random inside the network")
        with np.errstate(all="ignore"):  # what is not finite is told as an error
            yield
    except Unservable as reason:
        raise fail(
            f"the derivatives of these kernels cannot be computed: {reason}",
            limit.source.span,
            "kernels that are sampled have no derivatives yet",
        ) from None


def check_finite(name: str, values: Floats) -> None:
    """Raises TensorProgError for an infinite number, or none."""
    if not np.isfinite(values).all():
        raise fail(f"{name} is not finite: an expectation overflows, or the derivative does not exist",
                   hint="scale very small or large data")


def _progress(options: Options) -> Any:
    return lambda fraction: options.progress("kernels", fraction) if options.progress else None


def _with_sizes(data: Dataset, values: Mapping[str, Fraction]) -> Dataset:
    """The data with the numbers of parameters among the sizes."""
    return replace(data, groups=tuple(replace(g, sizes={**g.sizes, **values}) for g in data.groups))  # type: ignore[dict-item]


def _check_data(limit: Limit, parameters: tuple[str, ...]) -> None:
    """Raises TensorProgError where a parameter changes what is known from the data alone."""
    for i in limit.program.instrs:
        if limit.orders.of[i.var.name].data:
            for p in parameters:
                if any(p in ex.symbols(e) for e in formulas(i.op)):
                    raise fail(
                        f"parameter '{p}' scales the data before the first weight; there is no derivative for it",
                        i.var.span,
                        "move it into the variance of the weight",
                    )
