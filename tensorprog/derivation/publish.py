"""Pages in plain text, LaTeX, Markdown (with LaTeX between dollars) and HTML (with MathML)."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from html import escape

from tensorprog.derivation.latex import Latex, escaped
from tensorprog.derivation.layout import Writer
from tensorprog.derivation.mathml import MathML
from tensorprog.derivation.page import Display, Heading, Line, Loop, Page, Paragraph
from tensorprog.derivation.text import Text

WIDTH = 100
FORMULAS = """
table.formulas { border-collapse: collapse; margin: 1rem 0 1rem 1.5rem; display: block; overflow: auto hidden; }
table.formulas tbody tr:nth-child(n) { background: none; }
table.formulas td { padding: 0.35rem 0.3rem; vertical-align: baseline; }
table.formulas tr:nth-child(n) td { text-align: left; }
table.formulas tr:nth-child(n) td.left { text-align: right; white-space: nowrap; }
table.formulas td.remark { color: #666; padding-left: 2rem; white-space: nowrap; }
math { font-size: 1.1em; font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math", math; }
"""
STYLE = f"""
body {{ max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 Georgia, serif; color: #222; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}{FORMULAS}"""


def text(page: Page) -> str:
    """The page for a terminal."""
    writer = Writer(Text())
    blocks = [page.title]
    for part in page.parts:
        match part:
            case Heading(text=words):
                blocks.append(words)
            case Paragraph(parts=parts):
                words = "".join(p if isinstance(p, str) else writer.node(p) for p in parts)
                blocks.append(textwrap.fill(words, WIDTH, break_long_words=False, break_on_hyphens=False))
            case Display(lines=lines):
                blocks.append("\n".join(_text_rows(lines, writer)))
    return "\n\n".join(blocks) + "\n"


def _text_rows(lines: tuple[Line | Loop, ...], writer: Writer) -> list[str]:
    """Rows with their equality signs under each other, as far as left sides are short."""
    left = [writer.node(x.left) if isinstance(x, Line) and x.left is not None else "" for x in lines]
    width = max((len(t) for t in left if len(t) <= 24), default=0)
    rows = []
    for shown, x in zip(left, lines, strict=True):
        if isinstance(x, Loop):
            rows.append(f"  for {x.index} = {_values(x, ', ..., ')}:")
            continue
        sign = "=" if x.left is not None else "+"
        indent = "    " if x.inside else "  "
        remark = f"     ({x.remark})" if x.remark else ""
        rows.append(f"{indent}{shown:<{width}} {sign} {writer.node(x.right)}{remark}")
    return rows


def _values(loop: Loop, dots: str) -> str:
    """2, ..., 5, or both values where there are two."""
    return f"{loop.first}{', ' if abs(loop.first - loop.last) == 1 else dots}{loop.last}"


# ---------------------------------------------------------------- LaTeX


def latex(page: Page) -> str:
    """The page as LaTeX to be put into an article that loads amsmath and amssymb."""
    writer = Writer(Latex())
    blocks = ["% needs \\usepackage{amsmath, amssymb}", f"\\subsection*{{{_latex_words(page.title)}}}"]
    for part in page.parts:
        match part:
            case Heading(text=words):
                blocks.append(f"\\subsubsection*{{{_latex_words(words)}}}")
            case Paragraph(parts=parts):
                blocks.append("".join(_latex_words(p) if isinstance(p, str) else f"${writer.node(p)}$" for p in parts))
            case Display(lines=lines):
                rows = " \\\\\n".join(_latex_row(x, loop, writer) for x, loop in _ranged(lines))
                blocks.append(f"\\begin{{align*}}\n{rows}\n\\end{{align*}}")
    return "\n\n".join(blocks) + "\n"


def _latex_words(words: str) -> str:
    """Words with what is special to LaTeX escaped."""
    shown = escaped(words)
    return shown.replace("\N{RIGHTWARDS ARROW}", r"$\to$").replace("\N{INFINITY}", r"$\infty$")


def _ranged(lines: tuple[Line | Loop, ...]) -> Iterator[tuple[Line, Loop | None]]:
    """The lines, those in a recursion with what they hold for."""
    loop: Loop | None = None
    for x in lines:
        if isinstance(x, Loop):
            loop = x
        else:
            yield x, loop if x.inside else None


def _latex_row(x: Line, loop: Loop | None, writer: Writer) -> str:
    left, sign = ("", "+") if x.left is None else (writer.node(x.left), "=")
    remark = rf" && \text{{({_latex_words(x.remark)})}}" if x.remark else ""
    if loop is not None:
        values = _values(loop, r", \dots, ")
        remark = f" && ({writer.style.symbol(loop.index)} = {values})"
    return f"{left} &{sign} {writer.node(x.right)}{remark}"


# ---------------------------------------------------------------- Markdown


def markdown(page: Page) -> str:
    """The page as Markdown with formulas between dollar signs."""
    writer = Writer(Latex())
    blocks = [f"# {page.title}"]
    for part in page.parts:
        match part:
            case Heading(text=words):
                blocks.append(f"## {words}")
            case Paragraph(parts=parts):
                blocks.append("".join(_plain(p) if isinstance(p, str) else f"${writer.node(p)}$" for p in parts))
            case Display(lines=lines):
                rows = " \\\\\n".join(_latex_row(x, loop, writer) for x, loop in _ranged(lines))
                blocks.append(f"$$\n\\begin{{aligned}}\n{rows}\n\\end{{aligned}}\n$$")
    return "\n\n".join(blocks) + "\n"


def _plain(words: str) -> str:
    """Words with what is special to Markdown escaped."""
    return "".join(f"\\{c}" if c in "_*<`$[" else c for c in words)


# ---------------------------------------------------------------- HTML


def html(page: Page) -> str:
    """The page as one file that needs nothing else: MathML, no scripts."""
    head = f'<meta charset="utf-8"/>\n<title>{escape(page.title)}</title>\n<style>{STYLE}</style>'
    whole = f"<h1>{escape(page.title)}</h1>\n{html_parts(page)}"
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{whole}\n</body>\n</html>\n'


def html_fragment(page: Page) -> str:
    """The page to be shown in a notebook."""
    inside = f"<h1>{escape(page.title)}</h1>\n{html_parts(page)}"
    return f'<style>{FORMULAS}</style>\n<div class="derivation">\n{inside}\n</div>'


def html_parts(page: Page) -> str:
    """What stands below the title, to be put into another document."""
    writer = Writer(MathML())
    body = []
    for part in page.parts:
        match part:
            case Heading(text=words):
                body.append(f"<h2>{escape(words)}</h2>")
            case Paragraph(parts=parts):
                shown = "".join(escape(p) if isinstance(p, str) else f"<math>{writer.node(p)}</math>" for p in parts)
                body.append(f"<p>{shown}</p>")
            case Display(lines=lines):
                rows = "\n".join(_html_row(x, loop, writer) for x, loop in _ranged(lines))
                body.append(f'<table class="formulas">\n{rows}\n</table>')
    return "\n".join(body)


def _html_row(x: Line, loop: Loop | None, writer: Writer) -> str:
    left, sign = ("", "+") if x.left is None else (_math(writer.node(x.left)), "=")
    remark = escape(x.remark)
    if loop is not None:
        values = _values(loop, ", \N{HORIZONTAL ELLIPSIS}, ")
        remark = f"<math>{writer.style.symbol(loop.index)}</math> = {values}"
    right = f'<td>{_math(writer.node(x.right))}</td><td class="remark">{remark}</td>'
    return f'<tr><td class="left">{left}</td><td>{_math(f"<mo>{sign}</mo>")}</td>{right}</tr>'


def _math(inside: str) -> str:
    return f'<math displaystyle="true">{inside}</math>'


FORMATS: Mapping[str, Callable[[Page], str]] = {"text": text, "latex": latex, "markdown": markdown, "html": html}
