"""Where the numbers of a kernel are kept: .npy files that can be memory-mapped (alone or in an .npz), a zarr group.

Stores work in the folder of an unfinished run; `finish` moves what is whole into its place.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import fail, spoken
from tensorprog.files import written_whole

Array = NDArray[np.floating[Any]]
SUFFIXES = (".zarr", ".npy", ".npz")
ZARR = "kernels.zarr"


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """The shape [N1, ..., N2, ...] of kernels; as matrices they have the rows [N1 * ...] and the columns [N2 * ...].

    `chunk` are the rows and columns of a block.
    """

    left: tuple[int, ...]
    right: tuple[int, ...]
    dtype: str
    chunk: tuple[int, int]

    @property
    def bytes(self) -> int:
        """Of one kernel."""
        return prod(self.left + self.right) * np.dtype(self.dtype).itemsize


class Store(Protocol):
    """Kernels by name; rows and columns are those of the matrices."""

    def create(self, names: Sequence[str]) -> None:
        """Makes room for kernels."""

    def write(self, name: str, rows: slice, cols: slice, values: Array) -> None:
        """Writes a block."""

    def read(self, name: str, rows: slice, cols: slice) -> Array:
        """Reads a block, whatever of it is there."""

    def finish(self, names: Sequence[str], about: Mapping[str, Any]) -> None:
        """Moves the kernels into their place; may be called again after it was interrupted."""


def store(out: Path, folder: Path, layout: Layout) -> Store:
    """The store that the suffix of `out` asks for.  Raises TensorProgError where there is none."""
    if out.suffix not in SUFFIXES:
        raise fail(f"cannot write {out}: kernels are written to {', '.join(SUFFIXES)}")
    if out.suffix == ".zarr":
        return ZarrGroup(out, folder, layout)
    return NpyFiles(out, folder, layout)


def places(out: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The files of finished kernels: K.npy for one kernel, K.nngp.npy and K.ntk.npy for two."""
    if out.suffix != ".npy" or len(names) == 1:
        return (out,)
    return tuple(out.with_name(f"{out.stem}.{name}.npy") for name in names)


def check_room(folder: Path, size: int) -> None:
    """Raises TensorProgError when a disk has not so many bytes left."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise fail(f"the kernels take {spoken(size)} on disk, and {spoken(free)} are free in {folder.resolve()}")


@final
@dataclass(frozen=True, slots=True)
class NpyFiles:
    """A .npy file for every kernel, read and written row by row: mapped pages would count as memory."""

    out: Path
    folder: Path
    layout: Layout

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def create(self, names: Sequence[str]) -> None:
        """See `Store`."""
        for name in names:
            shape = self.layout.left + self.layout.right
            np.lib.format.open_memmap(self._file(name), "w+", np.dtype(self.layout.dtype), shape)

    def _place(self, file: int, row: int, cols: slice) -> int:
        width, item = prod(self.layout.right), np.dtype(self.layout.dtype).itemsize
        return os.fstat(file).st_size - self.layout.bytes + (row * width + int(cols.start)) * item

    def write(self, name: str, rows: slice, cols: slice, values: Array) -> None:
        """See `Store`."""
        file = os.open(self._file(name), os.O_RDWR)
        try:
            for row, line in zip(range(rows.start, rows.stop), np.ascontiguousarray(values), strict=True):
                left, place = memoryview(line).cast("B"), self._place(file, row, cols)
                while left:
                    count = os.pwrite(file, left, place)
                    left, place = left[count:], place + count
        finally:
            os.close(file)

    def read(self, name: str, rows: slice, cols: slice) -> Array:
        """See `Store`."""
        found = np.zeros((rows.stop - rows.start, cols.stop - cols.start), self.layout.dtype)
        file = os.open(self._file(name), os.O_RDONLY)
        try:
            for row, line in zip(range(rows.start, rows.stop), found, strict=True):
                os.preadv(file, [line], self._place(file, row, cols))
        finally:
            os.close(file)
        return found

    def finish(self, names: Sequence[str], about: Mapping[str, Any]) -> None:
        """See `Store`."""
        if self.out.suffix == ".npz":
            with written_whole(self.out) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
                for name in names:
                    archive.write(self._file(name), f"{name}.npy")
            return
        for name, place in zip(names, places(self.out, names), strict=True):
            if self._file(name).exists():  # else it is there since the last time
                os.replace(self._file(name), place)


@final
@dataclass(frozen=True, slots=True)
class ZarrGroup:
    """A zarr group with an array for every kernel, a chunk for every block."""

    out: Path
    folder: Path
    layout: Layout

    def create(self, names: Sequence[str]) -> None:
        """See `Store`."""
        zarr = _zarr()
        group = zarr.open_group(self.folder / ZARR, mode="w")
        left, right = self.layout.left, self.layout.right
        sides = [max(1, c // prod(s[1:])) for c, s in zip(self.layout.chunk, (left, right), strict=True)]
        chunks = (min(sides[0], left[0]), *left[1:], min(sides[1], right[0]), *right[1:])
        for name in names:  # numbers of kernels do not compress
            group.create_array(name, shape=left + right, chunks=chunks, dtype=self.layout.dtype, compressors=None)

    def _array(self, name: str) -> Any:
        return _zarr().open_group(self.folder / ZARR, mode="r+")[name]

    def _index(self, rows: slice, cols: slice) -> tuple[slice, ...]:
        index: list[slice] = []
        for cut, full in ((rows, self.layout.left), (cols, self.layout.right)):
            each = prod(full[1:])
            index += [slice(cut.start // each, cut.stop // each), *(slice(None) for _ in full[1:])]
        return tuple(index)

    def write(self, name: str, rows: slice, cols: slice, values: Array) -> None:
        """See `Store`."""
        left, right = self.layout.left[1:], self.layout.right[1:]
        shape = (len(values) // prod(left), *left, values.shape[1] // prod(right), *right)
        self._array(name)[self._index(rows, cols)] = values.reshape(shape)

    def read(self, name: str, rows: slice, cols: slice) -> Array:
        """See `Store`."""
        found: Array = np.asarray(self._array(name)[self._index(rows, cols)])
        return found.reshape(rows.stop - rows.start, cols.stop - cols.start)

    def finish(self, names: Sequence[str], about: Mapping[str, Any]) -> None:
        """See `Store`."""
        new = self.folder / ZARR
        if not new.exists():  # it is there since the last time
            return
        _zarr().open_group(new, mode="r+").attrs["tensorprog"] = dict(about)
        if self.out.exists():
            os.replace(self.out, self.folder / "replaced.zarr")
        os.replace(new, self.out)


def check_replaceable(out: Path) -> None:
    """Raises TensorProgError when what is at `out` is not of the kind that is written there."""
    kind = out.is_dir() and (out / "zarr.json").exists() if out.suffix == ".zarr" else out.is_file()
    if out.exists() and not kind:
        raise fail(f"cannot write {out}: there is something else of that name")


def _zarr() -> Any:
    try:
        import zarr
    except ImportError:
        raise fail("a .zarr store needs zarr", hint="pip install 'tensorprog[zarr]', or write to a .npy file") from None
    return zarr
