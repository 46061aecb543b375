"""Names as letters with subscripts, the same for every style that has them.

    h_in.2  ->  h with "in" and 2 below;      lambda1  ->  λ with 1;      Theta_lambda1  ->  Θ with λ_1 below
"""

from __future__ import annotations

GREEK = {"alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ", "eta": "η", "theta": "θ",
         "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ",
         "phi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ",
         "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω"}  # fmt: skip

Part = tuple[str, str]
"""Letters, and the digits after them; either may be empty."""


def spelled(name: str) -> tuple[Part, tuple[Part, ...]]:
    """The letters of a name with its number, and the words below them."""
    first, *rest = name.replace(".", "_").split("_")
    if not first:
        return (name, ""), ()
    return _part(first), tuple(_part(r) for r in rest if r)


def _part(word: str) -> Part:
    letters = word.rstrip("0123456789")
    return letters, word[len(letters) :]
