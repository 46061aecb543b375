"""A whole module of NumPy or PyTorch: helpers, shapes and laws of the parameters, learning rates, the forward pass."""

from __future__ import annotations

import re

from tensorprog.errors import fail
from tensorprog.export.body import Writer
from tensorprog.export.library import NUMPY, TORCH
from tensorprog.export.loops import loop_lines
from tensorprog.export.names import Names, names_of
from tensorprog.export.writing import index_text, number_text
from tensorprog.finite.forward import needed
from tensorprog.ir.expr import Sym, symbols
from tensorprog.ir.program import Data, Program, Weight, operands
from tensorprog.ir.schedule import components

LIBRARIES = ("numpy", "torch")


def source(program: Program, library: str) -> str:
    """The text of a Python module that imports only the library, "numpy" or "torch".

    It has `initial` (parameters drawn with the program's means and variances), `rates` (the learning rate of each) and
    `forward(w, inputs...)`, batched over examples; for torch a Module that calls it.
    Raises TensorProgError for another library, and for loops that are none of Python's.
    """
    if library not in LIBRARIES:
        raise fail(f"programs are exported to {' or '.join(LIBRARIES)}, not to {library!r}")
    used = needed(program, {o.var for o in program.outputs})
    names = names_of(used)
    parts = [_initial(used, names, library), _rates(used, names), _forward(used, names)]
    if library == "torch":
        parts.append(_torch_class(used, names))
    helpers = _helpers("\n".join(parts), NUMPY if library == "numpy" else TORCH)
    body = "\n\n\n".join([*helpers, *parts])
    imports = (["import math"] if re.search(r"\bmath\.", body) else []) + (["import numpy as np"] if library == "numpy"
                                                                          else ["import torch"])
    head = [f'"""Program {program.name}{_said(program)}, exported by tensorprog."""']
    return "\n".join([*head, "", *_grouped(imports), "", "", body, ""])


def _grouped(imports: list[str]) -> list[str]:
    return imports if len(imports) == 1 else [imports[0], "", imports[1]]


def _said(program: Program) -> str:
    params = ", ".join(f"{k} = {v}" for k, v in program.params)
    return f" ({params})" if params else ""


def _helpers(text: str, library: dict[str, str]) -> list[str]:
    """Definitions of what occurs in the text, and of what they need."""
    chosen = {name for name in library if re.search(rf"\b{name}\(", text)}
    return [library[name] for name in library if name in chosen]


# ---------------------------------------------------------------- parameters


def _sizes(program: Program, names: Names) -> list[str]:
    """The sizes and widths that parameters depend on, as keyword arguments."""
    found: dict[str, None] = {}
    for w in program.weights:
        expressions = [a.extent for a in w.axes] + [d.size for d in (w.rows, w.cols) if d is not None]
        for e in (*expressions, w.mean, w.variance, w.lr):
            found.update(dict.fromkeys(sorted(symbols(e))))
    return [names.plain[n] for n in found if n in names.plain]


def _initial(program: Program, names: Names, library: str) -> str:
    sizes = "".join(f", {s}" for s in _sizes(program, names))
    argument = "rng" if library == "numpy" else "generator"
    lines = [f"def initial({argument}{sizes}):", '    """Parameters drawn as the program says."""']
    lines += ["    def draw(mean, variance, *shape):"]
    if library == "numpy":
        lines.append("        return mean + variance**0.5 * rng.standard_normal(shape)")
    else:
        lines.append("        return mean + variance**0.5 * torch.randn(shape, generator=generator)")
    lines += ["", "    return {"]
    for w in program.weights:
        mean, variance = (number_text(e, names.plain) for e in (w.mean, w.variance))
        lines.append(f'        "{names.weights[w.name]}": draw({", ".join([mean, variance, *_shape(w, names)])}),')
    return "\n".join([*lines, "    }"])


def _shape(weight: Weight, names: Names) -> list[str]:
    extents = [a.extent for a in weight.axes] + [d.size for d in (weight.rows, weight.cols) if d is not None]
    return [index_text(e, names.plain) for e in extents]


def _rates(program: Program, names: Names) -> str:
    lines = [f"def rates({', '.join(_sizes(program, names))}):", '    """The learning rate of every parameter."""',
             "    return {"]
    lines += [f'        "{names.weights[w.name]}": {number_text(w.lr, names.plain)},' for w in program.weights]
    return "\n".join([*lines, "    }"])


# ---------------------------------------------------------------- the forward pass


def _forward(program: Program, names: Names) -> str:
    inputs = [names.families[_input_family(program, i.name)] for i in program.inputs]
    outputs = [(o.name, names.families[o.var]) for o in program.outputs]
    result = outputs[0][1] if len(outputs) == 1 else "{" + ", ".join(f'"{n}": {v}' for n, v in outputs) + "}"
    lines = [f"def forward({', '.join(['w', *inputs])}):", f'    """{_about(program)}"""']
    lines += [f"    {line}" for line in [*_bound(program, names), *_body(program, names)]]
    return "\n".join([*lines, f"    return {result}"])


def _about(program: Program) -> str:
    shapes = []
    for i in program.inputs:
        extents = [a.extent for a in i.axes] + ([] if i.dim is None else [i.dim])
        shapes.append(f"{i.name} [N, {', '.join(index_text(e, {}) for e in extents)}]")
    return f"The outputs for N examples: {', '.join(shapes)}." if shapes else "The outputs, for one example."


def _input_family(program: Program, name: str) -> str:
    return next(i.var.name for i in program.instrs if isinstance(i.op, Data) and i.op.input == name)


def _bound(program: Program, names: Names) -> list[str]:
    """Sizes from the shapes of the inputs, widths from those of the parameters."""
    lines, known = [], set[str]()
    for i in program.inputs:
        extents = [a.extent for a in i.axes] + ([] if i.dim is None else [i.dim])
        left = [names.plain[e.name] if isinstance(e, Sym) else "_" for e in extents]
        known |= {e.name for e in extents if isinstance(e, Sym)}
        lines.append(f"{', '.join(['N', *left])} = {names.families[_input_family(program, i.name)]}.shape")
    lines += [] if program.inputs else ["N = 1"]
    for width in program.widths:
        found = _width(program, names, width.name)
        if found is not None:
            lines.append(f"{names.plain[width.name]} = {found}")
    return lines


def _width(program: Program, names: Names, width: str) -> str | None:
    for w in program.weights:
        dims = [d for d in (w.rows, w.cols) if d is not None]
        for k, d in enumerate(dims):
            if d.size == Sym(width):
                return f'w["{names.weights[w.name]}"].shape[{k - len(dims)}]'
    return None


def _body(program: Program, names: Names) -> list[str]:
    lines: list[str] = []
    shown: str | None = None  # the grid line in force
    for group in components(program.instrs):
        if len(group) > 1 or group[0].var.name in operands(group[0].op):
            lines += loop_lines(group, program, names)
            shown = None
            continue
        writer = Writer(program, names)
        written = writer.lines(group[0])
        grid = writer.grid_line(group[0].var, written)
        if grid is not None and grid != shown:
            lines.append(grid)
            shown = grid
        lines += written
        if any(line.lstrip().startswith("for ") for line in written):
            shown = None
    return lines


def _torch_class(program: Program, names: Names) -> str:
    name = "".join(part.capitalize() for part in program.name.split("_"))
    inputs = ", ".join(names.families[_input_family(program, i.name)] for i in program.inputs)
    lines = [
        f"class {name}(torch.nn.Module):",
        '    """`forward` with parameters: those of `initial`, or of a file that tensorprog wrote (numpy.load)."""',
        "",
        "    def __init__(self, w):",
        "        super().__init__()",
        "        as_tensor = torch.as_tensor",
        f"        self.w = torch.nn.ParameterDict({{k: as_tensor(w[k]).clone() for k in {_keys(program, names)}}})",
        "",
        f"    def forward(self{', ' if inputs else ''}{inputs}):",
        f"        return forward(self.w{', ' if inputs else ''}{inputs})",
        "",
        "    def groups(self, rates, lr=1.0):",
        '        """Parameters for an optimizer, each with `lr` times its own learning rate."""',
        '        return [{"params": [p], "lr": lr * float(rates[k])} for k, p in self.w.items()]',
    ]
    return "\n".join(lines)


def _keys(program: Program, names: Names) -> str:
    return "[" + ", ".join(f'"{names.weights[w.name]}"' for w in program.weights) + "]"
