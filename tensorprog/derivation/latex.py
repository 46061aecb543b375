"""Formulas in LaTeX (amsmath, amssymb)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from tensorprog.derivation.spelling import GREEK, Part, spelled
from tensorprog.derivation.style import Style

FUNCTIONS = {
    "exp": r"\exp", "log": r"\log", "sin": r"\sin", "cos": r"\cos", "tanh": r"\tanh", "sinh": r"\sinh",
    "cosh": r"\cosh", "asin": r"\arcsin", "acos": r"\arccos", "atan": r"\arctan", "max": r"\max", "min": r"\min",
    "Phi": r"\Phi", "normcdf": r"\Phi", "normpdf": r"\varphi",
}  # fmt: skip
OPERATORS = {"neg": "-", "<=": r" \le ", ">=": r" \ge ", "!=": r" \ne "}
ESCAPES = {c: f"\\{c}" for c in "_%#&${}"} | {"^": r"\^{}", "~": r"\~{}", "\\": r"\textbackslash{}"}


@final
class Latex(Style):
    """The inside of a display."""

    def symbol(self, name: str) -> str:
        """A letter, a Greek letter, a word in italics; primes stay primes."""
        bare = name.rstrip("'")
        return _word(bare) + name[len(bare) :]

    def variable(self, name: str, adjoint: bool, level: str, prime: bool, index: Sequence[str]) -> str:
        r"""\mathrm{d}h'^{l}_{t}"""
        base, below = _parts(name)
        shown = (r"\mathrm{d}" if adjoint else "") + base + ("'" if prime else "")
        return shown + _scripts(level, [below, *index])

    def covariance(self, name: str, adjoint: bool, level: str, index: Sequence[str]) -> str:
        """C_{h}^{l}(t, t')"""
        inner = self.variable(name, adjoint, "", False, ())
        return f"C_{{{inner}}}" + _scripts(level, []) + (f"({', '.join(index)})" if index else "")

    def integer(self, value: str) -> str:
        """See `Style`."""
        base, _, exponent = value.partition("e")
        return rf"{base} \cdot 10^{{{int(exponent)}}}" if exponent else base

    def fraction(self, above: str, below: str) -> str:
        """See `Style`."""
        return rf"\frac{{{above}}}{{{below}}}"

    def power(self, base: str, exponent: str) -> str:
        """See `Style`."""
        return f"{{{base}}}^{{{exponent}}}"

    def root(self, inside: str) -> str:
        """See `Style`."""
        return rf"\sqrt{{{inside}}}"

    def call(self, name: str, args: Sequence[str]) -> str:
        """See `Style`."""
        bare = name.rstrip("'")
        head, digits = bare.rstrip("0123456789"), bare[len(bare.rstrip("0123456789")) :]
        known = FUNCTIONS.get(head, rf"\operatorname{{{escaped(head)}}}") + (f"_{{{digits}}}" if digits else "")
        return known + name[len(bare) :] + self.brackets(", ".join(args))

    def brackets(self, inside: str) -> str:
        """See `Style`."""
        return rf"\left({inside}\right)"

    def expectation(self, inside: str) -> str:
        """See `Style`."""
        return rf"\mathbb{{E}}\left[{inside}\right]"

    def integral(self, body: str, variables: Sequence[str]) -> str:
        """See `Style`."""
        differentials = r"\, ".join(rf"\mathrm{{d}}{v}" for v in variables)
        return rf"\int {body}\, p({', '.join(variables)})\, {differentials}"

    def gram(self, left: str, right: str) -> str:
        """See `Style`."""
        return rf"\langle {left}, {right} \rangle"

    def indicator(self, inside: str) -> str:
        """See `Style`."""
        return rf"\mathbf{{1}}[{inside}]"

    def over(self, kind: str, ranges: Sequence[tuple[str, str, str]], body: str) -> str:
        """One sign for ranges with equal bounds."""
        sign = r"\sum" if kind == "sum" else r"\max"
        signs = [rf"{sign}_{{{', '.join(names)}={low}}}^{{{high}}}" for names, low, high in _joined(ranges)]
        return " ".join([*signs, body])

    def juxtaposed(self, factors: Sequence[str]) -> str:
        """See `Style`."""
        return r"\, ".join(factors)

    def operator(self, sign: str) -> str:
        """See `Style`."""
        return OPERATORS.get(sign, f" {sign} ")

    def row(self, parts: Sequence[str]) -> str:
        """See `Style`."""
        return "".join(parts)


def _word(name: str) -> str:
    base, below = _parts(name)
    return base + (f"_{{{below}}}" if below else "")


def _parts(name: str) -> tuple[str, str]:
    """A name and its subscript: h_in is h with "in", h.2 is h with "2"."""
    (letters, digits), rest = spelled(name)
    shown = letters if len(letters) == 1 else _letters(letters, "mathit")
    between = ", " if digits and rest and not rest[0][0] else r"\,"  # two numbers are not one
    return shown, between.join([*([digits] if digits else []), *map(_below, rest)])


def _below(part: Part) -> str:
    """A word of a subscript."""
    letters, digits = part
    shown = _letters(letters, "mathrm") if letters else digits
    return f"{shown}_{{{digits}}}" if letters and digits else shown


def _letters(word: str, face: str) -> str:
    return rf"\{word}" if word in GREEK else rf"\{face}{{{escaped(word)}}}"


def _scripts(level: str, below: Sequence[str]) -> str:
    low = ", ".join(b for b in below if b)
    return (f"^{{{level}}}" if level else "") + (f"_{{{low}}}" if low else "")


def _joined(ranges: Sequence[tuple[str, str, str]]) -> list[tuple[list[str], str, str]]:
    found: list[tuple[list[str], str, str]] = []
    for index, low, high in ranges:
        if found and found[-1][1:] == (low, high):
            found[-1][0].append(index)
        else:
            found.append(([index], low, high))
    return found


def escaped(text: str) -> str:
    return "".join(ESCAPES.get(c, c) for c in text)
