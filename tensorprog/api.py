"""What a Python user holds: `load` gives a `Network`, which answers everything about one program."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tensorprog import arguments
from tensorprog.arguments import Seeds, Width
from tensorprog.dataset import Dataset, bind, check_pair, check_same_shapes
from tensorprog.elaborate import Elaborated, elaborate
from tensorprog.elaborate.driver import Parameter
from tensorprog.elaborate.symbols import numbers, with_parameters, with_symbols
from tensorprog.errors import Diagnostic, Source, fail
from tensorprog.finite.threads import team
from tensorprog.ir import joint
from tensorprog.ir.check import default_sizes
from tensorprog.ir.program import Output, Program
from tensorprog.lang import read_source
from tensorprog.limit import Limit, analyse
from tensorprog.limit.analyse import choose_output
from tensorprog.report import Check, Derivation, describe, output_report
from tensorprog.results import check_finite, check_memory, is_number, kind_of, like, row_names, rows_of, type_of

if TYPE_CHECKING:  # these need numba and come on first use
    from tensorprog.evaluate import Derived, KernelCotangents, KernelGradients, Kernels, KernelTangents
    from tensorprog.finite import Network as Weights
    from tensorprog.store import Written
    from tensorprog.training import Training, TrainingStudy
    from tensorprog.validation import Draw
    from tensorprog.verdict import Validation

Array = NDArray[np.floating[Any]]
Limits = tuple[NDArray[np.float64], NDArray[np.float64] | float]  # values and their standard errors
Progress = Callable[[str, float], None]

STUDY_SECONDS = 10.0
INDEPENDENT = "a recursion that takes a weight and its transpose as independent has another limit"


def load(path_or_source: str | os.PathLike[str], program: str | None = None, **params: Parameter) -> Network:
    """The network of a .tp file, or of source text (a str with a line break).

    `program` chooses among the programs of a file; `params` are compile-time parameters of the program,
    numbers or names of functions: `load("mlp.tp", depth=5, phi="gelu")`.
    Raises TensorProgError for every mistake in the file or the parameters.
    """
    source, folder = _source(path_or_source)
    return Network(elaborate(source, params, program, folder))


def _source(path_or_source: str | os.PathLike[str]) -> tuple[Source, Path | None]:
    if isinstance(path_or_source, str) and ("\n" in path_or_source or path_or_source.startswith("program ")):
        return Source("<string>", path_or_source), None
    return read_source(path_or_source), Path(path_or_source).parent


@final
@dataclass(frozen=True, repr=False)
class Network:
    """One program with its parameters chosen.

    Kernels have the shape [N1, N2]; for an output with axes `output f[i in B]` the shape is
    [N1, B, N2, B], one entry for every pair (example, index).  If those axes have different extents in
    different examples, rows are (example, index) pairs, example by example, and the kernel is a plain matrix.
    Results are float32 when all data is float32, else float64.  `output` names one of several outputs.
    """

    elaborated: Elaborated
    _limits: dict[str, Limit] = field(default_factory=dict, compare=False)
    _derived: dict[str, Derived] = field(default_factory=dict, compare=False)

    @property
    def program(self) -> Program:
        """The straight-line program."""
        return self.elaborated.program

    def __repr__(self) -> str:
        return f"<tensorprog {describe(self.program)}>"

    # -------------------------------------------------------------- the limit

    def limit(self, output: str | None = None) -> Limit:
        """The infinite-width limit of an output.  Raises TensorProgError where it does not exist."""
        name = self.output(output).name
        if name not in self._limits:
            self._limits[name] = analyse(self.program, name)
        return self._limits[name]

    def _derivations(self, output: str | None) -> Derived:
        """What was derived for the kernels of an output, which the next call needs again."""
        from tensorprog.evaluate import Derived

        name = self.output(output).name
        if name not in self._derived:
            self._derived[name] = Derived(self.limit(name))
        return self._derived[name]

    def _parametric(self, output: str, names: tuple[str, ...]) -> Derived:
        """The same with parameters as symbols."""
        from tensorprog.evaluate import Derived

        key = " ".join((output, *names))
        if key not in self._derived:
            self._derived[key] = Derived(analyse(with_parameters(self.elaborated, names), output))
        return self._derived[key]

    def __reduce__(self) -> tuple[type[Network], tuple[Elaborated]]:
        """Copies derive anew."""
        return Network, (self.elaborated,)

    def output(self, name: str | None = None) -> Output:
        """The output of that name; the only one when no name is given."""
        return self.program.output(choose_output(self.program, name))

    def check(self) -> Check:
        """Roles, scaling and the gradient-independence verdict of every output, and all warnings.

        Raises TensorProgError when the program is wrong at all small sizes, or a limit does not exist.
        """
        default_sizes(self.program)
        limits = {o.name: self.limit(o.name) for o in self.program.outputs}
        notes: dict[Diagnostic, None] = dict.fromkeys(self.elaborated.notes)
        for limit in limits.values():
            notes.update(dict.fromkeys(limit.notes))
        return Check(self.program, tuple(output_report(m, name) for name, m in limits.items()), tuple(notes))

    def derive(self, output: str | None = None) -> Derivation:
        """The recursion of both kernels, parameters of variances as symbols; formulas in a notebook."""
        return Derivation(analyse(with_symbols(self.elaborated), self.output(output).name))

    # -------------------------------------------------------------- kernels

    def nngp(self, x1: Any = None, x2: Any = None, output: str | None = None) -> Array:
        """The covariance of the outputs at initialization, [N1, N2]; x2 None means x1."""
        found: Array | None = self.kernels(x1, x2, output, want=("nngp",)).nngp
        assert found is not None
        return found

    def ntk(self, x1: Any = None, x2: Any = None, output: str | None = None) -> Array:
        """The neural tangent kernel, [N1, N2]; x2 None means x1."""
        found: Array | None = self.kernels(x1, x2, output, want=("ntk",)).ntk
        if found is None:
            raise self.limit(output).ntk_error or fail("the output has no tangent kernel", self.output(output).span)
        return found

    @team()
    def kernels(
        self,
        x1: Any = None,
        x2: Any = None,
        output: str | None = None,
        *,
        want: tuple[str, ...] = ("nngp", "ntk"),
        tier: str = "auto",
        accuracy: float | None = None,
        samples: int = 4096,
        replicates: int = 8,
        seed: int = 0,
        progress: Progress | None = None,
        dtype: str | None = None,
        reductions: bool = True,
    ) -> Kernels:
        """Both kernels with standard errors (`nngp_se`, `ntk_se`, None where exact) and `report`.

        `tier` is "auto", "closed", "quadrature" or "sampling".  What has to be sampled is sampled until the largest
        standard error over the scale of its kernel, max se[i, j] / sqrt(K[i, i] K[j, j]), is below `accuracy`, or with
        `replicates` independent runs of `samples` draws each.  `progress(message, fraction)` is called on long work.
        `dtype` is "float64", "float32" (inner products and results; about 1e-6 of the largest entry), or None.
        Kernels that are functions of the cosine of two examples, as on data of equal norms, are tabulated where that
        pays, with an error that the report states, unless `reductions` is off.
        Data as `tensorprog.dataset.bind` takes it.  Raises TensorProgError for data that does not fit.
        """
        from tensorprog.evaluate import Options, evaluate

        start = time.perf_counter()
        kind = None if dtype is None else arguments.float_type(dtype).name
        options = arguments.checked(
            Options(want, tier, accuracy, samples, replicates, seed, progress, kind or "float64", reductions))
        left, right = self._bind(x1, x2)
        rows = [rows_of(self.program, self.output(output), d) for d in (left, right or left)]
        check_memory(rows[0].total * rows[1].total, len(options.want))
        kernels = evaluate(self._derivations(output), left, right, options)
        check_finite(kernels, self.output(output), right is None)
        shaped = kernels.shaped(rows[0].shape + rows[1].shape, kind or type_of(x1, x2))
        return replace(shaped, seconds=time.perf_counter() - start)

    def kernel_gradients(
        self,
        x1: Any = None,
        x2: Any = None,
        output: str | None = None,
        *,
        wrt: Sequence[str] | Mapping[str, float],
        want: tuple[str, ...] = ("nngp", "ntk"),
        tier: str = "auto",
        progress: Progress | None = None,
        reductions: bool = True,
    ) -> KernelGradients:
        """Both kernels and their derivatives with respect to parameters of the program, exact as the kernels are.

        `wrt` names parameters that are numbers, in variances, coefficients or nonlinearities, or gives other numbers
        for them, {"sw": 1.3}; `d_nngp[p]` and `d_ntk[p]` have the shape of the kernels.
        Many derivatives on data of equal norms are tabulated as kernels are, unless `reductions` is off.

        Raises TensorProgError for a parameter that is unknown, no number or decides what is computed, such as a
        depth, and for what has to be sampled.
        """
        from tensorprog.evaluate import Options, gradients

        options = arguments.checked(Options(want, tier, progress=progress, reductions=reductions))
        names, others = arguments.parameters_of(wrt)
        values = numbers(self.program, names, others)
        left, right = self._bind(x1, x2)
        chosen = self.output(output)
        rows = [rows_of(self.program, chosen, d) for d in (left, right or left)]
        check_memory(rows[0].total * rows[1].total, len(options.want) * (1 + len(names)))
        found = gradients(self._parametric(chosen.name, names), values, left, right, options)
        return found.shaped(rows[0].shape + rows[1].shape, type_of(x1, x2))

    def kernel_jvp(
        self,
        x1: Any = None,
        x2: Any = None,
        output: str | None = None,
        *,
        along: Any,
        want: tuple[str, ...] = ("nngp", "ntk"),
        tier: str = "auto",
        progress: Progress | None = None,
    ) -> KernelTangents:
        """Both kernels, and their derivatives `d_nngp`, `d_ntk` as the inputs x1 move along a direction.

            d K(x1 + e along, x2) / d e  at e = 0;  of x1 with itself (x2 None) both arguments move

        `along` has the form and the shapes of x1.  Raises TensorProgError where it has not, and for what has to be
        sampled.
        """
        from tensorprog.evaluate import Options, pushed

        options = arguments.checked(Options(want, tier, progress=progress))
        left, right = self._bind(x1, x2)
        rows = [rows_of(self.program, self.output(output), d) for d in (left, right or left)]
        check_memory(rows[0].total * rows[1].total, 2 * len(options.want))
        direction = bind(self.program, along)
        check_same_shapes(self.program, left, direction)
        found = pushed(self._derivations(output), left, right, direction, options)
        return found.shaped(rows[0].shape + rows[1].shape, type_of(x1, x2))

    def kernel_vjp(
        self,
        x1: Any = None,
        x2: Any = None,
        output: str | None = None,
        *,
        nngp: Any = None,
        ntk: Any = None,
        tier: str = "auto",
        progress: Progress | None = None,
    ) -> KernelCotangents:
        """The gradient `x` of a weighted sum of the entries of kernels by all inputs x1, in the form of x1.

            x_i = d / d x1_i  sum_ij (nngp_ij NNGP_ij + ntk_ij NTK_ij);  of x1 with itself (x2 None) both arguments move

        `nngp` and `ntk` are arrays of weights with the shape of the kernel, None for a kernel that does not matter.
        The kernels themselves come along.  Raises TensorProgError as `kernel_jvp` does.
        """
        from tensorprog.evaluate import Options, pulled

        given = {name: k for name, k in (("nngp", nngp), ("ntk", ntk)) if k is not None}
        if not given:
            raise fail("kernel_vjp needs weights for the entries of a kernel: nngp=, ntk=, or both")
        options = arguments.checked(Options(tuple(given), tier, progress=progress))
        left, right = self._bind(x1, x2)
        rows = [rows_of(self.program, self.output(output), d) for d in (left, right or left)]
        full = rows[0].shape + rows[1].shape
        weights = {name: arguments.weights_of(name, k, full).reshape(rows[0].total, rows[1].total)
                   for name, k in given.items()}
        found = pulled(self._derivations(output), left, right, weights, options).shaped(full, type_of(x1, x2))
        return replace(found, x=like(self.program, left, found.x, x1, type_of(x1, x2)))

    def write_kernels(
        self,
        out: str | os.PathLike[str],
        x1: Any = None,
        x2: Any = None,
        output: str | None = None,
        *,
        want: tuple[str, ...] = ("nngp", "ntk"),
        tier: str = "auto",
        memory: str | int | None = None,
        cluster: str | None = None,
        progress: Progress | None = None,
        dtype: str | None = None,
        reductions: bool = True,
    ) -> Written:
        """The kernels to disk, block by block, in `memory` ("2GB", or bytes; half of what is free when left out).

        `out` is K.zarr (a zarr group with the arrays nngp and ntk), K.npy (a file for one kernel; for both
        K.nngp.npy and K.ntk.npy, to be read by np.load(..., mmap_mode="r")) or K.npz.  Until they are whole they are in
        the folder `out`.partial, and the same call goes on there after an interruption.  `cluster` is "local" or the
        address of a dask scheduler; then `memory` is for each process.  `dtype` and `reductions` as for `kernels`.

        Raises TensorProgError for what has to be sampled, as that draws all examples jointly, for too little memory or
        disk, and when the folder is that of another kernel.
        """
        from tensorprog.evaluate import Options
        from tensorprog.store import Asked, Wanted, write_kernels

        kind = None if dtype is None else arguments.float_type(dtype).name
        options = arguments.checked(Options(want, tier, progress=progress, dtype=kind or "float64"))
        left, right = self._bind(x1, x2)
        chosen = self.output(output)
        rows = [rows_of(self.program, chosen, d) for d in (left, right or left)]
        how = Wanted(Path(out), options.want, tier, memory, cluster, progress, options.dtype, reductions)
        asked = Asked(self.elaborated, chosen.name, left, right)
        shapes = rows[0].shape, rows[1].shape
        return write_kernels(asked, self.limit(output), shapes, kind or type_of(x1, x2), how)

    def value(self, x: Any = None, output: str | None = None) -> Array:
        """The limit of an output that is a number, such as avg(h) or dot(u, v) / n: [N], [N, B] with an axis.

        Raises TensorProgError when the output is not a number in the limit.
        """
        return self.estimate(x, output)[0]

    def estimate(
        self,
        x: Any = None,
        output: str | None = None,
        *,
        accuracy: float | None = None,
        samples: int = 4096,
        replicates: int = 8,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> tuple[Array, Array]:
        """`value` and its standard error, zero where it is not sampled; options as for `kernels`."""
        from tensorprog.evaluate import Options, scalar_limit

        options = arguments.checked(Options((), "auto", accuracy, samples, replicates, seed, progress))
        chosen = self.output(output)
        if not is_number(self.limit(output)):
            raise fail(f"output '{chosen.name}' is no number in the limit", chosen.span, "ask for its kernels")
        data = bind(self.program, x)
        shape = rows_of(self.program, chosen, data).shape
        value, error = scalar_limit(self.limit(output), data, options)
        return value.reshape(shape), error.reshape(shape)

    def _bind(self, x1: Any, x2: Any) -> tuple[Dataset, Dataset | None]:
        left = bind(self.program, x1)
        if x2 is None:
            return left, None
        right = bind(self.program, x2)
        check_pair(self.program, left, right)
        return left, right

    # -------------------------------------------------------------- finite width

    def weights(
        self, x: Any = None, width: Width = None, seed: int = 0, dtype: DTypeLike = np.float32
    ) -> Weights:
        """One draw of all weights at finite width: `.values[name]` is [elements, rows, cols], elements of its axes.

        Sizes that weights depend on are those of the data `x`.  `width` is that of the first width of the program,
        others in their ratios, or {"n": 512, "m": 64} for all (default: as the file says).
        """
        from tensorprog.finite import draw

        data, first = bind(self.program, x), arguments.whole("a seed", seed, 0)
        return draw(self.program, data.sizes(), self._widths(width, data), first, arguments.float_type(dtype))

    def empirical(
        self,
        x: Any = None,
        weights: Weights | None = None,
        output: str | None = None,
        *,
        want: tuple[str, ...] = ("nngp", "ntk"),
        memory: str | int | None = None,
    ) -> Draw:
        """Outputs and both empirical kernels of the network with these weights (default: one draw).

            ntk  = sum over weights W of lr(W) <d f / d W, d f' / d W>
            nngp = covariance of the outputs given all but the readout weights

        Kernels have the shape of `nngp` and `ntk`, [N, N] or [N, B, N, B]; the precision is that of the weights.
        With `memory` ("500MB", or bytes) examples are run in blocks, so that arrays take no more at any time.
        Raises TensorProgError for data that does not fit the weights, and for too little memory.
        """
        from tensorprog.validation import measured

        data = bind(self.program, x)
        chosen = self.output(output)
        if weights is None:
            weights = self.weights(x)
        arguments.check_weights(self.program, weights, data.sizes())
        limit = arguments.byte_count(memory)
        found = measured(self.program, chosen.name, data, weights, arguments.kinds(want), limit)
        rows = rows_of(self.program, chosen, data).shape

        def view(k: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
            return None if k is None else k.reshape(rows + rows)

        return replace(found, outputs=found.outputs.reshape(rows + found.outputs.shape[1:]), nngp=view(found.nngp),
                       ntk=view(found.ntk))

    def simulate(
        self,
        x: Any = None,
        width: Width = None,
        seeds: Seeds = 1,
        output: str | None = None,
        *,
        want: tuple[str, ...] = ("nngp", "ntk"),
        dtype: DTypeLike = np.float32,
        memory: str | int | None = None,
    ) -> tuple[Draw, ...]:
        """Networks of finite width, one per seed: outputs and both empirical kernels, as matrices over rows.

        `width` and `dtype` as for `weights`, `memory` as for `empirical` and shared by the threads, which take a seed
        each; `seeds` are seeds, or how many.  `want=()` leaves the kernels out.
        """
        from tensorprog.finite import draw
        from tensorprog.finite.threads import parallel, workers
        from tensorprog.validation import measured

        data = bind(self.program, x)
        name, widths, kind = self.output(output).name, self._widths(width, data), arguments.float_type(dtype)
        kinds, chosen, limit = arguments.kinds(want), arguments.seeds_of(seeds), arguments.byte_count(memory)
        share = None if limit is None else limit // min(workers(), len(chosen))

        def one(seed: int) -> Draw:
            network = draw(self.program, data.sizes(), widths, seed, kind)
            return measured(self.program, name, data, network, kinds, share)

        return tuple(parallel(one, chosen))

    def export(self, library: str) -> str:
        """The program as the text of a Python module that imports only "numpy" or "torch".

        It has `forward(w, inputs...)` with the meaning of `simulate`, batched over examples, `initial` (parameters
        drawn as the program says) and `rates` (the learning rate of each); for torch also a Module.  Raises
        TensorProgError for another library, and for states that are no loop over one axis.
        """
        from tensorprog.export import source

        return source(self.program, library)

    def save_weights(self, out: str | os.PathLike[str], weights: Weights) -> None:
        """Parameters to a .npz file, for `forward` of `export`: NAME [axes..., rows, cols], and lr/NAME, its rate."""
        from tensorprog.export import save_parameters

        save_parameters(self.program, arguments.check_weights(self.program, weights, {}), Path(out))

    def _widths(self, width: Width, data: Dataset) -> dict[str, int]:
        from tensorprog.finite import widths_at

        chosen = arguments.with_widths(self.program, width)
        return widths_at(chosen, arguments.first_width(chosen, width), data.sizes())

    def _at(self, width: Width) -> Network:
        """The network whose widths are in these ratios."""
        chosen = arguments.with_widths(self.program, width)
        return self if chosen is self.program else Network(replace(self.elaborated, program=chosen))

    def validate(
        self,
        x: Any = None,
        widths: Sequence[int] | None = None,
        seeds: int | None = None,
        output: str | None = None,
        progress: Progress | None = None,
        seconds: float = STUDY_SECONDS,
        accuracy: float | None = None,
        against: Network | Mapping[str, Any] | None = None,
        seed: int = 0,
        *,
        width: Mapping[str, int] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> Validation:
        """The limit beside simulations: deviations at several widths, their slope, the law of the outputs, a verdict.

        What is not given of `widths` and `seeds` (networks at each width) is chosen so that the simulations take
        about `seconds`; a limit that is sampled has the `accuracy` of `kernels`.  Compared are both kernels, or the
        value of an output that is a number in the limit; of several outputs without a choice all together, with their
        covariances across examples and their joint law.  `against` is another limit to compare the simulations with:
        that of another network, or arrays {"nngp": K, "ntk": K} of one's own, in the shape of those of `kernels`.
        A limit that is right is called wrong with a probability of at most 0.001; another `seed` draws other networks.

        `widths` are those of the first width of the program; others, and the limit, have the ratios that the file
        says, or those of `width`, {"n": 16, "m": 32}.  Networks are simulated in `dtype`, float32 or float64.
        Raises TensorProgError where float32 has not the range.
        """
        from tensorprog.limit.gaussian import is_gaussian, stays_random
        from tensorprog.validation import affordable_widths, study

        chosen = None if widths is None else arguments.widths_of(widths)
        count = None if seeds is None else arguments.whole("the number of seeds", seeds)
        time_limit, first = arguments.positive("seconds", seconds), arguments.whole("a seed", seed, 0)
        data, kind = bind(self.program, x), arguments.float_type(dtype)
        net, name = self._at(arguments.ratios(width))._studied(output)
        if against is None:
            limits = net._limit_values(x, name, accuracy, progress)
        elif isinstance(against, Network):
            other, claimed = against._studied(output if len(against.program.outputs) > 1 else None)
            limits = other._limit_values(x, claimed)
        else:
            limits = arguments.claimed(against, rows_of(net.program, net.output(name), data).total)
        if chosen is None or count is None:
            chosen, affordable = affordable_widths(net.program, name, data, time_limit, chosen, kind)
            count = count or affordable
        limit = net.limit(name)
        hint = "" if against is None or limit.verdict.holds else f"{limit.verdict.reason}; {INDEPENDENT}"
        outputs = self.program.outputs if name == joint.NAME else (self.output(output),)
        return study(net.program, name, data, limits, chosen, count, progress, gaussian=is_gaussian(limit),
                     random=stays_random(limit), hint=hint,
                     rows=row_names(self.program, outputs, data), seed=first, dtype=kind)

    def _studied(self, output: str | None) -> tuple[Network, str]:
        """The network and the output that a study is of: the one chosen, or all of several as one family.

        Raises TensorProgError where these are not all random scalars, or all numbers.
        """
        if output is not None or len(self.program.outputs) == 1:
            return self, self.output(output).name
        kinds = {o.name: kind_of(self.limit(o.name)) for o in self.program.outputs}
        if len(set(kinds.values())) > 1 or "a vector" in kinds.values():
            found = ", ".join(f"{name} is {kind}" for name, kind in kinds.items())
            raise fail(f"these outputs have no joint law: {found}", self.program.span, "choose one by its name")
        joined = joint.joined(self.program)
        return Network(replace(self.elaborated, program=joined)), joint.NAME

    def write_report(
        self,
        path: str | os.PathLike[str],
        found: Validation,
        training: Training | None = None,
        output: str | None = None,
    ) -> None:
        """Writes what `validate` found, and what `train` did, as one HTML page.

        It has the program, its derivation, figures, numbers and the verdict, and needs no other file.  TensorProgError
        when the file cannot be written.
        """
        from tensorprog.files import written_whole
        from tensorprog.reporting import page, setting

        program = with_symbols(self.elaborated)
        several = output is None and len(program.outputs) > 1
        limit = analyse(joint.joined(program)) if several else analyse(program, self.output(output).name)
        text = page(setting(self.elaborated, limit, found), found, training)
        with written_whole(Path(path)) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def train(
        self,
        x: Any,
        y: Any,
        x_test: Any = None,
        width: Width = None,
        seed: int = 0,
        *,
        steps: int = 100,
        step: float | None = None,
        loss: str = "squared",
        flow: bool = False,
        output: str | None = None,
        progress: Progress | None = None,
        dtype: DTypeLike = np.float32,
    ) -> Training:
        """Trains a network of finite width beside the predictions of its limit and of its linearization.

        Full-batch gradient descent on the average of the losses, (f - y)^2 / 2 ("squared") or log(1 + exp(-y f))
        ("logistic", y = -1 or 1), each weight with its own `lr`; `flow`: gradient flow, by Runge and Kutta.  `y` has
        one number per output of the examples `x`; the outputs for `x_test` are recorded, too.  `step`, when left out,
        is the number of targets over the largest eigenvalue of the limiting NTK; descent is stable below twice that.
        `width` and `dtype` as for `weights`; the limit is that of widths in these ratios.
        Raises TensorProgError without an NTK, for targets that do not fit, and when training diverges.
        """
        from tensorprog.training import prepare, train

        chosen, first = arguments.first_width(self.program, width), arguments.whole("a seed", seed, 0)
        kind = arguments.float_type(dtype)
        task, schedule = prepare(self._at(width), x, y, x_test, output, loss, steps, step, flow)
        return train(task, chosen, first, schedule, progress, kind)

    def train_study(
        self,
        x: Any,
        y: Any,
        x_test: Any = None,
        widths: Sequence[int] = (64, 128, 256, 512),
        seeds: int = 4,
        *,
        steps: int = 100,
        step: float | None = None,
        loss: str = "squared",
        flow: bool = False,
        output: str | None = None,
        progress: Progress | None = None,
        width: Mapping[str, int] | None = None,
        dtype: DTypeLike = np.float32,
    ) -> TrainingStudy:
        """`train` at several widths, `seeds` networks each: how fast the deviations fall with the width.

        `widths`, `width` and `dtype` as for `validate`.
        """
        from tensorprog.training import prepare, train_study

        chosen, count = arguments.widths_of(widths), arguments.whole("the number of seeds", seeds)
        kind = arguments.float_type(dtype)
        task, schedule = prepare(self._at(arguments.ratios(width)), x, y, x_test, output, loss, steps, step, flow)
        return train_study(task, chosen, count, schedule, progress, kind)

    def _limit_values(
        self, x: Any, output: str, accuracy: float | None = None, progress: Progress | None = None
    ) -> dict[str, Limits]:
        """What simulation is compared with, as matrices over rows, with standard errors."""
        found: dict[str, Limits] = {}
        if is_number(self.limit(output)):
            value, error = self.estimate(x, output, accuracy=accuracy, progress=progress)
            found["value"] = (np.asarray(value, np.float64).ravel(), np.asarray(error, np.float64).ravel())
        if not self.program.inputs:
            return found
        from tensorprog.evaluate import Options, evaluate

        options = arguments.checked(Options(accuracy=accuracy, progress=progress))
        kernels = evaluate(self._derivations(output), bind(self.program, x), None, options)
        for kind, k, se in (("nngp", kernels.nngp, kernels.nngp_se), ("ntk", kernels.ntk, kernels.ntk_se)):
            if k is not None:
                found[kind] = (k, 0.0 if se is None else se)
        return found
