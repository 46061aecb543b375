"""Studies as pages: what is in them, and that they are whole documents."""

import base64
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import tensorprog
from tensorprog.cli.main import run
from tensorprog.errors import TensorProgError
from tests.agreement.comparing import EXAMPLES

X = np.random.default_rng(0).standard_normal((4, 3))
SVG = "{http://www.w3.org/2000/svg}svg"


def parsed(text):
    """The root of a page, which is XML but for its first line, and of its figures."""
    root = ET.fromstring(text.removeprefix("<!DOCTYPE html>\n"))
    pictures = [i.get("src") for i in root.iter("img")]
    assert all(p.startswith("data:image/svg+xml;base64,") for p in pictures)
    return root, [ET.fromstring(base64.b64decode(p.partition(",")[2])) for p in pictures]


def test_page_of_an_mlp(tmp_path):
    path = tmp_path / "mlp.html"
    net = tensorprog.load(EXAMPLES / "mlp.tp")
    found = net.validate(X, (16, 32), 8)
    net.write_report(path, found, net.train(X, [1, -1, 1, -1], width=32, steps=5))
    root, figures = parsed(path.read_text(encoding="utf-8"))
    words = " ".join("".join(root.itertext()).split())
    assert [f.tag for f in figures] == [SVG] * 5  # convergence, NNGP, NTK, law, training
    assert found.words.replace("+-", "±") in words and "weight W: [n, d] ~ N(0, sw^2 / d)" in words
    assert "8 of width 16, 8 of width 32" in words and "the kernel moved by" in words
    assert any(m.tag == "math" for m in root.iter())
    assert all(re.fullmatch(r"#\w*", r.get("href", "#")) for r in root.iter())  # nothing from elsewhere


def test_page_of_a_number_and_of_a_wrong_limit():
    net = tensorprog.load(EXAMPLES / "semicircle.tp")
    found = net.validate(None, (16, 32), 8, output="m_2")
    _, figures = parsed(f"<div>{found._repr_html_()}</div>")
    assert len(figures) == 2
    mlp = tensorprog.load(EXAMPLES / "mlp.tp")
    wrong = mlp.validate(X, (16, 32), 8, against={"ntk": mlp.ntk(X) * 3})
    assert wrong.verdict == "disagrees" and '#c53030">disagrees</b>' in wrong._repr_html_()


def test_no_page_where_it_cannot_be_written(tmp_path):
    net = tensorprog.load(EXAMPLES / "random_features.tp")
    found = net.validate(X, (16, 32), 4)
    with pytest.raises(TensorProgError, match="cannot write"):
        net.write_report(tmp_path / "missing" / "page.html", found)


def test_the_command_writes_a_page_with_training(capsys, tmp_path):
    path = tmp_path / "page.html"
    arguments = ["validate", str(EXAMPLES / "random_features.tp"), "--widths", "16,32", "--seeds", "4", "--train", "3"]
    assert run([*arguments, "--report", str(path)]) == 0
    assert "verdict" in capsys.readouterr().out
    assert "<h2>Training</h2>" in path.read_text(encoding="utf-8")
    assert run(arguments) == 2 and "--report" in capsys.readouterr().err


def test_kernels_in_a_notebook():
    net = tensorprog.load(EXAMPLES / "tied.tp")
    for dtype, options in (("float32", {}), ("float64", {"tier": "sampling", "samples": 64})):
        found = net.kernels(X.astype(dtype), **options)
        root, figures = parsed(f"<div>{found._repr_html_()}</div>")
        words = " ".join("".join(root.itertext()).split())
        assert len(figures) == 1 and f"4 × 4{dtype}" in words and f"computed in {found.seconds:.3g} s" in words
        error = "not sampled" if found.ntk_se is None else f"at most {found.ntk_se.max():.2g}"
        assert words.count(error) == (2 if found.ntk_se is None else 1)
        assert all(tier in words for tier in {row.tier for row in found.report.rows})
    batch = tensorprog.load(EXAMPLES / "batchnorm.tp").kernels(np.random.default_rng(0).standard_normal((2, 3, 4)))
    assert "2 × 3 × 2 × 3" in batch._repr_html_()
    assert tensorprog.load(EXAMPLES / "mlp.tp").kernels(X, X[:2], want=("ntk",))._repr_html_().count("4 × 2") == 1


def test_formulas_in_a_notebook_need_no_script():
    shown = tensorprog.load(EXAMPLES / "tied.tp").derive()._repr_html_()
    root = ET.fromstring(f"<div>{shown}</div>")
    assert sum(m.tag == "math" for m in root.iter()) > 20
    assert not {m.tag for m in root.iter()} & {"script", "link", "img"} and "://" not in shown
