"""Formulas as plain text, in the manner of a .tp file:  C_h^l = sw^2 E[relu(h^(l-1)) relu(h^(l-1)')] + sb^2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import final

from tensorprog.derivation.style import Style

OPERATORS = {"neg": "-"}


@final
class Text(Style):
    """Plain text on one line."""

    below_is_open = True

    def symbol(self, name: str) -> str:
        """See `Style`."""
        return name

    def variable(self, name: str, adjoint: bool, level: str, prime: bool, index: Sequence[str]) -> str:
        """dh^l'[t]"""
        raised = f"^{_tight(level)}" if level else ""
        return f"{'d' if adjoint else ''}{name}{raised}{chr(39) if prime else ''}{_listed(index)}"

    def covariance(self, name: str, adjoint: bool, level: str, index: Sequence[str]) -> str:
        """C_h^l[t, t']"""
        return f"C_{self.variable(name, adjoint, level, False, index)}"

    def integer(self, value: str) -> str:
        """See `Style`."""
        return value

    def fraction(self, above: str, below: str) -> str:
        """a / b"""
        return f"{above}/{below}" if above.isalnum() and below.isalnum() else f"{above} / {below}"

    def power(self, base: str, exponent: str) -> str:
        """a^b"""
        return f"{base}^{_tight(exponent)}"

    def root(self, inside: str) -> str:
        """sqrt(a)"""
        return f"sqrt({inside})"

    def call(self, name: str, args: Sequence[str]) -> str:
        """f(a, b)"""
        return f"{name}({', '.join(args)})"

    def brackets(self, inside: str) -> str:
        """(a)"""
        return f"({inside})"

    def expectation(self, inside: str) -> str:
        """E[a]"""
        return f"E[{inside}]"

    def integral(self, body: str, variables: Sequence[str]) -> str:
        """integral f(u) p(u) du"""
        return f"integral {body} p({', '.join(variables)}) {' '.join(f'd{v}' for v in variables)}"

    def gram(self, left: str, right: str) -> str:
        """<a, b>"""
        return f"<{left}, {right}>"

    def indicator(self, inside: str) -> str:
        """[a = b]"""
        return f"[{inside}]"

    def over(self, kind: str, ranges: Sequence[tuple[str, str, str]], body: str) -> str:
        """sum(t = 0..T-1) a"""
        shown = ", ".join(f"{index} = {_close(low)}..{_close(high)}" for index, low, high in ranges)
        return f"{kind}({shown}) {body}"

    def juxtaposed(self, factors: Sequence[str]) -> str:
        """a b"""
        return " ".join(factors)

    def operator(self, sign: str) -> str:
        """See `Style`."""
        return OPERATORS.get(sign, f" {sign} ")

    def row(self, parts: Sequence[str]) -> str:
        """See `Style`."""
        return "".join(parts)


def _tight(text: str) -> str:
    """A superscript or bound: without spaces, in parentheses when it is more than one thing."""
    close = _close(text)
    return close if re.fullmatch(r"[\w.']+|\(.*\)", close) or close.isalnum() else f"({close})"


def _close(text: str) -> str:
    return text.replace(" ", "")


def _listed(index: Sequence[str]) -> str:
    return f"[{', '.join(index)}]" if index else ""
