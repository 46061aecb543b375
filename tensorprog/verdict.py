"""What a study of limit and simulation found, in numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from tensorprog.finite.convergence import AGREES, DISAGREES, INCONCLUSIVE, Convergence
from tensorprog.finite.law import Law

NAMES = {"nngp": "NNGP", "ntk": "NTK", "value": "value"}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """What a study over widths says of each kernel, or of the "value" of outputs that are numbers in the limit.

    `law` is what it says of the joint law of the outputs (None where the limit is not Gaussian), `failure` why the
    tangent kernel was not simulated, `hint` what may be wrong with a limit that disagrees, `rows` the names of rows.
    """

    found: Mapping[str, Convergence]
    law: Law | None = None
    failure: str = ""
    hint: str = ""
    rows: tuple[str, ...] = ()

    @property
    def nngp(self) -> Convergence | None:
        """The study of the NNGP kernel."""
        return self.found.get("nngp")

    @property
    def ntk(self) -> Convergence | None:
        """The study of the tangent kernel."""
        return self.found.get("ntk")

    @property
    def verdict(self) -> str:
        """"disagrees" if one study does, "agrees" if all do, else "inconclusive"."""
        verdicts = {c.verdict for c in self._studies().values()}
        if DISAGREES in verdicts:
            return DISAGREES
        return AGREES if verdicts == {AGREES} else INCONCLUSIVE

    @property
    def words(self) -> str:
        """The verdict as a sentence."""
        reason = next((f"{n}: {c.reason}" for n, c in self._studies().items() if c.verdict == self.verdict), "no study")
        match self.verdict:
            case "agrees":
                falls = ", ".join(f"{c.slope:.2f} +- {c.slope_error:.2f} ({NAMES[k]})" for k, c in self.found.items())
                return f"agrees with the limit: the deviation falls like width^s, s = {falls}; 1/sqrt(width) is -0.5"
            case "disagrees":
                return f"disagrees: this is not the limit of the program. {reason}"
            case _:
                return f"inconclusive. {reason}"

    def _repr_html_(self) -> str:
        """Figures and numbers in a notebook."""
        from tensorprog.reporting import fragment

        return fragment(self)

    def _studies(self) -> dict[str, Convergence | Law]:
        studies: dict[str, Convergence | Law] = {NAMES[kind]: c for kind, c in self.found.items()}
        return studies if self.law is None else {**studies, "law of the outputs": self.law}

    def __str__(self) -> str:
        parts = [_convergence(NAMES[kind], c) for kind, c in self.found.items()]
        if self.law is not None:
            parts.append(_law(self.law))
        if self.failure:
            parts.append(f"NTK not simulated: {self.failure}")
        parts.append(f"verdict: {self.words}")
        if self.hint and self.verdict == DISAGREES:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


def _convergence(name: str, c: Convergence) -> str:
    rows = [f"  {w:>6} {s:>6}   {d:.3e}  ({low:.2e} .. {high:.2e})"
            for w, s, d, (low, high) in zip(c.widths, c.seeds, c.deviation, c.interval, strict=True)]
    head = [f"{name}: {c.verdict}", "   width  seeds   deviation of one network, 95% interval"]
    tail = [f"  slope {c.slope:.3f} +- {c.slope_error:.3f} (a right limit: -0.5)"]
    if c.verdict != DISAGREES:
        noticed, rare = c.extrapolated.detectable(c.level), f"in one of {1 / c.level:.0f} studies"
        tail += [
            f"  leading terms, relative: bias ({c.bias.size}) / width, variance ({c.variance.size}) / width",
            f"  a limit wrong by {noticed:.1%} would be noticed; a right one is called wrong {rare}",
        ]
    return "\n".join([*head, *rows, *tail, f"  {c.reason}"])


def _law(law: Law) -> str:
    rows = [f"  {w:>6} {len(f):>6}   {f'{k.value:+.3f} +- {k.error:.3f}':<22} p = {e:.3f}"
            for w, f, k, e in zip(law.widths, law.outputs, law.kurtosis, law.energy, strict=True)]
    head = [f"joint law of the outputs, {law.rank} of {len(law.limit)} directions: {law.verdict}",
            "   width  seeds   excess kurtosis        energy test"]
    return "\n".join([*head, *rows, f"  {law.reason}"])
