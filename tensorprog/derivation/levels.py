"""Names and levels: which variables are one quantity at several layers, and what it is called.

    for l in 2..depth: h = W @ phi(h) + b          h, h.2, h.3, ...  ->  h^1, h^2, h^3, ...

What an unrolled loop defines at the same place in each of its iterations is one family, the index of the loop its
level.  The variable of the same name before the loop, from which it starts, is one level below the first.  A name made
with the index, as h_{l}, is the same name in every iteration: h_1, h_2, ...  ->  h^1, h^2, ...
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import final

from tensorprog.derivation.algebra import mapped
from tensorprog.derivation.notation import Element, Node
from tensorprog.ir import expr as ex
from tensorprog.ir.program import Iteration, Program, Var
from tensorprog.limit.analyse import Limit, leading_instr
from tensorprog.limit.simplify import alias_of


@final
@dataclass(frozen=True, slots=True)
class Level:
    """A family by the name it is shown under, the level of a variable in it (None: it is alone), the loop's index."""

    name: str
    level: int | None = None
    index: str = ""


Family = tuple[object, ...]


def titles(limit: Limit) -> dict[str, Var]:
    """Variables of the limit program as the source calls them: h for W_x where h = W_x, with its place in loops."""
    found: dict[str, Var] = {}
    here = {i.var.name for i in limit.program.instrs}
    for i in limit.source.instrs:
        gone = i.var.named and i.var.name not in here and i.var.name in limit.orders.of
        copied = alias_of(leading_instr(i, limit.orders), limit.source) if gone else None
        if copied is not None and not limit.source.var(copied).named and not limit.orders.of[copied].data:
            found |= {copied: i.var, f"d.{copied}": replace(i.var, name=f"d.{i.var.name}")}
    return {i.var.name: found.get(i.var.name, i.var) for i in limit.program.instrs}


def levels(limit: Limit, used: Iterable[str]) -> dict[str, Level]:
    """The family and level of every variable in `used`."""
    title = titles(limit)
    instrs = (replace(i, var=title[i.var.name]) for i in limit.program.instrs)
    program = replace(limit.program, instrs=tuple(instrs), outputs=())
    names = {title[n].name: n for n in title if n in set(used)}
    stems = _stems(program)
    place = _places(program, stems)
    found: dict[str, tuple[Family, int | None, str]] = {}
    for name in names:
        family, value, index = place.get(name, ((name,), None, ""))
        found[name] = family, value, index
    _start(found, program, stems)
    sizes = Counter(family for family, _, _ in found.values())
    found = {n: (f, v if sizes[f] > 1 else None, i if sizes[f] > 1 else "") for n, (f, v, i) in found.items()}
    shown = _shown(found, stems)
    return {names[name]: Level(shown[family], value, index) for name, (family, value, index) in found.items()}


def relabelled(node: Node, table: Mapping[str, Level]) -> Node:
    """The node with variables under the names and levels of their families."""
    if isinstance(node, Element):
        if node.name not in table:
            return node
        level = table[node.name]
        return Element(level.name, node.index, node.prime, None if level.level is None else ex.num(level.level))
    return mapped(node, lambda n: relabelled(n, table))


def base(name: str) -> str:
    """The name without the counters that make it unique: `d.h_in.3` is `d.h_in`."""
    return ".".join(p for p in name.split(".") if not p.isdigit())


def without(name: str, value: int) -> str:
    """The name without the number of an iteration: W_2_h is W_h in the second one."""
    return "_".join(part for k, part in enumerate(name.split("_")) if k == 0 or part != str(value))


# ---------------------------------------------------------------- families


def _stems(program: Program) -> dict[str, str]:
    """The names that families may share: without counters, and without the index of the loop where it is part of them.

    It is where the same statement does not give that name in any other iteration.
    """
    repeated = _repeated(program)
    values: dict[tuple[str, object], set[int]] = {}
    for i in program.instrs:
        for at in i.var.origin:
            values.setdefault((base(i.var.name), i.var.span), set()).add(at.value)
    found = {}
    for v in (i.var for i in program.instrs):
        found[v.name] = base(v.name)
        if v.origin:
            value = v.origin[_innermost(v, repeated)].value
            if values[found[v.name], v.span] == {value}:
                found[v.name] = without(found[v.name], value)
    return found


def _repeated(program: Program) -> dict[tuple[Iteration, ...], set[int]]:
    """The iterations of every unrolled loop in which something is defined."""
    repeated: dict[tuple[Iteration, ...], set[int]] = {}
    for i in program.instrs:
        for k, at in enumerate(i.var.origin):
            repeated.setdefault((*i.var.origin[:k], _any(at)), set()).add(at.value)
    return repeated


def _places(program: Program, stems: Mapping[str, str]) -> dict[str, tuple[Family, int, str]]:
    """The family, level and loop index of every variable that an unrolled loop defines."""
    repeated = _repeated(program)
    ranks: dict[tuple[object, ...], int] = {}
    found = {}
    for i in program.instrs:
        if i.var.origin:
            family, value, index = _family(i.var, stems[i.var.name], repeated)
            rank = ranks[family, value] = ranks.get((family, value), -1) + 1
            found[i.var.name] = (*family, rank), value, index
    return found


def _family(var: Var, stem: str, repeated: Mapping[tuple[Iteration, ...], set[int]]) -> tuple[Family, int, str]:
    """All of a variable's place but the iteration of the innermost loop that is run more than once."""
    k = _innermost(var, repeated)
    at = var.origin[k]
    return (stem, var.span, (*var.origin[:k], _any(at), *var.origin[k + 1 :])), at.value, at.index


def _innermost(var: Var, repeated: Mapping[tuple[Iteration, ...], set[int]]) -> int:
    """The place of the innermost loop that is run more than once."""
    many = [k for k, at in enumerate(var.origin) if len(repeated[(*var.origin[:k], _any(at))]) > 1]
    return many[-1] if many else len(var.origin) - 1


def _any(at: Iteration) -> Iteration:
    """The loop of an iteration."""
    return Iteration(at.index, 0, at.span)


def _start(
    found: dict[str, tuple[Family, int | None, str]], program: Program, stems: Mapping[str, str]
) -> None:
    """Give the variable that a loop starts from the level below its first."""
    order = [i.var.name for i in program.instrs]
    first: dict[str, tuple[int, str, Family]] = {}
    for name, (family, value, _) in found.items():
        if value is not None and (stems[name] not in first or value < first[stems[name]][0]):
            first[stems[name]] = value, name, family
    for stem, (_, name, _) in first.items():
        if stem.startswith("d."):
            continue
        before = [n for n in order[: order.index(name)] if stems[n] == stem and _alone(n, found, program)]
        for start, target in ((before[-1], stem), (f"d.{before[-1]}", f"d.{stem}")) if before else ():
            if start in found and found[start][1] is None and target in first:
                found[start] = (first[target][2], first[target][0] - 1, found[name][2])


def _alone(name: str, found: Mapping[str, tuple[Family, int | None, str]], program: Program) -> bool:
    return not program.var(name).origin and found.get(name, ((), None, ""))[1] is None


def _shown(
    found: Mapping[str, tuple[Family, int | None, str]], stems: Mapping[str, str]
) -> dict[Family, str]:
    """A name for every family: that of the source, numbered where several have it; an adjoint has its variable's."""
    names: dict[str, list[Family]] = {}
    for name, (family, _, _) in found.items():
        stem = stems[name].removeprefix("d.")
        own = (stem, *family[1:]) if len(family) > 1 else (name.removeprefix("d."),)
        if own not in names.setdefault(stem, []):
            names[stem].append(own)
    shown = {}
    for name, (family, _, _) in found.items():
        stem = stems[name].removeprefix("d.")
        own = (stem, *family[1:]) if len(family) > 1 else (name.removeprefix("d."),)
        k = names[stem].index(own)
        adjoint = "d." if name.startswith("d.") else ""
        shown[family] = adjoint + (stem if k == 0 else f"{stem}.{k + 1}")
    return shown
