"""Limit -> page: the equations of the kernels as a person would write them, in text, LaTeX, Markdown and HTML."""

from tensorprog.derivation.compose import compose
from tensorprog.derivation.derive import Derivation, derive
from tensorprog.derivation.publish import FORMATS, FORMULAS, html_fragment, html_parts

__all__ = ["FORMATS", "FORMULAS", "Derivation", "compose", "derive", "html_fragment", "html_parts"]
