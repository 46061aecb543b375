"""Kernels -> answers: regression and classification with a kernel matrix."""

from tensorprog.predict.regression import (
    Posterior,
    accuracy,
    centered_one_hot,
    determination,
    posterior,
)

__all__ = ["Posterior", "accuracy", "centered_one_hot", "determination", "posterior"]
