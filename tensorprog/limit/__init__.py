"""IR -> limit: powers of the width, Z, hat Z and dot Z, gradient independence, the equations of the moments."""

from tensorprog.limit.analyse import Limit, analyse


def print_limit(limit: Limit, format: str = "text") -> str:
    """The limit program, its equations and what was assumed, as "text" or "latex"."""
    from tensorprog.limit import printer  # needs the Gaussian expectations, which an analysis does without

    return printer.print_limit(limit, format)


__all__ = ["Limit", "analyse", "print_limit"]
