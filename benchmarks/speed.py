"""Kernels beside their peers on the same inputs, in one run: the table of docs/benchmarks.

    python -m benchmarks.speed --peer PYTHON [--rows relu3 flatten ...] [--page]

PYTHON is the interpreter of an environment with neural-tangents (tests/oracles/README.md says how to make one).  Every
side of every row runs in a process of its own, one after the other.  Printed are the first call (derivation and, unless
it is on disk, machine code included), the median of later ones, the peer's median, the ratio beside the one that we ask
for, the peak memory of both processes, and how far the results are apart, relative to the largest entry, at different
examples and on the diagonal; `!` where it is more than float32 (1e-5), float64 (1e-9) or the accuracy asked for allow.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from benchmarks.works import ROWS, Work

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
HEADS = ("work", "peer", "first", "ours", "peer", "ratio", "asked", "ours", "peer", "apart", "diagonal")
COARSE = 1e-5
"""What a peer in float32 may be away."""
UNITS = ("", "", "s", "s", "s", "", "", "MB", "MB", "", "")


@final
@dataclass(frozen=True, slots=True)
class Side:
    """What a process left: seconds of the first and of later calls, peak memory in MB, kernels by name."""

    first: float
    later: float
    peak: float
    kernels: dict[str, np.ndarray]


def side(command: list[str | Path], folder: Path) -> Side:
    """Run a process that leaves its results in a folder."""
    run = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent, check=False)
    if run.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{run.stderr[-2000:]}")
    seconds = np.load(folder / "seconds.npy").reshape(-1)
    kernels = {name: np.load(folder / f"{name}.npy") for name in ("nngp", "ntk") if (folder / f"{name}.npy").exists()}
    later = float(np.median(seconds[1:])) if len(seconds) > 1 else float(seconds[0])
    return Side(float(seconds[0]), later, float(np.load(folder / "peak.npy")), kernels)


def ours(name: str, pinned: Sequence[str] = ()) -> Side:
    """Our side of a row; `pinned` is a command that runs others on some cores."""
    with tempfile.TemporaryDirectory() as folder:
        return side([*pinned, sys.executable, "-m", "benchmarks.works", name, "ours", folder], Path(folder))


def peer(name: str, work: Work, kind: str, python: str, pinned: Sequence[str] = ()) -> Side:
    """The side of a peer: neural-tangents in a type, or an algorithm of a paper."""
    with tempfile.TemporaryDirectory() as folder:
        if kind not in ("float32", "float64"):
            return side([*pinned, sys.executable, "-m", "benchmarks.works", name, kind, folder], Path(folder))
        np.save(f"{folder}/x.npy", work.data())
        chosen = [str(work.params["depth"]), str(work.params["phi"])] if work.file == "mlp" else [work.file]
        return side([*pinned, python, HERE / "peer_neural_tangents.py", folder, kind, *chosen], Path(folder))


def apart(a: Side, b: Side) -> tuple[float, float]:
    """The largest distance of the kernels that both have, relative to the largest entry: off and on the diagonal."""
    both = [(a.kernels[n], b.kernels[n]) for n in a.kernels if n in b.kernels]
    far = [(np.abs(p - q) / np.max(np.abs(q)), np.eye(len(q), dtype=bool)) for p, q in both]
    return max(float(d[~same].max()) for d, same in far), max(float(d[same].max()) for d, same in far)


def rows(name: str, python: str) -> list[tuple[str, ...]]:
    """The lines of a row, one for each peer."""
    work, mine = ROWS[name], ours(name)
    lines = []
    for kind in work.peers:
        label = f"neural-tangents {kind}" if kind.startswith("float") else kind
        start = (work.label, label, f"{mine.first:.2f}", f"{mine.later:.3f}")
        memory = f"{mine.peak:.0f}"
        try:
            other = peer(name, work, kind, python)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            lines.append((*start, "fails", "", f"{work.asked:g}", memory, "", "", ""))
            continue
        ratio = other.later / mine.later
        allowed = max(work.agree, COARSE if kind == "float32" else 0.0)
        far = (f"{d:.0e}" + ("" if d <= allowed else " !") for d in apart(mine, other))
        numbers = f"{other.later:.3f}", f"{ratio:.1f}", f"{work.asked:g}", memory, f"{other.peak:.0f}"
        lines.append((*start, *numbers, *far))
    return lines


def machine() -> str:
    """What it was measured on."""
    model = next((x.split(":")[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x),
                 platform.processor())
    return f"{model}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, NumPy {np.__version__}"


def table(lines: list[tuple[str, ...]]) -> str:
    """In Markdown."""
    heads = [f"{h} [{u}]" if u else h for h, u in zip(HEADS, UNITS, strict=True)]
    rule = ["---", "---", *["---:"] * (len(HEADS) - 2)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, rule, *lines]) + "\n"


def main() -> None:
    """Print the table line by line; with --page, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks/speed.md")
    chosen = parser.parse_args()
    lines: list[tuple[str, ...]] = []
    for name in chosen.rows:
        found = rows(name, chosen.peer)
        print("\n".join("  ".join(line) for line in found), flush=True)
        lines += found
    if chosen.page:
        (DOCS / "benchmarks").mkdir(exist_ok=True)
        (DOCS / "benchmarks" / "speed.md").write_text(f"{machine()}\n\n{table(lines)}")


if __name__ == "__main__":
    main()
