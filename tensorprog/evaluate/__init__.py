"""Kernels of a limit on data: who serves which expectation, and the three tiers behind one call."""

from tensorprog.evaluate.gradients import KernelGradients, gradients
from tensorprog.evaluate.inputs import KernelCotangents, KernelTangents, pulled, pushed
from tensorprog.evaluate.kernels import Derived, Kernels, Report, evaluate
from tensorprog.evaluate.options import Options
from tensorprog.evaluate.scalars import scalar_limit

__all__ = [
    "Derived",
    "KernelCotangents",
    "KernelGradients",
    "KernelTangents",
    "Kernels",
    "Options",
    "Report",
    "evaluate",
    "gradients",
    "pulled",
    "pushed",
    "scalar_limit",
]
