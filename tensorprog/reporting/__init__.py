"""A study as a page that a browser shows: the program, its derivation, figures, the verdict."""

from tensorprog.reporting.kernels import kernels_fragment
from tensorprog.reporting.page import fragment, page
from tensorprog.reporting.setting import Setting, setting

__all__ = ["Setting", "fragment", "kernels_fragment", "page", "setting"]
