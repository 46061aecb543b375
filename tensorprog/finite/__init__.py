"""Finite width: draw weights, run the program, compare with the limit."""

from tensorprog.finite.convergence import Convergence, convergence
from tensorprog.finite.forward import Group, forward
from tensorprog.finite.simulate import Simulation, simulate
from tensorprog.finite.weights import Network, draw, widths_at

__all__ = ["Convergence", "Group", "Network", "Simulation", "convergence", "draw", "forward", "simulate", "widths_at"]
