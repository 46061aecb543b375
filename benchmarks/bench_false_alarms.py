"""How often `validate` calls a right limit wrong, over programs put together at random.

    python -m benchmarks.bench_false_alarms [--studies 1000] [--first 0]

Every study is of another program (tests/agreement/test_random_programs.py; every second one with two outputs that
share their readout), other data and other networks: 3 examples, widths 16 to 128, 8, 16 or 32 networks at each.
Limits with gates and transposes are sampled, which takes less time than integrals.

Prints, with intervals of Clopper and Pearson: the rate of the verdict "disagrees"; how often the smallest p of a study,
times the number of its tests, is below 0.05 and 0.01; and the same for each kind of test alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

import tensorprog
from tensorprog.ir.joint import joined
from tests.agreement.test_random_programs import written

WIDTHS = (16, 32, 64, 128)
SEEDS = (8, 16, 32)
LEVELS = (0.05, 0.01, 0.001)


@dataclass(frozen=True)
class Study:
    """The program of a study, the p of every test, and the verdict."""

    text: str
    p: Mapping[str, float]
    verdict: str

    @property
    def smallest(self) -> float:
        """The smallest p times the number of tests."""
        return min(self.p.values()) * len(self.p)


def study(number: int) -> Study:
    """The study of that number."""
    rng = np.random.default_rng([number, 1])
    text = written(lambda options: options[int(rng.integers(len(options)))])
    net = tensorprog.load(text)
    if number % 2:
        text = text.replace("output dot(v, h)", "output f = dot(v, h)\n    output g = dot(v, tanh(U @ x))")
        two = tensorprog.load(text)
        net = replace(two, elaborated=replace(two.elaborated, program=joined(two.program)), _limits={}, _derived={})
    x = rng.standard_normal((3, 4))
    limit = net.kernels(x, tier="sampling" if ".T" in text or ") * " in text else "auto")
    found = net.validate(x, WIDTHS, SEEDS[number % 3], against={"nngp": limit.nngp, "ntk": limit.ntk}, seed=number)
    p = {kind: c.extrapolated.p for kind, c in found.found.items()}
    return Study(text, p if found.law is None else {**p, "law": found.law.p}, found.verdict)


def interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of Clopper and Pearson for a rate."""
    tail = (1 - confidence) / 2
    low = stats.beta.ppf(tail, count, total - count + 1) if count else 0.0
    return float(low), float(stats.beta.isf(tail, count + 1, total - count)) if count < total else 1.0


def lines(found: Sequence[Study]) -> Iterator[str]:
    """What is printed."""
    kinds = {kind: [s.p[kind] for s in found if kind in s.p] for kind in ("nngp", "ntk", "law")}
    yield _line("disagrees", [float(s.verdict != "disagrees") for s in found], 0.5)
    for name, p in {"any test": [s.smallest for s in found], **kinds}.items():
        for level in LEVELS:
            yield _line(f"{name}: p < {level}", p, level)


def _line(name: str, p: Sequence[float], level: float) -> str:
    count = int(np.sum(np.asarray(p) < level))
    low, high = interval(count, len(p))
    return f"{name:<20} {count:>4} of {len(p)} = {count / len(p):.2%}  ({low:.2%} .. {high:.2%})"


def main() -> None:
    """Runs studies; alarms are shown with their programs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    found = []
    for number in range(chosen.first, chosen.first + chosen.studies):
        found.append(study(number))
        if found[-1].smallest < 0.01:
            print(number, found[-1].verdict, found[-1].p, found[-1].text, sep="\n", flush=True)
        if len(found) % 100 == 0 or len(found) == chosen.studies:
            print("\n".join(lines(found)), flush=True)


if __name__ == "__main__":
    main()
