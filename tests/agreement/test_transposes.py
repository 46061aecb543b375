"""Programs in which matrices meet their transposes in every way: the limit against simulation."""

from __future__ import annotations

import numpy as np
import pytest

import tensorprog
from tests.writing import source_of

VECTOR = "input x: [d]\nweight U: [n, d] ~ N(0, 1 / d)\nweight W: [n, n] ~ N(0, 1 / n)\nweight v: [n] ~ N(0, 1 / n)\n"
SEQUENCE = VECTOR.replace("x: [d]", "x[T]: [d]")
POOLED = "input x[T]: [d]\nweight U: [n, d] ~ N(0, 1 / d) lr n / d\nweight W: [n, n] ~ N(0, 1 / n) lr 1\n"

PROGRAMS = {
    "symmetric recurrence": SEQUENCE
    + "s = zeros(n)\nfor t in T:\n    s = tanh(W @ s + W.T @ s / 2 + U @ x[t])\noutput dot(v, s)",
    "mean of a recurrence": POOLED + "s = zeros(n)\nfor t in T:\n    s = relu(W @ s + U @ x[t])\noutput avg(s)",
    "convolution and its transpose": """input x[T]: [d]
weight K[3]: [n, d] ~ N(0, 1 / (3 * d))
weight W[3]: [n, n] ~ N(0, 1 / (3 * n))
weight v: [n] ~ N(0, 1 / n)
h[i in T] = tanh(sum(p in 0..2) K[p] @ x[i + p - 1])
g[i in T] = tanh(sum(p in 0..2) W[p] @ h[i + p - 1])
y[i in T] = tanh(sum(p in 0..2) W[p].T @ g[i - p + 1])
output dot(v, mean(i in T) y[i])""",
    "unrolled sparse coding": """input x: [d]
width m = n / 2
weight U: [m, d] ~ N(0, 1 / d)
weight W: [m, n] ~ N(0, 1 / m)
weight v: [n] ~ N(0, 1 / n)
y = U @ x
h = zeros(n)
for t in 1..2:
    h = erf(h + W.T @ (y - W @ h))
output dot(v, h)""",
    "layer normalization": VECTOR + "h = U @ x\noutput dot(v, tanh(layernorm(W.T @ relu(W @ h) + h)))",
    "inner products as numbers": VECTOR + """h = erf(U @ x)
g = W @ h
a = dot(g, g) / n
b = dot(W.T @ relu(g), h) / n
output dot(v, tanh(a * g + b * h))""",
    "two matrices that cross": VECTOR.replace("W:", "A:") + """weight B: [n, n] ~ N(0, 1 / n)
h = U @ x
q = A.T @ relu(B @ relu(A @ h))
r = B.T @ relu(A @ (q + h))
output dot(v, erf(q + r))""",
    "attention": SEQUENCE + """h[t in T] = U @ x[t]
a[t in T, s in T] = softmax(s) dot(W @ h[t], W @ h[s]) / n
output dot(v, mean(t in T) relu(W.T @ relu(W @ (sum(s in T) a[t, s] * h[s]))))""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_kernels_agree_with_simulation(name):
    net = tensorprog.load(source_of(PROGRAMS[name]))
    shape = (2, 3, 3) if "x[T]" in PROGRAMS[name] else (2, 3)
    found = net.validate(np.random.default_rng(0).standard_normal(shape), widths=(48, 96, 192), seeds=16)
    assert not net.limit().verdict.holds and found.ntk is not None
    for study in found.found.values():
        assert study.verdict != "disagrees" and study.extrapolated.z < 4 and study.extrapolated.noise < 0.2, str(found)
