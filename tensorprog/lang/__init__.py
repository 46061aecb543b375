"""From the text of a .tp file to its syntax tree, and back to text.

    reading.py   file -> Source           lexing.py   Source -> tokens       layout.py   tokens -> lines
    parser.py    lines -> lark tree       build.py    lark tree -> Module    syntax.py   the tree
    hints.py     refused token -> message (advice/: the rules)
    printer.py   tree -> text             format.py   text -> canonical text (spacing.py: where spaces stand)
"""

from tensorprog.lang.format import format_source
from tensorprog.lang.parser import parse
from tensorprog.lang.printer import print_expr, print_module
from tensorprog.lang.reading import read_source

__all__ = ["format_source", "parse", "print_expr", "print_module", "read_source"]
