"""Kernels of a limit on data: who serves which expectation, and the three tiers behind one call."""

from tensorprog.evaluate.kernels import Kernels, Options, Report, evaluate, scalar_limits

__all__ = ["Kernels", "Options", "Report", "evaluate", "scalar_limits"]
