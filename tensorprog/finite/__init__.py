"""Finite width: draw weights, run the program, compare with the limit."""

from tensorprog.finite.forward import forward
from tensorprog.finite.simulate import Simulation, measure, simulate
from tensorprog.finite.state import Group
from tensorprog.finite.weights import Network, draw, widths_at

__all__ = ["Group", "Network", "Simulation", "draw", "forward", "measure", "simulate", "widths_at"]
