"""Limit programs as machine code: straight-line scalar functions, tapes over tiles of pairs of examples."""
