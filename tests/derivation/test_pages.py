"""Derivations as pages: golden texts, recursions of every depth, and four formats of all examples."""

from __future__ import annotations

import re
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tensorprog
from tensorprog.derivation import FORMATS, compose, derive
from tensorprog.derivation.latex import Latex
from tensorprog.derivation.notation import Recursion
from tensorprog.elaborate.symbols import with_symbols
from tensorprog.limit import analyse
from tests.derivation.reading import EXAMPLES, derivation

GOLDEN = Path(__file__).parents[1] / "golden" / "derivation"
DOCS = Path(__file__).parents[2] / "docs" / "derivations"
SHOWN = ("mlp", "rnn", "gru", "cnn_global", "transformer", "batchnorm", "tied")
SECONDS = 3.0


@pytest.mark.parametrize("name", ["mlp", "rnn", "resnet", "tied"])
def test_text(name, golden):
    golden(GOLDEN / f"{name}.txt", str(tensorprog.load(EXAMPLES / f"{name}.tp").derive()))


@pytest.mark.parametrize("name", SHOWN)
def test_the_pages_of_the_documentation_are_current(name, golden):
    """`pytest tests/derivation --update-golden` writes docs/derivations."""
    golden(DOCS / f"{name}.md", tensorprog.load(EXAMPLES / f"{name}.tp").derive().format("markdown"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.tp")), ids=lambda p: p.stem)
def test_every_example_in_every_format(path):
    net = tensorprog.load(path)
    start = time.perf_counter()
    for output in net.program.outputs[:2]:
        page = compose(derive(analyse(with_symbols(net.elaborated), output.name)))
        pages = {name: write(page) for name, write in FORMATS.items()}
        assert all(net.program.name in p.replace("\\", "") for p in pages.values())
        assert_balanced(pages["latex"])
        assert_balanced(pages["markdown"])
        ElementTree.fromstring(pages["html"].removeprefix("<!DOCTYPE html>"))
        assert "<script" not in pages["html"] and "http" not in pages["html"]
    assert time.perf_counter() - start < 2 * SECONDS  # twice what is promised, for slow machines


def assert_balanced(text):
    """Braces, \\left and \\right, environments, dollars."""
    bare = re.sub(r"\\[{}$%]", "", text)
    depth = 0
    for c in bare:
        depth += (c == "{") - (c == "}")
        assert depth >= 0
    assert depth == 0
    assert len(re.findall(r"\\left\b", text)) == len(re.findall(r"\\right\b", text))
    assert re.findall(r"\\begin\{(\w+\*?)\}", text) == re.findall(r"\\end\{(\w+\*?)\}", text)
    assert bare.count("$") % 2 == 0


# ---------------------------------------------------------------- recursions


@pytest.mark.parametrize("name", ["mlp", "resnet", "mlp_blocks", "layernorm", "transformer"])
def test_the_recursion_is_the_same_at_every_depth(name):
    """Only the last level differs: three layers and seven are printed with the same equations."""
    three, seven = derivation(name, depth=4), derivation(name, depth=7)
    assert equations(three.forward) == equations(seven.forward)
    assert equations(three.backward, 4) == equations(seven.backward, 7)
    assert len(three.ntk) == len(seven.ntk)


def equations(blocks, last=None):
    """The equations of recursions, and the number of others."""
    folded = [e for b in blocks if isinstance(b, Recursion) for e in b.equations]
    return folded, len(blocks)


def test_fifty_layers_are_as_short_as_three():
    start = time.perf_counter()
    deep, shallow = derivation("mlp", depth=50), derivation("mlp", depth=3)
    assert time.perf_counter() - start < 2 * SECONDS
    texts = [FORMATS["text"](compose(d)) for d in (deep, shallow)]
    assert texts[0].replace("50", "3").replace("49", "2").count("\n") == texts[1].count("\n")
    assert "for l = 2, ..., 50:" in texts[0]


def test_layers_that_differ_stay_apart():
    """Myrtle pools between some of its layers; only equal ones could fold, and they are not in a loop."""
    found = derivation("myrtle")
    assert not any(isinstance(b, Recursion) for b in found.forward)


def test_parameters_are_symbols_where_only_variances_have_them():
    text = str(tensorprog.load(EXAMPLES / "mlp.tp", depth=1, sw=1.5, sb=0).derive())
    assert "C_h  = sw^2 <x, x'> / d\n" in text and "sw = 1.5, sb = 0" in text


def test_the_readme_quotes_what_is_printed():
    readme = (DOCS.parents[1] / "README.md").read_text("utf-8")
    quoted = readme.split("plain text, LaTeX, Markdown or HTML,")[1].split("with words between")[0]
    printed = str(tensorprog.load(EXAMPLES / "mlp.tp").derive())
    for line in filter(str.strip, quoted.splitlines()):
        assert line.strip() in printed


def test_the_two_sorts_of_kernels_of_a_relu_network():
    """The recursion of Jacot et al. (arXiv 1806.07572), with the tangent kernel as a sum over layers."""
    text = str(tensorprog.load(EXAMPLES / "mlp.tp").derive())
    for line in (
        "C_h^1 = sw^2 <x, x'> / d + sb^2",
        "C_h^l = sw^2 E[relu(h^(l-1)) relu(h^(l-1)')] + sb^2",
        "NTK = sum(l = 1..3) C_dh^l C_h^l",
    ):
        assert line in text


# ---------------------------------------------------------------- remarks

MEANS = """
program p:
    width n = 64
    input x: [d]
    h = x
    for l in 1..3:
        weight W: [n, dim(h)] ~ N(0, 1 / dim(h))
        weight b: [n] ~ N(1/2, 1)
        h = relu(W @ h + b)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, h)
"""


@pytest.mark.parametrize("name", ["sign", "step"])
def test_point_masses_in_both_runs_are_remarked_on(name):
    page = words(tensorprog.load(EXAMPLES / "mlp.tp", phi=name).derive())
    assert "E[dirac(u) dirac(v)] is infinite" in page and "between different inputs only" in page
    assert "infinite" not in words(tensorprog.load(EXAMPLES / "mlp.tp").derive())


def test_functions_are_defined_where_they_are_named():
    page = words(tensorprog.load(EXAMPLES / "mlp.tp", phi="gelu").derive())
    assert "gelu(u) = u normcdf(u)" in page and "gelu'(u) = normcdf(u) + u normpdf(u)" in page
    assert "Functions" not in words(tensorprog.load(EXAMPLES / "mlp.tp", phi="erf").derive())


def test_means_are_told_from_second_moments():
    """Constant means are listed once, upwards, and the covariance of the closed forms is said to lack them."""
    page = words(tensorprog.load(MEANS).derive())
    assert re.search(r"for l = 1, ..., 3: E\[\w+\^l\] = 1/2", page)
    assert "less the product of the means" in page
    assert "product of the means" not in words(tensorprog.load(EXAMPLES / "mlp.tp").derive())


NUMBERED = """
program p(depth = 5):
    width n = 64
    input x: [d]
    h = x
    for l in 1..depth:
        weight W_{l}: [n, dim(h)] ~ N(0, 1 / dim(h))
        h = erf(W_{l} @ h)
    weight v: [n] ~ N(0, 1 / n)
    output dot(v, h)
"""


def test_weights_numbered_by_the_loop_are_folded_like_others():
    """W_{l} and W give the same equations; only the labels of the terms of the tangent kernel differ."""
    numbered, plain = (tensorprog.load(s).derive() for s in (NUMBERED, NUMBERED.replace("W_{l}", "W")))
    unlabelled = [re.sub(r" {5}\(.*\)", "", str(page)) for page in (numbered, plain)]
    assert unlabelled[0] == unlabelled[1]
    assert "(W_1)" in str(numbered) and "(W_2, W_3, W_4)" in str(numbered)
    assert "(W for l = 1)" in str(plain) and "(W for l = 2..4)" in str(plain)


def test_numbered_weights_of_sampled_layers_are_folded():
    """W_{l} is W^l in the definitions of what is sampled."""
    source = (EXAMPLES / "batchnorm.tp").read_text().replace("W:", "W_{l}:").replace("W @", "W_{l} @")
    page = words(tensorprog.load(source, depth=4).derive())
    assert "= W^l h^(l-1)[i]" in page and "W_3" not in page.partition("Without equations")[2]


def test_a_number_in_a_name_that_is_not_the_loops_stays():
    """h_2 is h_2 in every iteration, the second one, too."""
    source = NUMBERED.replace("W_{l}", "W").replace("    h = erf(W @ h)", "    h_2 = erf(W @ h)\n        h = h_2 + h_2")
    forward = str(tensorprog.load(source).derive()).partition("Backward")[0]
    assert "h_2^l" in forward


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("lambda1", r"\lambda_{1}"),
        ("lambda1_in.2", r"\lambda_{1\,\mathrm{in}\,2}"),
        ("Theta_lambda1", r"\Theta_{\lambda_{1}}"),
        ("lambda1.2", r"\lambda_{1, 2}"),
        ("W_a_h2", r"W_{\mathrm{a}\,\mathrm{h}_{2}}"),
        ("sw", r"\mathit{sw}"),
        ("_x", r"\mathit{\_x}"),
    ],
)
def test_names_have_one_spelling_in_latex(name, shown):
    """As a symbol, as a variable, and below a C."""
    style = Latex()
    assert style.symbol(name) == style.variable(name, False, "", False, ()) == shown
    assert style.covariance(name, False, "", ()) == f"C_{{{shown}}}"


def words(page):
    """The text, its white space evened out."""
    return " ".join(str(page).split())
