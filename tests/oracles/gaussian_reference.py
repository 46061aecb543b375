"""Reference values of E[f(u) f(v)] and E[f'(u) f'(v)] of the activations in `activations.py`, over a hard grid of laws.

    python -m tests.oracles.gaussian_reference

writes `gaussian_reference.npz` beside itself (half an hour on one core; what has not changed is kept):

    laws [L, 4]         variances a, b, covariance c as a float, and +-1 where c means +-sqrt(ab), else 0
    NAME/definition     the texts that the numbers belong to
    NAME/value [2, L]   E[f f] and E[f' f'], from 24 digits or more; nan: does not exist, inf: above 1e308
    NAME/scale [2, L]   sqrt(E f(u)^2 E f(v)^2), the same for f'
"""

from __future__ import annotations

import sys
from multiprocessing import Pool
from pathlib import Path
from typing import Any

import mpmath as mp
import numpy as np

from .activations import ACTIVATIONS, Activation
from .gaussian import DIGITS, DoesNotExist, Number, pair

FILE = Path(__file__).parent / "gaussian_reference.npz"
VARIANCES = ((1e-6, 1e-6), (1e-6, 1e6), (0.1, 100.0), (1.0, 1.0), (1e6, 1e6))
CORRELATIONS = (-1.0, -1 + 1e-12, -0.6, 0.0, 0.9, 1 - 1e-4, 1 - 1e-12, 1.0)
LARGEST = 300.0  # variance at which exponentials are integrated: E exp(2u) = exp(2 variance) is near the end of float64


def laws() -> list[tuple[float, float, float, int]]:
    """The grid."""
    return [
        (a, b, float(rho * np.sqrt(a * b)), int(rho) if abs(rho) == 1 else 0)
        for a, b in VARIANCES
        for rho in CORRELATIONS
    ]


def expectation(activation: Activation, order: int, a: float, b: float, c: float, side: int) -> Number:
    """The expectation at one law; nan where it does not exist, inf where it is too large for a float."""
    if activation.growth and max(a, b) > LARGEST:
        return mp.inf
    with mp.workdps(DIGITS):
        if activation.exact:
            return activation.exact[order](mp.mpf(a), mp.mpf(b), side * mp.sqrt(mp.mpf(a) * b) if side else mp.mpf(c))
        f = activation.function(order)
        try:
            return pair(f, f, a, b, c, side)
        except DoesNotExist:
            return mp.nan


def values(activation: Activation) -> np.ndarray[Any, Any]:
    """value [2, L] and scale [2, L], stacked."""
    table = np.empty((2, 2, len(laws())))
    for order in (0, 1):
        alone = {v: expectation(activation, order, v, v, v, 1) for v in {v for pair in VARIANCES for v in pair}}
        for k, law in enumerate(laws()):
            table[0, order, k] = float(expectation(activation, order, *law))
            table[1, order, k] = float(mp.sqrt(alone[law[0]] * alone[law[1]]))
    return table


def main() -> None:
    """Write the file, keeping what has not changed."""
    old = dict(np.load(FILE)) if FILE.exists() else {}
    if not np.array_equal(old.get("laws"), np.array(laws())):
        old = {"laws": np.array(laws())}
    kept = {n for n, a in ACTIVATIONS.items() if str(old.get(f"{n}/definition")) == str(definition(a))}
    entries = {k: v for k, v in old.items() if k == "laws" or k.rpartition("/")[0] in kept}
    names = [n for n in ACTIVATIONS if n not in kept]
    with Pool() as pool:
        for name, (value, scale) in zip(names, pool.imap(_values_of, names), strict=True):
            texts = np.array(definition(ACTIVATIONS[name]))
            entries |= {f"{name}/definition": texts, f"{name}/value": value, f"{name}/scale": scale}
            np.savez_compressed(FILE, **entries)
            print(name, file=sys.stderr, flush=True)
    np.savez_compressed(FILE, **entries)


def _values_of(name: str) -> np.ndarray[Any, Any]:
    return values(ACTIVATIONS[name])


def definition(a: Activation) -> str:
    """What the numbers depend on."""
    return f"{a.text}; {a.slope}; {a.points}"


if __name__ == "__main__":
    main()
