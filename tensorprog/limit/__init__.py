"""IR -> limit: powers of the width, Z, hat Z and dot Z, gradient independence, the rules of the moments."""

from tensorprog.limit.analyse import Limit, analyse
from tensorprog.limit.printer import print_limit

__all__ = ["Limit", "analyse", "print_limit"]
