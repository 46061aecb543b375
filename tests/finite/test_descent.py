"""Gradients of a loss in the weights: finite differences, the tangent kernel, flow against descent."""

from dataclasses import replace

import numpy as np
import pytest

import tensorprog
from tensorprog.autodiff import differentiate
from tensorprog.dataset import bind
from tensorprog.finite import Group, draw, measure, widths_at
from tensorprog.finite.descent import advance, outputs_of, states_of, weight_velocity
from tests.agreement.comparing import EXAMPLES, example_inputs

NAMES = ("mlp", "rnn", "tied", "cnn_global", "transformer", "batchnorm", "densenet", "mlp_standard")


def network_of(name):
    net = tensorprog.load(EXAMPLES / f"{name}.tp", **({"phi": "tanh"} if name == "mlp" else {}))
    sizes = {"batchnorm": {"B": 5, "d": 8}, "rnn": {"T": 3}, "transformer": {"T": 3}}.get(name, {})
    data = bind(net.program, example_inputs(net, **sizes))
    what = differentiate(net.program, net.program.outputs[0].name)
    network = draw(net.program, data.sizes(), widths_at(net.program, 6, data.sizes()), 0, np.float64)
    return what, network, [Group(g.sizes, g.batch) for g in data.groups]


def outputs(what, network, groups):
    return outputs_of(what, states_of(what, network, groups, gradients=False))


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_derivative(name):
    what, network, groups = network_of(name)
    states = states_of(what, network, groups, gradients=True)
    slopes = np.random.default_rng(0).standard_normal(len(outputs_of(what, states)))
    velocity, scale = weight_velocity(what, network, states, slopes), measure(what, network, groups).rates
    rng, h = np.random.default_rng(1), 1e-6
    for weight, v in velocity.items():
        direction = rng.standard_normal(v.shape)

        def loss(t, weight=weight, direction=direction):
            values = {**network.values, weight: network.values[weight] + t * direction}
            return slopes @ outputs(what, replace(network, values=values), groups)

        slope = (loss(h) - loss(-h)) / (2 * h)
        assert -np.sum(v * direction) / scale[weight] == pytest.approx(slope, rel=1e-5, abs=1e-7), weight


@pytest.mark.parametrize("name", NAMES)
def test_outputs_move_by_the_tangent_kernel(name):
    """d f / d t = -K slopes: the weights' learning rates are those of the kernel."""
    what, network, groups = network_of(name)
    states = states_of(what, network, groups, gradients=True)
    slopes = np.random.default_rng(0).standard_normal(len(outputs_of(what, states)))
    kernel = measure(what, network, groups).ntk
    velocity, h = weight_velocity(what, network, states, slopes), 1e-6

    def moved(t):
        return outputs(what, advance(network, lambda _: velocity, t, flow=False), groups)

    change = (moved(h) - moved(-h)) / (2 * h)
    np.testing.assert_allclose(change, -kernel @ slopes, rtol=1e-4, atol=1e-5 * np.abs(kernel @ slopes).max())


def test_flow_is_the_limit_of_descent():
    what, network, groups = network_of("mlp")
    y = np.linspace(-1, 1, len(outputs(what, network, groups)))

    def velocity(at):
        states = states_of(what, at, groups, gradients=True)
        return weight_velocity(what, at, states, outputs_of(what, states) - y)

    def end(steps, flow):
        at = network
        for _ in range(steps):
            at = advance(at, velocity, 0.2 / steps, flow)
        return outputs(what, at, groups)

    exact = end(64, True)
    errors = [np.abs(end(k, False) - exact).max() for k in (32, 64)]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)
    flow = [np.abs(end(k, True) - exact).max() for k in (8, 16)]
    assert flow[1] < 1e-3 * errors[1] and flow[1] == pytest.approx(flow[0] / 16, rel=0.3)
