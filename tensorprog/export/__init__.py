"""A program as source text that stands by itself: a function of NumPy, or a module of PyTorch."""

from tensorprog.export.module import LIBRARIES, source
from tensorprog.export.parameters import save_parameters

__all__ = ["LIBRARIES", "save_parameters", "source"]
