"""Reverse-mode differentiation: a program becomes a longer program that also computes its gradients."""

from tensorprog.autodiff.reverse import Seeded, differentiate, seeded

__all__ = ["Seeded", "differentiate", "seeded"]
