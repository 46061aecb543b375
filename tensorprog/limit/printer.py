"""The derived limit as text: `tensorprog derive FILE`."""

from __future__ import annotations

import re

from tensorprog.ir.expr import show
from tensorprog.ir.printer import print_instr
from tensorprog.ir.program import Data
from tensorprog.limit.analyse import Limit
from tensorprog.limit.equations import Derivation, Equation, derive


def print_limit(limit: Limit, format: str = "text") -> str:
    """The limit program, its equations and what was assumed, as "text" or "latex"."""
    derivation = derive(limit)
    return _latex(limit, derivation) if format == "latex" else _text(limit, derivation)


def _text(limit: Limit, d: Derivation) -> str:
    params = ", ".join(f"{k} = {v}" for k, v in limit.source.params)
    lines = [f"{limit.source.name}({params}): the limit of '{limit.output}' as {_widths(limit)} -> infinity", ""]
    lines += ["Variables (Z of every vector; each product with a weight is Gaussian)", ""]
    lines += ["  " + line for line in variables(limit)]
    if d.scalars:
        lines += ["", "Scalars (numbers in the limit; means over one run)", ""] + _table(d.scalars)
    lines += ["", "Forward", ""] + _table(d.forward)
    lines += _value(limit)
    if d.nngp is not None:
        lines += ["", f"  {d.nngp.left} = {d.nngp.right}"]
    if d.ntk:
        lines += ["", "Backward", ""] + _table(d.backward)
        lines += ["", "  NTK = sum over weights of", ""] + [f"    {e.left + ':':<8} {e.right}" for e in d.ntk]
    elif limit.ntk_error is not None:
        lines += ["", f"No NTK: {limit.ntk_error.diagnostics[0].message}"]
    lines += [
        "",
        f"Gradient independence {'holds' if limit.verdict.holds else 'does not hold'}: {limit.verdict.reason}.",
    ]
    return "\n".join(lines) + "\n"


def _value(limit: Limit) -> list[str]:
    """The exact value of an output that is a number, where the program is polynomial."""
    from tensorprog.limit.exact import NotExact, exact_value

    try:
        return ["", f"  {limit.output} = {exact_value(limit.source, limit.output)}"]
    except NotExact:
        return []


def variables(limit: Limit) -> list[str]:
    """The definitions of the forward pass of the limit program, with their roles."""
    own = {i.var.name for i in limit.source.instrs}
    chosen = [i for i in limit.program.instrs if not isinstance(i.op, Data) and _forward(i.var.name, own)]
    texts = [print_instr(i, limit.program) for i in chosen]
    width = min(72, max((len(t) for t in texts), default=0))
    return [f"{t:<{width}}   {limit.roles[i.var.name]}" for t, i in zip(texts, chosen, strict=True)]


def _forward(name: str, own: set[str]) -> bool:
    return (
        name in own
        or (name.endswith((".hat", ".0")) and name.rsplit(".", 1)[0] in own)
        or name.startswith(("R.", "D."))
        and ".d." not in name
    )


def _widths(limit: Limit) -> str:
    names = [w.name for w in limit.source.widths]
    ratios = [f"{w.name} = {show(w.size)}" for w in limit.source.widths]
    return (
        names[0]
        if len(names) == 1
        else f"{', '.join(names)} (in the ratio of {', '.join(ratios)})"
        if names
        else "the width"
    )


def _table(equations: tuple[Equation, ...]) -> list[str]:
    left = min(40, max((len(e.left) for e in equations), default=0))
    right = min(64, max((len(e.right) for e in equations), default=0))
    return [f"  {e.left:<{left}} = {e.right:<{right}}   {e.remark}".rstrip() for e in equations]


def _latex(limit: Limit, d: Derivation) -> str:
    rows = [(e.left, e.right) for e in (*d.scalars, *d.forward)]
    if d.nngp is not None:
        rows.append((d.nngp.left, d.nngp.right))
    rows += [(e.left, e.right) for e in d.backward]
    if d.ntk:
        rows.append(("NTK", " + ".join(e.right for e in d.ntk)))
    body = " \\\\\n".join(f"{latex(a)} &= {latex(b)}" for a, b in rows)
    return "\\begin{align}\n" + body + "\n\\end{align}\n"


TOKENS = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*'*|\d[\d.]*(?:e[+-]?\d+)?| < | > |\S|\s+")


def latex(text: str) -> str:
    """An equation of the text form in LaTeX: expectations, sums, indices and functions by their brackets."""
    tokens = TOKENS.findall(text)
    written: list[str] = []
    closing: list[str] = []
    skip = False
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if skip:
            skip = False
        elif token[0].isalpha() or token[0] == "_":
            opened, close = _opening(token, following)
            written.append(opened)
            skip = bool(close)
            closing += [close] if close else []
        elif token in "([":
            written.append(token)
            closing.append(")" if token == "(" else "]")
        elif token in ")]":
            written.append(closing.pop() if closing else token)
        else:
            written.append({"*": r"\,", "<": r"\langle ", ">": r" \rangle"}.get(token, token))
    return "".join(written)


def _opening(name: str, following: str) -> tuple[str, str]:
    """A name with the bracket that follows it, and what will close that; no bracket closes with nothing."""
    if name == "E" and following == "[":
        return r"\mathbb{E}\left[", r"\right]"
    if name == "sum" and following == "(":
        return r"\sum_{", "}"
    if following == "[":
        return _name(name) + "_{", "}"
    if following == "(":
        return rf"\operatorname{{{name}}}(", ")"
    return _name(name), ""


def _name(name: str) -> str:
    bare = name.rstrip("'")
    primes = name[len(bare) :]
    return (bare if len(bare) == 1 else r"\mathit{" + bare.replace("_", r"\_") + "}") + primes
