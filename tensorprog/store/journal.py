"""What was asked for, and which blocks of it are on disk: the folder OUT.partial of a run that is not finished.

    request.json   program, parameters, data, options; another request must not go on with it
    done.jsonl     a line for every block that is whole: its range, the checksums of its numbers, its summary
    lock           held by the process that writes
    ...            the numbers themselves (see `formats`)
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from tensorprog.errors import TensorProgError, fail
from tensorprog.evaluate.kernels import Row
from tensorprog.store.plan import Block

FINISHED = "finished"
WHOLE = (
    "program", "parameters", "compiled", "output", "kernels", "tier", "data", "data2", "dtype", "precision",
    "reductions", "version",
)


@final
@dataclass(frozen=True, slots=True)
class Statistics:
    """Of the entries of a block, or of all of them."""

    least: float
    largest: float
    total: float

    @staticmethod
    def of(values: NDArray[np.floating[Any]]) -> Statistics:
        """Of an array."""
        return Statistics(float(values.min()), float(values.max()), float(values.sum(dtype=np.float64)))


@final
@dataclass(frozen=True, slots=True)
class Done:
    """A block that is whole on disk: checksum and statistics of every kernel, what served the expectations."""

    block: Block
    checksums: Mapping[str, int]
    statistics: Mapping[str, Statistics]
    served: tuple[Row, ...]

    def line(self) -> str:
        """As a line of the journal."""
        places = [self.block.rows.start, self.block.rows.stop, self.block.cols.start, self.block.cols.stop]
        return json.dumps({"block": places, "checksums": dict(self.checksums),
                           "statistics": {k: asdict(s) for k, s in self.statistics.items()},
                           "served": [asdict(r) for r in self.served]})

    @staticmethod
    def read(line: str) -> Done:
        """From a line of the journal."""
        data = json.loads(line)
        a, b, c, d = data["block"]
        statistics = {k: Statistics(**s) for k, s in data["statistics"].items()}
        return Done(Block(range(a, b), range(c, d)), data["checksums"], statistics,
                    tuple(Row(**r) for r in data["served"]))


@final
@dataclass(frozen=True, slots=True)
class Journal:
    """The record of a run in its folder."""

    folder: Path

    @property
    def _lines(self) -> Path:
        return self.folder / "done.jsonl"

    @property
    def _request(self) -> Path:
        return self.folder / "request.json"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises TensorProgError when the folder cannot be made, or while another process writes to it.

        After an error the folder stays where a block is whole.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            file = (self.folder / "lock").open("w")
        except OSError as error:
            raise fail(f"cannot write {self.folder}: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise fail(f"another process is writing to {self.folder}") from None
            try:
                yield
            except BaseException:
                if not self._lines.exists():
                    shutil.rmtree(self.folder, ignore_errors=True)
                raise

    def begin(self, request: Mapping[str, Any]) -> None:
        """Writes down what is asked for, whole or not at all."""
        new = self.folder / "request.new"
        new.write_text(json.dumps(request, indent=1), encoding="utf-8")
        os.replace(new, self._request)

    def side(self, request: Mapping[str, Any]) -> int | None:
        """The side of the blocks of a run that was begun; None in a new folder.

        Raises TensorProgError when it cannot be read or is for something else.
        """
        begun = self.begun()
        if begun is None:
            return None
        self._check(begun, request)
        return int(begun["side"])

    def begun(self) -> dict[str, Any] | None:
        """What was asked for; None in a new folder.  Raises TensorProgError when it cannot be read."""
        if not self._request.exists():
            return None
        try:
            found = json.loads(self._request.read_text(encoding="utf-8"))
            if not isinstance(found, dict) or not {*WHOLE, "side"} <= set(found):
                raise ValueError
        except ValueError:
            raise self._broken(self._request) from None
        return found

    def _check(self, begun: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        """Raises TensorProgError when the run that was begun is for something else."""
        other = [name for name in WHOLE if begun[name] != request[name]]
        if other:
            details = [f"{n}: {begun[n]}, now {request[n]}" for n in other if len(f"{begun[n]}{request[n]}") < 120]
            what = "; ".join(details) or f"differing: {', '.join(other)}"
            raise fail(f"{self.folder} was begun for another kernel ({what})",
                       hint="remove it to start again, or choose another --out")

    def entries(self) -> list[Done]:
        """The blocks that were written down; a last line that was cut off is removed."""
        if not self._lines.exists():
            return []
        text = self._lines.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            os.truncate(self._lines, len(whole.encode()))
        try:
            return [Done.read(line) for line in whole.splitlines()]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._broken(self._lines) from None

    def add(self, done: Done) -> None:
        """Writes down a block; its numbers are on disk already."""
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(done.line() + "\n")

    @property
    def is_finished(self) -> bool:
        """Whether all blocks were found whole, so that results may be on their way to their place."""
        return (self.folder / FINISHED).exists()

    def finish(self) -> None:
        """All blocks are whole."""
        (self.folder / FINISHED).touch()

    def _broken(self, file: Path) -> TensorProgError:
        return fail(f"{file} is damaged, so that it is not known what is in {self.folder}",
                    hint="remove the folder to start again")
