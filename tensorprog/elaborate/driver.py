"""The stage itself: a source and its parameters to a program of the IR."""

from __future__ import annotations

import difflib
import math
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, final

from tensorprog.elaborate.builder import Builder
from tensorprog.elaborate.expand import Expander, unused
from tensorprog.elaborate.operators import Operators
from tensorprog.elaborate.scope import Budget, Scope
from tensorprog.elaborate.values import Function, Number, Value
from tensorprog.errors import Diagnostic, Source, fail
from tensorprog.ir import expr as ex
from tensorprog.ir.domain import check_domains
from tensorprog.ir.functions import FUNCTIONS
from tensorprog.ir.program import Instr, Program, operands
from tensorprog.lang import syntax
from tensorprog.lang.parser import parse
from tensorprog.lang.reading import read_source

MAX_FILES = 64
Parameter = int | float | Fraction | str


@final
@dataclass(frozen=True, slots=True)
class Recipe:
    """What a program was elaborated from."""

    source: Source
    params: Mapping[str, Parameter]
    program: str | None
    folder: Path | None


@final
@dataclass(frozen=True, slots=True)
class Elaborated:
    """A program of the IR, the warnings and notes that were made on the way, and what it was made from."""

    program: Program
    notes: tuple[Diagnostic, ...]
    recipe: Recipe


def elaborate(
    source: Source,
    params: Mapping[str, Parameter] | None = None,
    program: str | None = None,
    folder: Path | None = None,
    symbols: frozenset[str] = frozenset(),
) -> Elaborated:
    """The IR of a program of `source`, with compile-time parameters replaced by `params`.

    `program` chooses among several; `folder` is where `use "file.tp"` looks; the parameters in `symbols` stay
    symbols.  Raises TensorProgError for every mistake of the user.
    """
    with _deep_recursion():
        module = parse(source)
        files = Files(folder)
        scope = files.open(module)
        chosen = choose(module, program)
        found, notes = _run(chosen, scope, files, params or {}, symbols)
        return Elaborated(found, notes, Recipe(source, params or {}, program, folder))


def choose(module: syntax.Module, name: str | None) -> syntax.Program:
    """The program of that name; the only one when no name is given."""
    programs = [d for d in module.decls if isinstance(d, syntax.Program)]
    if not programs:
        raise fail("the file has no program", module.span, "program NAME(...):")
    if name is None:
        if len(programs) > 1:
            names = ", ".join(p.name for p in programs)
            raise fail(f"the file has several programs: {names}", programs[1].span, "choose one by its name")
        return programs[0]
    for p in programs:
        if p.name == name:
            return p
    raise fail(f"the file has no program '{name}'", module.span, "it has " + ", ".join(p.name for p in programs))


class Files:
    """The scopes of the files of one compilation: the prelude, the program's own, and those it uses."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.homes: dict[int, Scope] = {}
        self.notes: list[Diagnostic] = []
        self.open_files: dict[Path, Scope] = {}
        self.prelude = Scope()
        for module in prelude_modules():
            self._declare(module, self.prelude)

    def open(self, module: syntax.Module) -> Scope:
        """The scope of a file: its own definitions over those it uses over the prelude."""
        scope = Scope(parent=self.prelude)
        self._fill(scope, module)
        return scope

    def _fill(self, scope: Scope, module: syntax.Module) -> None:
        self._declare(module, scope)
        for d in module.decls:
            if isinstance(d, syntax.Use):
                self._use(d, scope)

    def _declare(self, module: syntax.Module, scope: Scope) -> None:
        seen: set[str] = set()
        for d in module.decls:
            if not isinstance(d, syntax.Def | syntax.Block):
                continue
            if d.name in seen:
                raise fail(f"'{d.name}' is defined twice in this file", d.span)
            seen.add(d.name)
            if scope is not self.prelude and (d.name in FUNCTIONS or self.prelude.find(d.name)):
                message = f"'{d.name}' replaces the known function of that name"
                self.notes.append(Diagnostic(message, d.span, severity="note"))
            self.homes[id(d)] = scope
            scope.bind(d.name, Function(d.name, d), d.span)

    def _use(self, use: syntax.Use, scope: Scope) -> None:
        path = self._path(use)
        if path not in self.open_files:
            if len(self.open_files) == MAX_FILES:
                raise fail(f"more than {MAX_FILES} files are used", use.span)
            self.open_files[path] = Scope(parent=self.prelude)
            self._fill(self.open_files[path], parse(read_source(path)))
        own = self._own(self.open_files[path])
        for name in use.names or own:
            if name not in own:
                close = difflib.get_close_matches(name, own, n=1)
                raise fail(f"'{use.path}' has no block or function '{name}'", use.span,
                           f"did you mean '{close[0]}'?" if close else f"it has {', '.join(own) or 'none'}")
            if name not in self._own(scope):
                scope.bind(name, own[name], use.span)

    def _own(self, scope: Scope) -> dict[str, Function]:
        """What a file defines itself."""
        functions = [b.value for b in scope.names.values() if isinstance(b.value, Function)]
        return {f.name: f for f in functions if self.homes.get(id(f.definition)) is scope}

    def _path(self, use: syntax.Use) -> Path:
        """The file named by `use`, which must lie in the program's own folder."""
        if self.folder is None:
            raise fail("a program given as text cannot use files", use.span, "load the program from a file")
        try:
            folder = self.folder.resolve()
            path = (folder / use.path).resolve()
            found = path.is_file()
        except (OSError, RuntimeError, ValueError):  # a loop of links, a name too long, a NUL
            raise fail(f"'{use.path}' cannot be opened", use.span) from None
        if not path.is_relative_to(folder):
            raise fail(f"'{use.path}' lies outside the folder of the program", use.span)
        if not found:
            raise fail(f"no file '{use.path}' beside the program", use.span)
        return path


@lru_cache(maxsize=1)
def prelude_modules() -> tuple[syntax.Module, ...]:
    """The parsed files of the prelude."""
    folder = resources.files("tensorprog.elaborate") / "prelude"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".tp")), key=lambda f: f.name)
    return tuple(parse(Source(f"prelude/{f.name}", f.read_text("utf-8"))) for f in files)


def _run(
    p: syntax.Program, home: Scope, files: Files, params: Mapping[str, Parameter], symbols: frozenset[str]
) -> tuple[Program, tuple[Diagnostic, ...]]:
    builder = Builder()
    expander = Expander(Operators(builder), Budget(), files.homes)
    scope = Scope(parent=home)
    chosen = _bind_params(p, params, scope, expander, symbols)
    expander.run(p.body, scope)
    expander.finish()
    if not expander.outputs:
        raise fail(f"program '{p.name}' has no output", p.span, "end it with: output dot(v, h)")
    instrs = tuple(replace(i, var=replace(i.var, named=i.var.name in builder.named)) for i in builder.instrs)
    instrs = reachable(instrs, [o.var for o in expander.outputs])
    weights = {op.weight for i in instrs if hasattr(op := i.op, "weight")}
    program = Program(
        p.name, chosen, tuple(expander.widths), tuple(expander.inputs),
        tuple(w for w in builder.weights if w.name in weights), instrs, tuple(expander.outputs), p.span,
    )
    notes = list(files.notes)
    check_domains(program)
    _warn_unused(p, scope, expander, program, notes)
    return program, tuple(notes)


def _bind_params(
    p: syntax.Program,
    params: Mapping[str, Parameter],
    scope: Scope,
    expander: Expander,
    symbols: frozenset[str],
) -> tuple[tuple[str, str], ...]:
    names = [q.name for q in p.params]
    for name in params:
        if name not in names:
            raise fail(f"program '{p.name}' has no parameter '{name}'", p.span,
                       f"its parameters are {', '.join(names)}" if names else "it has none")
    shown = []
    for q in p.params:
        if q.name in params:
            value = _parameter(q, params[q.name], scope, expander)
        elif q.default is None:
            raise fail(f"parameter '{q.name}' has no value", q.span, f"give it one: {q.name} = ...")
        else:
            value = expander.eval(q.default, scope)
        if not isinstance(value, Number | Function):
            raise fail(f"parameter '{q.name}' must be a number or the name of a function", q.span)
        scope.bind(q.name, Number(ex.Sym(q.name)) if q.name in symbols else value, q.span)
        expander.builder.sizes |= symbols & {q.name}
        shown.append((q.name, ex.show(value.expr) if isinstance(value, Number) else value.name))
    return tuple(shown)


def _parameter(q: syntax.Param, value: Parameter, scope: Scope, expander: Expander) -> Value:
    """A parameter given from outside: numbers are taken as they are written, other texts name a function."""
    text = str(value).strip()
    try:
        return Number(ex.num(_exact(text)))
    except (ValueError, ZeroDivisionError):
        pass
    except OverflowError:
        raise fail(f"parameter '{q.name}' is too large or too small: {text[:40]}", q.span) from None
    if not (isinstance(value, str) and text.isidentifier()):
        raise fail(f"parameter '{q.name}' must be a number or the name of a function, not {value!r}", q.span)
    return expander.lookup(text, scope, q.span)


def _exact(text: str) -> Fraction:
    """The number that is written, `1.2`, `1e-3` or `1/3`.  OverflowError where a float could not hold it."""
    if "/" not in text:
        approximate = float(text)
        if math.isinf(approximate) or (approximate == 0 and re.search("[1-9]", re.split("[eE]", text)[0])):
            raise OverflowError
    elif len(text) > 300:
        raise OverflowError
    return Fraction(text)


def reachable(instrs: tuple[Instr, ...], roots: list[str]) -> tuple[Instr, ...]:
    """The definitions that the roots need, in their order."""
    table = {i.var.name: i for i in instrs}
    needed: set[str] = set()
    stack = list(roots)
    while stack:
        name = stack.pop()
        if name not in needed:
            needed.add(name)
            stack.extend(operands(table[name].op))
    return tuple(i for i in instrs if i.var.name in needed)


def _warn_unused(
    p: syntax.Program, scope: Scope, expander: Expander, program: Program, notes: list[Diagnostic]
) -> None:
    for q in p.params:
        if q.name not in scope.used:
            unused(notes, "parameter", q.name, q.span)
    inputs = {i.var.name for i in program.instrs}
    for i in expander.inputs:
        if i.name not in inputs:
            unused(notes, "input", i.name, i.span)
    kept = {w.span for w in program.weights}
    for w in {w.span: w for w in expander.builder.weights if w.span not in kept}.values():
        unused(notes, "weight", w.name.split(".")[0], w.span)


@contextmanager
def _deep_recursion(limit: int = 20_000) -> Iterator[None]:
    """Trees of a long expression are deep; the parser bounds their depth, the interpreter's limit is lower."""
    old: Any = sys.getrecursionlimit()
    sys.setrecursionlimit(max(old, limit))
    try:
        yield
    finally:
        sys.setrecursionlimit(old)
