"""Gaussian expectations: closed forms derived by rules, and quadrature with an error estimate."""
