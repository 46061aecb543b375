"""Every example elaborates; the printed programs of some are kept, to be read."""

import re
from pathlib import Path

import pytest

from tensorprog.elaborate import elaborate
from tensorprog.errors import Source
from tensorprog.ir.printer import print_program

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.tp"))
GOLDEN = Path(__file__).parent.parent / "golden" / "ir"
PRINTED = ("mlp", "resnet", "densenet", "rnn", "rnn_bidirectional", "gru", "cnn_circular", "maxpool_cnn",
           "transformer", "tied")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_elaborates(path, run):
    source = path.read_text()
    result = elaborate(Source(path.name, source), folder=path.parent)
    assert {n.severity for n in result.notes} <= {"warning"}
    comment = source.split("\ndef ")[0].split("\nprogram ")[0].replace("\n# ", " ")
    assert re.search(r"\((\d{4}|arXiv \d{4}\.\d{4,5}|ICLR \d{4})\)", comment), "names no paper"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path, run):
    outputs = run(path.read_text(), width=4, T=4, H=4, W=4, B=4, V=4).outputs
    assert all(abs(value).max() < 1e3 for value in outputs.values())


@pytest.mark.parametrize("name", PRINTED)
def test_printed_program(name, golden):
    program = elaborate(Source(name, (ROOT / "examples" / f"{name}.tp").read_text())).program
    golden(GOLDEN / f"{name}.txt", print_program(program))


def test_moments_of_random_matrices(run):
    """Catalan numbers 1, 2, 5 and the Narayana sums 1, 3, 11 at m/n = 2 (Tensor Programs III), roughly at width 600."""
    semicircle = run((ROOT / "examples" / "semicircle.tp").read_text(), {"order": 3}, width=600).outputs
    pastur = run((ROOT / "examples" / "marchenko_pastur.tp").read_text(), {"order": 3}, width=300).outputs
    for outputs, moments in ((semicircle, (1, 2, 5)), (pastur, (1, 3, 11))):
        for k, moment in enumerate(moments, 1):
            assert abs(outputs[f"m_{k}"] / moment - 1) < 0.25
