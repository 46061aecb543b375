"""Names in scope, and the budget that keeps a program from running the compiler without bound."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from tensorprog.elaborate.values import Binding, Value
from tensorprog.errors import Span, TensorProgError, fail


@dataclass
class Scope:
    """Bindings of one program, block or function body; `parent` is the file it stands in."""

    parent: Scope | None = None
    names: dict[str, Binding] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def find(self, name: str) -> Binding | None:
        """The binding of a name here or outside, marked as used."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                scope.used.add(name)
                return scope.names[name]
            scope = scope.parent
        return None

    def bind(self, name: str, value: Value, span: Span | None = None) -> None:
        """Bind a name here; what was computed from an older binding stays."""
        self.names[name] = Binding(value, span)

    def visible(self) -> list[str]:
        """All names that can be used here."""
        return [*self.names, *(self.parent.visible() if self.parent else [])]

    def unknown(self, name: str, known: Iterable[str], span: Span) -> TensorProgError:
        """The error for a name that is neither in scope nor `known` everywhere, with the nearest one as a hint."""
        close = difflib.get_close_matches(name, [*self.visible(), *known], n=1)
        hint = f"did you mean '{close[0]}'?" if close else "assign or declare it before it is used"
        return fail(f"unknown name '{name}'", span, hint)


@dataclass
class Budget:
    """Counts the work of elaboration; every loop of the elaborator spends from it."""

    steps: int = 200_000
    calls: list[str] = field(default_factory=list)
    max_depth: int = 64

    def spend(self, span: Span) -> None:
        """One step.  Raises TensorProgError when the program expands without bound."""
        self.steps -= 1
        if self.steps < 0:
            raise fail("the program takes too many steps to expand", span,
                       "loop over an axis of the data, or lower the number of iterations")

    def enter(self, name: str, span: Span) -> None:
        """One call deeper.  Raises TensorProgError for recursion."""
        self.calls.append(name)
        if len(self.calls) > self.max_depth:
            again = dict.fromkeys(n for n in self.calls if self.calls.count(n) > 1)
            raise fail(f"calls are nested more than {self.max_depth} deep: {', '.join(again or self.calls)}", span,
                       "blocks and functions cannot call themselves")

    def leave(self) -> None:
        """Back from a call."""
        self.calls.pop()
