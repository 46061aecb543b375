"""What the parser makes of programs and expressions."""

from fractions import Fraction
from pathlib import Path

import pytest

from tensorprog.errors import Source, TensorProgError
from tensorprog.lang import parse, print_expr
from tensorprog.lang import syntax as s
from tensorprog.lang.grammar import grammar

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.tp"))


def body_of(*lines):
    text = "program p:\n" + "".join(f"    {line}\n" for line in lines)
    return parse(Source("test", text)).decls[0].body


def expr_of(text):
    return parse(Source("test", f"def f(u) = {text}\n")).decls[0].body


def text_of(node):
    return node.span.source.text[node.span.start : node.span.end]


def show(expr):
    """The tree of `expr` with every operation in parentheses."""
    match expr:
        case s.Number() | s.Name():
            return print_expr(expr)
        case s.Binary():
            return f"({show(expr.left)} {expr.op} {show(expr.right)})"
        case s.Unary():
            return f"({expr.op} {show(expr.operand)})"
        case s.Transpose():
            return f"({show(expr.operand)} T)"
        case s.Index():
            return f"{expr.base.id}[{', '.join(map(show, expr.indices))}]"
        case s.Call():
            args = [show(arg) for arg in expr.args] + [f"{k.name}={show(k.value)}" for k in expr.keywords]
            return f"{expr.function.id}({', '.join(args)})"
        case s.Reduction():
            return f"({expr.kind}<{', '.join(binder.name for binder in expr.binders)}> {show(expr.body)})"


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_programs_of_the_reference_parse(path):
    module = parse(Source(path.name, path.read_text()))
    assert module.decls


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b - c", "((a + b) - c)"),
        ("a - b * c @ d / e", "(a - (((b * c) @ d) / e))"),
        ("a // b % c", "((a // b) % c)"),
        ("a^b^c", "(a ^ (b ^ c))"),
        ("-a^2", "(- (a ^ 2))"),
        ("a^-b^2", "(a ^ (- (b ^ 2)))"),
        ("-a * b", "((- a) * b)"),
        ("a * -b", "(a * (- b))"),
        ("a - -b", "(a - (- b))"),
        ("W.T @ y", "((W T) @ y)"),
        ("W.T^2", "((W T) ^ 2)"),
        ("K[i, j + 1].T @ x", "((K[i, (j + 1)] T) @ x)"),
        ("not a == b and c or d", "(((not (a == b)) and c) or d)"),
        ("a + b <= c * d", "((a + b) <= (c * d))"),
        ("sum(p in 0..2) K[p] @ h[i + p] + b", "((sum<p> (K[p] @ h[(i + p)])) + b)"),
        ("sum(p in 0..2, q in H) a", "(sum<p, q> a)"),
        ("softmax(s) dot(k[t], k[s]) / n", "(softmax<s> (dot(k[t], k[s]) / n))"),
        ("softmax(s) a[t, s]", "(softmax<s> a[t, s])"),
        ("max(u, v) * 2", "(max(u, v) * 2)"),
        ("max(p in 0..1) h[p] * 2", "(max<p> (h[p] * 2))"),
        ("mean(t in T) h[t]^2 - c", "((mean<t> (h[t] ^ 2)) - c)"),
        ("mean(t in T) (h[t] - c)^2", "(mean<t> ((h[t] - c) ^ 2))"),
        ("a * sum(i in T) b * c - d", "((a * (sum<i> (b * c))) - d)"),
        ("-sum(i in T) mean(j in H) x[i, j]", "(- (sum<i> (mean<j> x[i, j])))"),
        ("sum(i in T) 2 * sum(j in T) c", "(sum<i> (2 * (sum<j> c)))"),
        ("dot(v, mean(t in 1..T) h[t])", "dot(v, (mean<t> h[t]))"),
        ("dense(h, n, sw = 2 * sw)", "dense(h, n, sw=(2 * sw))"),
        ("N(T)", "N(T)"),
        ("f()", "f()"),
    ],
)
def test_precedence(text, tree):
    assert show(expr_of(text)) == tree


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", Fraction(3)), ("0.1", Fraction(1, 10)), ("1e-12", Fraction(1, 10**12)), ("2.50E+2", Fraction(250))],
)
def test_numbers_are_exact(text, value):
    number = expr_of(text)
    assert (number.value, number.text) == (value, text)


def test_range_is_not_a_decimal_point():
    (loop,) = body_of("for l in 1..3:", "    h = l")
    assert (loop.domain.low.value, loop.domain.high.value) == (1, 3)
    (loop,) = body_of("for l in 0..H - 3:", "    h = l")
    assert show(loop.domain.high) == "(H - 3)"


def test_names_of_families():
    loop = body_of("for g in {z, r}:", "    weight W_{g}: [n] ~ N(0, 1)", "    h_{g} = W_{g} * x_{g}_old[0]")[0]
    assert loop.domain == s.Braces(loop.domain.span, ("z", "r"))
    assert loop.body[0].name == "W_{g}"
    assert loop.body[1].targets[0].name == "h_{g}"
    assert loop.body[1].value.right.base.id == "x_{g}_old"


def test_weight():
    (plain,) = body_of("weight c ~ N(0, s)")
    assert (plain.axes, plain.shape, plain.lr) == ((), None, None)
    (full,) = body_of("weight K[3, H - 4]: [n, dim(h)] ~ N(m, sw^2 / n) lr eta / n")
    assert [show(axis) for axis in full.axes] == ["3", "(H - 4)"]
    assert [show(side) for side in full.shape] == ["n", "dim(h)"]
    assert (show(full.mean), show(full.variance), show(full.lr)) == ("m", "((sw ^ 2) / n)", "(eta / n)")


def test_inputs_and_widths():
    width, sequence, graph, number = body_of("width m = n / 2", "input x[T]: [d]", "input A[V, V]", "input s")
    assert show(width.value) == "(n / 2)"
    assert (len(sequence.axes), len(sequence.shape)) == (1, 1)
    assert (len(graph.axes), graph.shape) == (2, None)
    assert (number.axes, number.shape) == ((), None)


def test_targets():
    state, family, mixed, pair = body_of("h[t + 1] = x", "g[i in 0..H - 3] = x", "k[0, j in W] = x", "h, c[0] = f(x)")
    assert show(state.targets[0].indices[0]) == "(t + 1)"
    assert isinstance(family.targets[0].indices[0], s.Binder)
    assert [type(index) for index in mixed.targets[0].indices] == [s.Number, s.Binder]
    assert [target.name for target in pair.targets] == ["h", "c"]


def test_outputs():
    plain, named, family = body_of("output f[i]", "output f = h", "output f[i in B] = h")
    assert (plain.name, show(plain.value)) == (None, "f[i]")
    assert (named.name, named.binders) == ("f", ())
    assert (family.name, family.binders[0].name) == ("f", "i")


def test_return_of_several_values():
    block = parse(Source("test", "block b(h):\n    return h, c\n")).decls[0]
    assert [item.id for item in block.body[0].value.items] == ["h", "c"]


def test_elif_nests_in_else():
    (outer,) = body_of("if a:", "    h = 1", "elif b:", "    h = 2", "else:", "    h = 3")
    (inner,) = outer.orelse
    assert (outer.condition.id, inner.condition.id) == ("a", "b")
    assert inner.orelse[0].value.value == 3
    assert text_of(outer).startswith("if a:") and text_of(outer).endswith("h = 3")
    assert text_of(inner).startswith("b:") and text_of(inner).endswith("h = 3")


def test_declarations():
    text = 'use "b.tp" (cell, head)\nuse "c.tp"\ndef f(u, a = 1) = u\nprogram p:\n    output 1\n'
    everything, rest, function, program = parse(Source("test", text)).decls
    assert (everything.path, everything.names, rest.names) == ("b.tp", ("cell", "head"), ())
    assert [(p.name, p.default and p.default.value) for p in function.params] == [("u", None), ("a", 1)]
    assert program.params == ()


def test_spans_are_exact():
    text = "program p(a = 1):  # comment\n    for t in T:\n        h = W @ (x + b)  # more\n\n    output (h)\n# end\n"
    (program,) = parse(Source("test", text)).decls
    loop, output = program.body
    (assign,) = loop.body
    assert text_of(program.params[0]) == "a = 1"
    assert text_of(loop) == "for t in T:\n        h = W @ (x + b)"
    assert text_of(assign) == "h = W @ (x + b)"
    assert text_of(assign.targets[0]) == "h"
    assert text_of(assign.value) == "W @ (x + b)"
    assert text_of(assign.value.right) == "x + b"
    assert text_of(output) == "output (h)"
    assert text_of(program).endswith("output (h)")
    reduction = expr_of("a + sum(i in T) h[i] * b").right
    assert text_of(reduction) == "sum(i in T) h[i] * b"
    assert text_of(reduction.binders[0]) == "i in T"


def test_spaces_comments_and_line_ends_do_not_matter():
    plain = "def f(u) = g(u, 1)\nprogram p:\n    h = x\n    output h\n"
    loose = "\ufeff\n# c\r\ndef f( u )=g(u,  # c\r\n\r\n  # c\r\n1,)\r\nprogram p :\n  h=x\r\n   # c\r\n  output h"
    assert parse(Source("test", plain)) == parse(Source("test", loose))


def test_several_mistakes_are_told_together():
    with pytest.raises(TensorProgError) as caught:
        body_of("h = 2x", "g = h", "for t in T", "    h = a b", "output h")
    assert [d.span.line for d in caught.value.diagnostics] == [2, 4, 5]


def test_the_parser_is_kept_between_processes(tmp_path, monkeypatch):
    """What is read from the cache folder parses alike; a damaged file is written anew."""
    monkeypatch.setenv("TENSORPROG_CACHE", str(tmp_path / "new"))
    text = PROGRAMS[0].read_text(encoding="utf-8")
    first = grammar.__wrapped__()
    kept = tmp_path / "new" / "grammar"
    for _ in range(3):
        assert kept.stat().st_size > 10_000
        again = grammar.__wrapped__()
        assert list(again.lex(text)) == list(first.lex(text))
        kept.write_bytes(b"damaged")
        grammar.__wrapped__()


def test_a_folder_that_cannot_be_written_to_keeps_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TENSORPROG_CACHE", str(tmp_path / "file"))
    assert list(grammar.__wrapped__().lex("program p:\n"))
