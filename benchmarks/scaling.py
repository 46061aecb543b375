"""How time grows with examples, depth, steps, image size and threads: the plot of docs/benchmarks.

    python -m benchmarks.scaling --peer PYTHON [--panels examples depth ...]

Seconds of a call after the first one, ours and the peer's (neural-tangents in float64; for recurrent networks the
recursion of the papers), every process by itself.  Writes scaling.svg, scaling.png and scaling.txt.
"""

from __future__ import annotations

import argparse

from matplotlib.figure import Figure

from benchmarks.speed import DOCS, machine, ours, peer
from benchmarks.works import SCALING

Times = dict[int, tuple[float, float]]


def measured(panel: str, python: str) -> Times:
    """(ours, the peer's) for every value."""
    found = {}
    for value, work in SCALING[panel].items():
        pinned = ["taskset", "-c", f"0-{value - 1}"] if panel == "threads" else []
        name, kind = f"{panel}={value}", work.peers[-1]
        found[value] = ours(name, pinned).later, peer(name, work, kind, python, pinned).later
        print(f"{name:<20}{found[value][0]:>9.4f}{found[value][1]:>9.4f}{found[value][1] / found[value][0]:>8.1f}",
              flush=True)
    return found


def drawn(times: dict[str, Times]) -> Figure:
    """A panel for each of what grows."""
    figure = Figure(figsize=(3.1 * len(times), 3.0), layout="constrained")
    for ax, (panel, found) in zip(figure.subplots(1, len(times), squeeze=False)[0], times.items(), strict=True):
        for k, (label, color) in enumerate((("tensorprog", "#1f5fbf"), ("peer", "#999999"))):
            ax.loglog(list(found), [t[k] for t in found.values()], "o-", color=color, label=label)
        ax.set_xticks(list(found), [str(v) for v in found], minor=False)
        ax.set_xticks([], minor=True)
        works = list(SCALING[panel].values())
        ax.set_title(f"{works[0].file}: {panel}", fontsize=10)
        ax.grid(alpha=0.3)
    first = figure.axes[0]
    first.set_ylabel("seconds")
    first.legend(frameon=False)
    return figure


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, metavar="PYTHON")
    parser.add_argument("--panels", nargs="+", choices=SCALING, default=list(SCALING))
    chosen = parser.parse_args()
    times = {panel: measured(panel, chosen.peer) for panel in chosen.panels}
    folder = DOCS / "benchmarks"
    folder.mkdir(exist_ok=True)
    for kind in ("svg", "png"):
        drawn(times).savefig(folder / f"scaling.{kind}", dpi=150)
    lines = [f"{panel}={v}: ours {a:.4f} s, peer {b:.4f} s" for panel, t in times.items() for v, (a, b) in t.items()]
    (folder / "scaling.txt").write_text("\n".join([machine(), *lines]) + "\n")


if __name__ == "__main__":
    main()
