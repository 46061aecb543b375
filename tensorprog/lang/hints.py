"""What to say about a token that the parser refuses: the first rule that knows the mistake, else what was expected."""

from __future__ import annotations

from tensorprog.errors import Diagnostic
from tensorprog.lang.advice import expressions, lines, statements
from tensorprog.lang.mistakes import Mistake, shown

RULES = (*lines.RULES, *statements.RULES, *expressions.RULES)


def explain(mistake: Mistake) -> Diagnostic:
    """The message of the first rule that recognizes `mistake`."""
    for rule in RULES:
        found = rule(mistake)
        if found is not None:
            return found
    return mistake.says(f"unexpected {shown(mistake.token)}", _expected(mistake))


_SPOKEN = {
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": "a path in quotes",
    "_NEWLINE": "the end of the line",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "TILDE": "`~`",
    "_COMMA": "`,`",
    "COMMA": "`,`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "IN": "`in`",
    "LR": "`lr`",
    "RANGE": "`..`",
}
_OPERATORS = frozenset({"SIGN", "TIMES", "POWER", "COMPARE", "AND", "OR", "TRANSPOSE"})


def _expected(mistake: Mistake) -> str | None:
    """`expected X, Y or Z`, in words; operators are not listed one by one."""
    if mistake.expects_operand():
        return "expected an expression"
    words = sorted(_SPOKEN[terminal] for terminal in mistake.accepts if terminal in _SPOKEN)
    if mistake.expects(*_OPERATORS):
        words.append("an operator")
    if not words:
        return None
    return f"expected {words[0]}" if len(words) == 1 else f"expected {', '.join(words[:-1])} or {words[-1]}"
