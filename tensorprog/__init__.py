"""tensorprog: from a network written as a tensor program to its infinite-width kernels.

    net = tensorprog.load("examples/mlp.tp", sw=1.2, phi="gelu")
    kernel = net.ntk(x1, x2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorprog.errors import Diagnostic, TensorProgError

if TYPE_CHECKING:
    from tensorprog.api import Network, load

__version__ = "0.1.0"
__all__ = ["Diagnostic", "Network", "TensorProgError", "__version__", "load"]


def __getattr__(name: str) -> object:
    """`load` and `Network` on first use, so that the command line starts without the numerical stages."""
    if name in ("Network", "load"):
        from tensorprog import api

        return getattr(api, name)
    raise AttributeError(f"module 'tensorprog' has no attribute '{name}'")
