"""Formulas in MathML, as browsers show it by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import final

from tensorprog.derivation.spelling import GREEK, Part, spelled
from tensorprog.derivation.style import Style

SPACE = '<mspace width="0.17em"/>'
FUNCTIONS = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "Phi": "Φ", "normcdf": "Φ", "normpdf": "φ"}
OPERATORS = {"neg": "−", "-": "−", "<=": "≤", ">=": "≥", "!=": "≠"}


@final
class MathML(Style):
    """Elements inside <math>."""

    def symbol(self, name: str) -> str:
        """See `Style`."""
        bare = name.rstrip("'")
        base, below = _parts(bare)
        shown = f"<msub>{base}{below}</msub>" if below else base
        return _primed(shown, len(name) - len(bare))

    def variable(self, name: str, adjoint: bool, level: str, prime: bool, index: Sequence[str]) -> str:
        """See `Style`."""
        base, below = _parts(name)
        base = self.row(['<mi mathvariant="normal">d</mi>', base]) if adjoint else base
        return _scripts(base, ["<mo>′</mo>"] * prime + [level] * bool(level), [below, *index])

    def covariance(self, name: str, adjoint: bool, level: str, index: Sequence[str]) -> str:
        """See `Style`."""
        head = _scripts("<mi>C</mi>", [level], [self.variable(name, adjoint, "", False, ())])
        return self.row([head, self.brackets(_listed(index))]) if index else head

    def integer(self, value: str) -> str:
        """See `Style`."""
        base, _, exponent = value.partition("e")
        if exponent:
            ten = f"<msup><mn>10</mn><mn>{int(exponent)}</mn></msup>"
            return self.row([f"<mn>{base}</mn>", "<mo>·</mo>", ten])
        return f"<mn>{escape(base)}</mn>"

    def fraction(self, above: str, below: str) -> str:
        """See `Style`."""
        return f"<mfrac>{_one(above)}{_one(below)}</mfrac>"

    def power(self, base: str, exponent: str) -> str:
        """See `Style`."""
        return f"<msup>{_one(base)}{_one(exponent)}</msup>"

    def root(self, inside: str) -> str:
        """See `Style`."""
        return f"<msqrt>{inside}</msqrt>"

    def call(self, name: str, args: Sequence[str]) -> str:
        """See `Style`."""
        bare = name.rstrip("'")
        head, digits = bare.rstrip("0123456789"), bare[len(bare.rstrip("0123456789")) :]
        shown = f'<mi mathvariant="normal">{escape(FUNCTIONS.get(head, head))}</mi>'
        shown = f"<msub>{shown}<mn>{digits}</mn></msub>" if digits else shown
        return self.row([_primed(shown, len(name) - len(bare)), "<mo>&#x2061;</mo>", self.brackets(_listed(args))])

    def brackets(self, inside: str) -> str:
        """See `Style`."""
        return f"<mrow><mo>(</mo>{inside}<mo>)</mo></mrow>"

    def expectation(self, inside: str) -> str:
        """See `Style`."""
        return f"<mrow><mi>𝔼</mi><mo>[</mo>{inside}<mo>]</mo></mrow>"

    def integral(self, body: str, variables: Sequence[str]) -> str:
        """See `Style`."""
        density = self.row(["<mi>p</mi>", self.brackets(_listed(variables))])
        differentials = [self.row(['<mi mathvariant="normal">d</mi>', v]) for v in variables]
        return self.juxtaposed(["<mo>∫</mo>", body, density, *differentials])

    def gram(self, left: str, right: str) -> str:
        """See `Style`."""
        return f"<mrow><mo>⟨</mo>{left}<mo>,</mo>{right}<mo>⟩</mo></mrow>"

    def indicator(self, inside: str) -> str:
        """See `Style`."""
        return f'<mrow><mn mathvariant="bold">1</mn><mo>[</mo>{inside}<mo>]</mo></mrow>'

    def over(self, kind: str, ranges: Sequence[tuple[str, str, str]], body: str) -> str:
        """See `Style`."""
        sign = "<mo>∑</mo>" if kind == "sum" else "<mo>max</mo>"
        signs = [
            f"<munderover>{sign}<mrow>{index}<mo>=</mo>{low}</mrow>{_one(high)}</munderover>"
            for index, low, high in ranges
        ]
        return self.row([*signs, body])

    def juxtaposed(self, factors: Sequence[str]) -> str:
        """See `Style`."""
        return self.row([SPACE.join(factors)])

    def operator(self, sign: str) -> str:
        """See `Style`."""
        form = ' form="prefix"' if sign == "neg" else ""
        return f"<mo{form}>{escape(OPERATORS.get(sign, sign))}</mo>"

    def row(self, parts: Sequence[str]) -> str:
        """See `Style`."""
        return f"<mrow>{''.join(parts)}</mrow>"


def _parts(name: str) -> tuple[str, str]:
    """A name and its subscript: h_in is h with "in", h.2 is h with "2"."""
    (letters, digits), rest = spelled(name)
    below = [*([f"<mn>{digits}</mn>"] if digits else []), *map(_below, rest)]
    inside = ("<mo>,</mo>" if digits and rest and not rest[0][0] else SPACE).join(below)  # two numbers are not one
    return f"<mi>{escape(GREEK.get(letters, letters))}</mi>", f"<mrow>{inside}</mrow>" if len(below) > 1 else inside


def _below(part: Part) -> str:
    """A word of a subscript."""
    letters, digits = part
    number = f"<mn>{digits}</mn>"
    shown = f'<mi mathvariant="normal">{escape(GREEK.get(letters, letters))}</mi>' if letters else number
    return f"<msub>{shown}{number}</msub>" if letters and digits else shown


def _primed(shown: str, primes: int) -> str:
    return f"<msup>{shown}<mo>{'′' * primes}</mo></msup>" if primes else shown


def _scripts(base: str, above: Sequence[str], below: Sequence[str]) -> str:
    high, low = _listed([a for a in above if a], ""), _listed([b for b in below if b])
    if high and low:
        return f"<msubsup>{_one(base)}{_one(low)}{_one(high)}</msubsup>"
    if high or low:
        return f"<msup>{_one(base)}{_one(high)}</msup>" if high else f"<msub>{_one(base)}{_one(low)}</msub>"
    return base


def _listed(parts: Sequence[str], comma: str = "<mo>,</mo>") -> str:
    return comma.join(parts)


def _one(inside: str) -> str:
    """Several elements as one."""
    return f"<mrow>{inside}</mrow>"
