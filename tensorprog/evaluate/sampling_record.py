"""Recordings of a draw: which operations on arrays it consists of, whatever the draws and the data.

Which terms meet which, and what is gathered from where, is found out once, by a draw whose numbers are `Recorded`:
every operation on them is written down.  A `Recording` does the same operations with other draws and other data of
the same shapes, and nothing else.  What depends on the numbers themselves (`if`, `bool`, a plain array to be written
to) raises `Unrecordable`; then nothing is recorded, and every draw finds out everything anew.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Unrecordable(Exception):  # noqa: N818  (a way back, not an error)
    """The operations depend on the numbers."""


class Direct:
    """Operations that are done and forgotten."""

    def given(self, value: Any) -> Any:
        """What will be another in a replay."""
        return value

    def made(self, kind: Callable[..., Any], *args: Any) -> Any:
        """kind(*args), to be written to or with a state: a new one in every replay."""
        return kind(*args)

    def zeros(self, *shape: int) -> Any:
        """An array to be written to."""
        return self.made(np.zeros, shape)

    def empty(self, *shape: int) -> Any:
        """An array to be written."""
        return self.made(np.empty, shape)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """function(*args), one operation to a recorder."""
        return function(*args)


DIRECT = Direct()


class Recorder(Direct):
    """Operations that are done and written down."""

    def __init__(self) -> None:
        self.inputs: list[int] = []
        self.lines: list[Line] = []
        self.count = 0

    def given(self, value: Any) -> Any:
        """What will be another in a replay, which is given them in the same order."""
        result = self._next(value)
        self.inputs.append(result.number)
        return result

    def made(self, kind: Callable[..., Any], *args: Any) -> Any:
        """See `Direct`."""
        return self.done(kind, args, {})

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """function(*args), where any of them, or of their items, may be recorded; without these it is known."""
        return self.done(function, args, {}) if _is_recorded(args) else function(*args)

    def done(self, function: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """The result of an operation, recorded."""
        result = self._next(function(*plain(args), **plain(options)))
        shape = getattr(result.value, "shape", None)
        self.lines.append(Line(function, _named(args), _named(options), result.number, shape))
        return result

    def recording(self, result: Any) -> Recording:
        """Everything so far, which ends with `result`.  Raises Unrecordable where that is known."""
        if not isinstance(result, Recorded):
            raise Unrecordable
        return Recording(self.inputs, self.lines, result.number)

    def _next(self, value: Any) -> Recorded:
        self.count += 1
        return Recorded(value, self.count - 1, self)


Known = dict[int, Any]
Reader = Callable[[Known], Any]


@final
@dataclass(frozen=True, slots=True)
class Result:
    """What stands for the result of an operation, or for an input, in the arguments of others."""

    number: int


@final
@dataclass(frozen=True, slots=True)
class Line:
    """One operation: its arguments, the number of its result, and the shape that this had."""

    function: Callable[..., Any]
    args: Any
    options: Any
    result: int
    shape: tuple[int, ...] | None

    @property
    def reads(self) -> frozenset[int]:
        """The results in its arguments."""
        return results_in((self.args, self.options))


class Recorded(NDArrayOperatorsMixin):
    """An array, or another object, whose operations are written down."""

    def __init__(self, value: Any, number: int, recorder: Recorder) -> None:
        self.value, self.number, self.recorder = value, number, recorder

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        written = options.get("out", inputs[:1] if method == "at" else ())
        if not all(isinstance(array, Recorded) for array in written):
            raise Unrecordable
        return self.recorder.done(getattr(ufunc, method), inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        return self.recorder.done(function, args, options)

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise Unrecordable

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name) if name.startswith("__") else Unrecordable

    def __bool__(self) -> bool:
        raise Unrecordable

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        return self.recorder.call(operator.getitem, self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.recorder.call(operator.setitem, self, key, value)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        found: tuple[int, ...] = self.value.shape
        return found

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return len(self.shape)

    def reshape(self, *shape: int) -> Any:
        """As of arrays."""
        return self.recorder.call(np.reshape, self, shape)

    def swapaxes(self, one: int, two: int) -> Any:
        """As of arrays."""
        return self.recorder.call(np.swapaxes, self, one, two)


@final
class Recording:
    """Operations to be done again; every result is dropped after its last use."""

    def __init__(self, inputs: Sequence[int], lines: Sequence[Line], result: int) -> None:
        self.inputs, self.lines, self.result = tuple(inputs), tuple(lines), result
        self._readers = [(_reader(line.args), _reader(line.options)) for line in lines]
        last = {number: k for k, line in enumerate(lines) for number in (line.result, *line.reads)}
        self._dying: list[list[int]] = [[] for _ in lines]
        for number, k in last.items():
            if number != result:
                self._dying[k].append(number)

    def replay(self, *given: Any) -> Any:
        """The result for other inputs."""
        known: Known = dict(zip(self.inputs, given, strict=True))
        for line, (args, options), dying in zip(self.lines, self._readers, self._dying, strict=True):
            known[line.result] = line.function(*args(known), **options(known))
            for number in dying:
                del known[number]
        return known[self.result]


def _items(item: Any) -> Sequence[Any] | None:
    """What is inside of lists, tuples and dictionaries."""
    if type(item) is dict:
        return tuple(item.values())
    return item if type(item) in (list, tuple) else None


def _is_recorded(item: Any) -> bool:
    """Whether something in it is recorded."""
    return isinstance(item, Recorded) or any(_is_recorded(inside) for inside in _items(item) or ())


def results_in(item: Any) -> frozenset[int]:
    """The numbers of all results in it."""
    if isinstance(item, Result):
        return frozenset([item.number])
    return frozenset[int]().union(*(results_in(inside) for inside in _items(item) or ()))


def plain(item: Any) -> Any:
    """The same with values in place of what is recorded."""
    return _changed(item, lambda recorded: recorded.value)


def _named(item: Any) -> Any:
    """The same with results in place of what is recorded."""
    return _changed(item, lambda recorded: Result(recorded.number))


def _changed(item: Any, change: Callable[[Recorded], Any]) -> Any:
    if isinstance(item, Recorded):
        return change(item)
    if (inside := _items(item)) is None:
        return item
    values = [_changed(x, change) for x in inside]
    return dict(zip(item, values, strict=True)) if type(item) is dict else type(item)(values)


def _reader(item: Any) -> Reader:
    """How it is made of results."""
    if isinstance(item, Result):
        return operator.itemgetter(item.number)
    if not results_in(item):
        return lambda known: item
    readers = [_reader(x) for x in _items(item) or ()]
    if type(item) is dict:
        names = tuple(item)
        return lambda known: {name: read(known) for name, read in zip(names, readers, strict=True)}
    kind = type(item)
    return lambda known: kind([read(known) for read in readers])
