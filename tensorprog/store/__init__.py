"""Kernels larger than memory: block by block to disk, resumed after an interruption, on one machine or several."""

from tensorprog.store.request import Asked
from tensorprog.store.run import Wanted, Written, write_kernels

__all__ = ["Asked", "Wanted", "Written", "write_kernels"]
