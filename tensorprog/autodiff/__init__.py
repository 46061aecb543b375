"""Reverse-mode differentiation: a program becomes a longer program that also computes its gradients."""

from tensorprog.autodiff.reverse import differentiate

__all__ = ["differentiate"]
