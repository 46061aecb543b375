"""What a style of formulas is: a table of how small pieces look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence


class Style(ABC):
    """How the pieces of a formula look."""

    # ------------------------------------------------------------ pieces

    @abstractmethod
    def symbol(self, name: str) -> str:
        """A name: of an index, a size, a parameter."""

    @abstractmethod
    def variable(self, name: str, adjoint: bool, level: str, prime: bool, index: Sequence[str]) -> str:
        """One coordinate of a vector, or a scalar."""

    @abstractmethod
    def covariance(self, name: str, adjoint: bool, level: str, index: Sequence[str]) -> str:
        """C_h, the second moment of a variable over both runs."""

    @abstractmethod
    def integer(self, value: str) -> str:
        """The digits of a number."""

    @abstractmethod
    def fraction(self, above: str, below: str) -> str:
        """above / below, both in parentheses where the style needs them."""

    @abstractmethod
    def power(self, base: str, exponent: str) -> str:
        """base to the exponent."""

    @abstractmethod
    def root(self, inside: str) -> str:
        """A square root."""

    @abstractmethod
    def call(self, name: str, args: Sequence[str]) -> str:
        """A function of arguments."""

    @abstractmethod
    def brackets(self, inside: str) -> str:
        """Parentheses."""

    @abstractmethod
    def expectation(self, inside: str) -> str:
        """E[inside]"""

    @abstractmethod
    def integral(self, body: str, variables: Sequence[str]) -> str:
        """The integral of body against the density of variables."""

    @abstractmethod
    def gram(self, left: str, right: str) -> str:
        """An inner product of data."""

    @abstractmethod
    def indicator(self, inside: str) -> str:
        """1 where a condition holds, else 0."""

    @abstractmethod
    def over(self, kind: str, ranges: Sequence[tuple[str, str, str]], body: str) -> str:
        """A "sum" or "max" of body over ranges (index, low, high)."""

    @abstractmethod
    def juxtaposed(self, factors: Sequence[str]) -> str:
        """A product."""

    @abstractmethod
    def operator(self, sign: str) -> str:
        """+, -, = or a relation between its neighbours."""

    @abstractmethod
    def row(self, parts: Sequence[str]) -> str:
        """Pieces one after the other."""

    below_is_open = False
    """Whether the lower part of a fraction needs its parentheses."""
