"""The one entrance to the evaluation: choose the tier, compute, report."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.dataset import Dataset, Group
from tensorprog.errors import TensorProgError, fail
from tensorprog.evaluate import analytic
from tensorprog.evaluate.options import Options
from tensorprog.evaluate.pairs import Errors, Tables
from tensorprog.ir import expr as ex
from tensorprog.ir.program import Linear
from tensorprog.limit.analyse import Limit
from tensorprog.limit.moments import Moments, Unservable

if TYPE_CHECKING:
    from tensorprog.evaluate.moving import Moving
    from tensorprog.evaluate.sampling import Sampled
    from tensorprog.evaluate.sampling_problem import Known

Floats = NDArray[np.float64]
Maker = Callable[[Limit, Moments, Group, Group, Sequence[str]], "Moving"]


@final
@dataclass(frozen=True, slots=True)
class Row:
    """One expectation: its text, the tier that served it, the largest estimate of its absolute error."""

    expectation: str
    tier: str
    error: float


@final
@dataclass(frozen=True, slots=True)
class Report:
    """Which tier served what, with which error; `reason` says why sampling was needed or what is missing."""

    rows: tuple[Row, ...]
    reason: str = ""

    def __str__(self) -> str:
        lines = [f"{r.tier:<10} {r.error:10.1e}  {r.expectation}" for r in self.rows]
        return "\n".join(["tier       abs. error  expectation", *lines, *([self.reason] if self.reason else [])])


@final
@dataclass(frozen=True, slots=True)
class Kernels:
    """NNGP and NTK, [examples * outputs, examples' * outputs'], with standard errors where they were sampled.

    `seconds` is the time of the call that made them, for `net.kernels`.
    """

    nngp: Floats | None
    ntk: Floats | None
    nngp_se: Floats | None = None
    ntk_se: Floats | None = None
    report: Report = field(default=Report(()))
    seconds: float = math.nan

    def _repr_html_(self) -> str:
        """Heat maps and how the kernels were computed, in a notebook."""
        from tensorprog.reporting import kernels_fragment

        return kernels_fragment(self)

    def shaped(self, shape: tuple[int, ...], dtype: str) -> Kernels:
        """All arrays in another shape and type."""
        arrays = {name: viewed(getattr(self, name), shape, dtype) for name in ("nngp", "ntk", "nngp_se", "ntk_se")}
        return replace(self, **arrays)


def viewed(kernel: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """A kernel in another shape and type; None stays."""
    return None if kernel is None else kernel.reshape(shape).astype(dtype, copy=False)


@final
@dataclass(frozen=True, slots=True)
class Derived:
    """What evaluations of one limit have derived: formulas by tier, tapes by tier and kernels, plans for sampling."""

    limit: Limit
    sampling: dict[Hashable, Known] = field(default_factory=dict)
    _moments: dict[str, Moments] = field(default_factory=dict)
    _prepared: dict[tuple[str, tuple[str, ...], tuple[str, ...]], analytic.Prepared] = field(default_factory=dict)
    _moving: dict[tuple[Hashable, ...], Moving] = field(default_factory=dict)

    def prepared(self, tier: str, want: tuple[str, ...], parameters: tuple[str, ...] = ()) -> analytic.Prepared:
        """The tapes of some kernels in a tier, with their derivatives by the parameters, always the same ones."""
        key = tier, want, parameters
        if key not in self._prepared:
            self._prepared[key] = analytic.Prepared(self.limit, self.moments(tier), want, parameters=parameters)
        return self._prepared[key]

    def moving(self, make: Maker, tier: str, want: tuple[str, ...], left: Group, right: Group) -> Moving:
        """The tapes that `make` makes for the sizes of two groups, always the same ones."""
        key = make.__name__, tier, want, analytic.sizes_of(left, right)
        if key not in self._moving:
            self._moving[key] = make(self.limit, self.moments(tier), left, right, want)
        return self._moving[key]

    def moments(self, tier: str) -> Moments:
        """The formulas of a tier."""
        return self._moments.setdefault(tier, Moments(self.limit, None if tier == "auto" else tier))


def evaluate(
    derived: Derived, left: Dataset, right: Dataset | None = None, options: Options | None = None
) -> Kernels:
    """The kernels between two data sets (or of one with itself).

    Raises TensorProgError when a kernel that is wanted does not exist or the wanted tier cannot serve it.
    """
    options, limit = options or Options(), derived.limit
    want = wanted(limit, options.want)
    zero = tuple(w for w in want if is_zero(limit, w))
    if zero:
        rest = replace(options, want=tuple(w for w in want if w not in zero))
        found = evaluate(derived, left, right, rest) if rest.want else Kernels(None, None)
        shape = analytic.output_rows(limit, left), analytic.output_rows(limit, right or left)
        nngp, ntk = (np.zeros(shape) if w in zero else k for w, k in (("nngp", found.nngp), ("ntk", found.ntk)))
        return replace(found, nngp=nngp, ntk=ntk)
    with np.errstate(all="ignore"):  # what is not finite is told as an error
        return _evaluate(derived, left, right, want, options)


def _evaluate(
    derived: Derived, left: Dataset, right: Dataset | None, want: tuple[str, ...], options: Options
) -> Kernels:
    """The tiers in their order."""
    limit = derived.limit
    if options.tier != "sampling":
        try:
            return _analytic(derived, left, right, want, options)
        except Unservable as reason:
            if options.tier != "auto":
                raise fail(
                    f"the {options.tier} tier cannot serve this program: {reason}",
                    limit.source.span,
                    "use --tier auto or sampling",
                ) from None
            return _sampled(derived, left, right, want, options, f"sampled because {reason}")
    return _sampled(derived, left, right, want, options, "sampled as asked")


def wanted(limit: Limit, want: tuple[str, ...]) -> tuple[str, ...]:
    """The kernels that exist among those wanted.  Raises TensorProgError when none of them does."""
    if "ntk" in want and limit.ntk_error is not None:
        if want == ("ntk",):
            raise limit.ntk_error
        want = tuple(w for w in want if w != "ntk")
    power = limit.powers[limit.output_var]
    if "nngp" in want and not limit.is_vector and limit.output_var not in limit.random and power == 0:
        if want == ("nngp",):
            raise fail(
                f"output '{limit.output}' is a number in the limit, not a Gaussian process",
                limit.source.output(limit.output).span,
                "its value is printed by derive and run; its NTK exists",
            )
        want = tuple(w for w in want if w != "nngp")
    return want


def _analytic(
    derived: Derived, left: Dataset, right: Dataset | None, want: tuple[str, ...], options: Options
) -> Kernels:
    inside = inner_randomness(derived.limit)
    if inside:
        raise Unservable(f"'{inside[0]}' stays random inside the network")

    def progress(fraction: float) -> None:
        if options.progress is not None:
            options.progress("kernels", fraction)

    missing, tables = "", Tables() if options.reductions else None
    try:
        prepared = derived.prepared(options.tier, want)
        found, errors = analytic.kernels(prepared, left, right, progress, options.dtype, tables)
    except TensorProgError as error:
        if want != ("nngp", "ntk"):
            raise
        missing = f"there is no NTK at equal examples: {error.diagnostics[0].message}"
        prepared = derived.prepared(options.tier, ("nngp",))
        found, errors = analytic.kernels(prepared, left, right, progress, options.dtype, tables)
    rows = served(errors, tables or {})
    return Kernels(found.get("nngp"), found.get("ntk"), report=Report(rows, missing))


def served(errors: Errors, tables: Tables) -> tuple[Row, ...]:
    """What expectations and tables contribute to a report."""
    names = {k: k.upper() if k in ("nngp", "ntk") else k for k in tables}
    tabulated = (Row(f"{names[k]} as a function of the cosine", "table", error) for k, error in tables.items())
    return (*(Row(describe(e), e.tier, error) for e, error in errors.values()), *tabulated)


def is_zero(limit: Limit, kernel: str) -> bool:
    """Whether a kernel vanishes as the width grows: the output does, or no weight moves it."""
    power = limit.powers[limit.output_var]
    if kernel == "ntk":
        return not limit.trained
    return power is None or (power < 0 and not limit.is_vector)


def describe(expectation: Any) -> str:
    """E[f(u) g(v)] in .tp syntax."""
    request = expectation.request
    inside = ex.show(request.left) if request.right == ex.ONE else f"{ex.show(request.left)} * {ex.show(request.right)}"
    return f"E[{inside}]"


def inner_randomness(limit: Limit) -> list[str]:
    """Scalars that stay random and are used for more than forming the output."""
    out = {limit.output_var}
    waiting = [limit.output_var]
    while waiting:
        op = limit.program.instr(waiting.pop()).op
        if isinstance(op, Linear):
            fixed = [t for t in op.terms if not any(s.var in limit.random for s in t.scalars)]
            inner = [t.operand for t in fixed if t.operand is not None]
            waiting += [n for n in inner if n not in out]
            out.update(inner)
    return sorted(limit.random - out)


def _sampled(
    derived: Derived, left: Dataset, right: Dataset | None, want: tuple[str, ...], options: Options, reason: str
) -> Kernels:
    from tensorprog.evaluate.sampling import sample

    limit, joined = derived.limit, left if right is None else join(left, right)
    try:
        found = sample(limit, joined, options, want, derived.sampling)
    except TensorProgError as error:
        if want != ("nngp", "ntk"):
            raise
        reason += f"; there is no NTK: {error.diagnostics[0].message}"
        found = sample(limit, joined, options, ("nngp",), derived.sampling)
    reason = "; ".join((reason, *found.notes))
    first = analytic.output_rows(limit, left)
    rows = cols = np.arange(first)
    if right is not None:
        cols = np.arange(first, analytic.output_rows(limit, joined))

    def cut(k: Floats | None) -> Floats | None:
        return None if k is None else k[np.ix_(rows, cols)]

    return Kernels(
        cut(found.nngp), cut(found.ntk), cut(found.nngp_se), cut(found.ntk_se), Report(_sampled_rows(found), reason)
    )


def _sampled_rows(found: Sampled) -> tuple[Row, ...]:
    """What was integrated, and the kernels that are means over draws."""
    rows = [Row(describe(e), e.tier, error) for e, error in found.integrated]
    over = f"over draws of {', '.join(found.drawn)}" if found.drawn else "over draws of scalars"
    for name, se in (("NNGP", found.nngp_se), ("NTK", found.ntk_se)):
        if se is not None and se.any():
            rows.append(Row(f"{name} {over}", "sampling", float(np.max(se))))
    return tuple(rows)


def join(left: Dataset, right: Dataset) -> Dataset:
    """The examples of both, those of `right` after those of `left`."""
    shifted = tuple(Group(g.sizes, g.batch, g.rows + left.count) for g in right.groups)
    return Dataset(left.groups + shifted, left.count + right.count)
