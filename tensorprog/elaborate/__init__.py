"""Syntax tree -> straight-line IR: names, compile-time values, loops, blocks, the prelude."""

from tensorprog.elaborate.driver import Elaborated, elaborate

__all__ = ["Elaborated", "elaborate"]
