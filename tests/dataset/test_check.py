"""What is wrong with a program only at some sizes."""

import re

import pytest

from tensorprog.errors import TensorProgError
from tensorprog.ir.check import check_sizes, default_sizes, parameter_sizes, size_names
from tests.writing import program_of


def test_default_sizes_are_small_and_whole():
    program = program_of(
        "input x[H, W]: [c]\nweight v: [n] ~ N(0, 1 / n)\nweight U: [n, c] ~ N(0, 1)\n"
        "g[i in H/8, j in W/2] = U @ x[8*i, 2*j]\n"
        "output dot(v, mean(i in H/8, j in W/2) g[i, j])"
    )
    assert default_sizes(program) == {"H": 8, "W": 8, "c": 3}
    assert size_names(program) == ("H", "W", "c")
    assert parameter_sizes(program) == {"c"}


def test_mixed_sizes_are_found():
    program = program_of(
        "input x[S, T]: [c]\nweight v: [n] ~ N(0, 1 / n)\nweight U: [n, c] ~ N(0, 1)\n"
        "g[i in (S - 1) / T] = U @ x[i, 0]\n"
        "output dot(v, sum(i in (S - 1) / T) g[i])"
    )
    sizes = default_sizes(program)
    assert (sizes["S"] - 1) % sizes["T"] == 0


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        ("weight K[4]: [n, d] ~ N(0, 1 / d)\ng = sum(p in T) K[2 * p] @ x[p]\noutput dot(v, g)",
         ["weight K[4]", "extents [4]"]),
        ("weight K[T - 4]: [n, d] ~ N(0, 1 / d)\ng = sum(p in T) K[p] @ x[p]\noutput dot(v, g)",
         ["weight K[", "not padded"]),
        ("weight U: [n, d] ~ N(0, 1)\nh[0] = zeros(n)\nfor t in T:\n    h[t + 1] = erf(h[t - 1]) + U @ x[t]\n"
         "output dot(v, h[T])", ["h[-1]", "never assigned"]),
    ],
)
def test_reads_outside(body, parts):
    program = program_of("input x[T]: [d]\nweight v: [n] ~ N(0, 1 / n)\n" + body)
    with pytest.raises(TensorProgError) as caught:
        default_sizes(program)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    assert re.search(r"<string>:\d+:\d+", str(caught.value))


def test_padding_of_inputs_and_families_is_no_mistake():
    program = program_of(
        "input x[T]: [d]\nweight K[3]: [n, d] ~ N(0, 1 / d)\nweight v: [n] ~ N(0, 1 / n)\n"
        "g[t in T] = sum(p in -1..1) K[p + 1] @ x[t + p]\noutput dot(v, mean(t in T) erf(g[t - 1]))"
    )
    check_sizes(program, {"T": 1, "d": 1})


def test_families_of_too_many_elements_are_refused():
    program = program_of(
        "input x[T]: [d]\nweight v: [n] ~ N(0, 1 / n)\nweight U: [n, d] ~ N(0, 1)\nh[t in T] = U @ x[t]\n"
        "a[t in T, u in T] = dot(h[t], h[u]) / n\noutput dot(v, sum(t in T, u in T) a[t, u] * h[t])"
    )
    with pytest.raises(TensorProgError, match="elements"):
        check_sizes(program, {"T": 100_000, "d": 1})
