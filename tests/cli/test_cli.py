"""The command line: output, files, exit codes, and that no mistake shows a traceback."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tensorprog.cli.main import run
from tensorprog.errors import Source
from tensorprog.lang import format_source

ROOT = Path(__file__).parents[2]
MLP = """program mlp(phi = relu, sw = 1.4):
    width n = 64
    input x: [d]
    weight W: [n, d] ~ N(0, sw^2 / d)
    weight v: [n]    ~ N(0, 1 / n)
    output dot(v, phi(W @ x))
"""


@pytest.fixture
def mlp(tmp_path, monkeypatch):
    (tmp_path / "mlp.tp").write_text(MLP)
    monkeypatch.chdir(tmp_path)
    return "mlp.tp"


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    code = run([str(a) for a in arguments])
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err + shown.out
    return code, shown.out, shown.err


def test_check(capsys, mlp):
    code, out, err = call(capsys, "check", mlp)
    assert code == 0 and "gradient independence holds" in out and err == ""
    assert call(capsys, "check", mlp, "--quiet") == (0, "", "")


def test_check_as_json(capsys, mlp):
    code, out, _ = call(capsys, "check", mlp, "--json", "--set", "sw=2")
    data = json.loads(out)
    assert code == 0 and data["ok"] and data["outputs"][0]["independent"]


def test_warnings_go_to_standard_error(capsys, mlp, tmp_path):
    (tmp_path / "w.tp").write_text(MLP.replace("sw = 1.4", "sw = 1.4, q = 1"))
    code, out, err = call(capsys, "check", "w.tp")
    assert code == 0 and "w.tp:1:" in err and "'q'" in err and "warning" in err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["check", "missing.tp"], "there is no file"),
        (["check", "."], "directory"),
        (["check", "mlp.tp", "--set", "sw"], "name=value"),
        (["check", "mlp.tp", "--set", "depth=3"], "no parameter 'depth'"),
        (["check", "mlp.tp", "--set", "phi=rleu"], "rleu"),
        (["check", "mlp.tp", "--program", "q"], "no program 'q'"),
        (["derive", "mlp.tp", "--output", "q"], "no output 'q'"),
        (["kernel", "mlp.tp"], "needs data"),
        (["kernel", "mlp.tp", "--data", "missing.npy"], "no data file"),
        (["kernel", "mlp.tp", "--data", "mnist"], "mnist"),
        (["kernel", "mlp.tp", "--data", "iris", "--n", "0"], "--n"),
        (["kernel", "mlp.tp", "--data", "iris", "--n", "3", "--out", "no/such/K.npz"], "cannot write"),
        (["kernel", "mlp.tp", "--data", "iris", "--memory", "2GB"], "--out"),
        (["kernel", "mlp.tp", "--data", "iris", "--memory", "much", "--out", "K.npz"], "2GB"),
        (["kernel", "mlp.tp", "--data", "iris", "--memory", "1MB", "--out", "K.npz"], "too little"),
        (["kernel", "mlp.tp", "--data", "iris", "--memory", "100kB", "--out", "K.npz"], "--memory 100 kB"),
        (["kernel", "mlp.tp", "--data", "iris", "--out", "K.csv"], "kernels go to a .npz or .npy or .zarr file"),
        (["export", "mlp.tp", "--to", "numpy", "--out", "a.txt"], ".py"),
        (["export", "mlp.tp", "--to", "numpy", "--out", "a.py", "--data", "iris", "--params", "p.foo"], ".npz"),
        (["kernel", "mlp.tp", "--data", "iris", "--memory", "2GB", "--out", "no/such/K.zarr"], "cannot write"),
        (["kernel", "mlp.tp", "--data", "iris", "--accuracy", "0.1", "--out", "K.npy"], "jointly"),
        (["kernel", "mlp.tp", "--data", "iris", "--tier", "sampling", "--out", "K.npy"], "jointly"),
        (["validate", "mlp.tp", "--widths", "8,x"], "8,x"),
        (["validate", "mlp.tp", "--set", "phi=step", "--train", "3", "--report", "page.html"], "the NTK of step"),
        (["validate", "mlp.tp", "--set", "sw=0", "--train", "3", "--report", "page.html"], "does not move the outputs"),
        (["validate", "mlp.tp", "--widths", "0"], "positive"),
        (["run", "mlp.tp", "--data", "mnist"], "mnist"),
        (["show", "mlp.tp", "--stage", "tokens"], "tokens"),
        (["nothing"], "nothing"),
        (["check"], "FILE"),
    ],
)
def test_mistakes_exit_with_2(capsys, mlp, arguments, part):
    code, out, err = call(capsys, *arguments)
    assert code == 2 and part in err and out == ""


def test_a_line_that_is_taken_for_names_is_shown(capsys, mlp, tmp_path):
    (tmp_path / "x.csv").write_text("1,2,a\n")
    code, _, err = call(capsys, "kernel", mlp, "--data", "x.csv")
    assert code == 2 and "no rows of numbers below its first line, taken for names: 1,2,a" in err


def test_a_failed_command_leaves_nothing_behind(capsys, mlp, tmp_path):
    np.save(tmp_path / "x.npy", np.eye(3))
    before = set(tmp_path.iterdir())
    for arguments in (["export", "mlp.tp", "--to", "numpy", "--out", "a.py", "--params", "missing/p.npz"],
                      ["kernel", "mlp.tp", "--out", "K.npy", "--cluster", "nowhere"]):
        code, _, err = call(capsys, *arguments, "--data", "x.npy")
        assert code == 2 and err and set(tmp_path.iterdir()) == before


def test_mistakes_in_the_file_show_the_place(capsys, mlp, tmp_path):
    (tmp_path / "bad.tp").write_text(MLP.replace("phi(W @ x)", "phi(V @ x)"))
    code, _, err = call(capsys, "check", "bad.tp")
    assert code == 2 and "bad.tp:6:" in err and "^" in err and "'V'" in err
    code, out, _ = call(capsys, "check", "bad.tp", "--json")
    (diagnostic,) = json.loads(out)["diagnostics"]
    assert code == 2 and diagnostic["line"] == 6 and diagnostic["severity"] == "error"


def test_control_characters_do_not_reach_the_terminal(capsys, mlp, tmp_path):
    (tmp_path / "esc.tp").write_text(MLP.replace("W @ x", "W @ \x1b[31mx"))
    code, _, err = call(capsys, "check", "esc.tp")
    assert code == 2 and "\x1b" not in err and "esc.tp:6:" in err


@pytest.mark.parametrize("value", ["1e400", "-1e400", "1e999999999", "1e-999999999", "nan", "1/0", "x y"])
def test_impossible_parameters(capsys, mlp, value):
    code, _, err = call(capsys, "check", mlp, "--set", f"sw={value}")
    assert code == 2 and "mlp.tp:1:" in err


@pytest.mark.parametrize("stage", ["syntax", "ir", "gradient", "limit", "derivation", "schedule"])
def test_every_stage_is_shown(capsys, mlp, stage):
    code, out, _ = call(capsys, "show", mlp, "--stage", stage)
    assert code == 0 and "W" in out


def test_the_shown_syntax_is_the_program(capsys, mlp):
    _, out, _ = call(capsys, "show", mlp, "--stage", "syntax")
    assert format_source(Source("shown", out)) == MLP


def test_fmt(capsys, mlp, tmp_path):
    file = tmp_path / "messy.tp"
    file.write_text(MLP.replace("W @ x", "W@x"))
    assert call(capsys, "fmt", file)[:2] == (0, MLP)
    assert call(capsys, "fmt", "--check", file)[0] == 1
    assert file.read_text() != MLP
    assert call(capsys, "fmt", "-w", file)[0] == 0
    assert file.read_text() == MLP
    assert call(capsys, "fmt", "--check", file)[0] == 0


def test_derive(capsys, mlp, tmp_path):
    assert "NNGP" in call(capsys, "derive", mlp)[1]
    assert "\\" in call(capsys, "derive", mlp, "--format", "latex")[1]
    page = tmp_path / "page.html"
    assert call(capsys, "derive", mlp, "--format", "html", "--out", page)[:2] == (0, "")
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert call(capsys, "derive", mlp, "--out", tmp_path / "none" / "page.txt")[0] == 2


def test_kernel_writes_what_the_api_gives(capsys, mlp, tmp_path):
    import tensorprog

    x, z = np.random.default_rng(0).normal(size=(2, 4, 3))
    np.save("x.npy", x)
    np.savetxt("z.csv", z, delimiter=",", header="a,b,c", comments="")
    code, out, _ = call(capsys, "kernel", mlp, "--data", "x.npy", "--data2", "z.csv", "--out", "K.npz", "--n", "3")
    assert code == 0 and "3 x 3" in out and "closed" in out
    found = np.load("K.npz")
    assert set(found) == {"nngp", "ntk"}
    np.testing.assert_allclose(found["ntk"], tensorprog.load(mlp).ntk(x[:3], z[:3]), rtol=1e-12)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["K.npz", "mlp.tp", "x.npy", "z.csv"]


def test_kernel_to_an_accuracy(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(2, 2, 3)))
    code, out, _ = call(capsys, "kernel", str(ROOT / "examples" / "gru.tp"), "--data", "x.npy", "--only", "nngp",
                        "--accuracy", "0.01")
    assert code == 0 and "standard error up to" in out
    assert "NNGP over draws of U_z, W_z, b_z" in out and "closed" in out
    code, _, err = call(capsys, "kernel", str(ROOT / "examples" / "gru.tp"), "--data", "x.npy", "--accuracy", "0")
    assert code == 2 and "--accuracy" in err


def test_kernel_options(capsys, mlp):
    code, out, _ = call(capsys, "kernel", mlp, "--data", "iris", "--n", "4", "--only", "nngp", "--tier", "sampling",
                        "--samples", "64", "--json")
    data = json.loads(out)
    assert code == 0 and "ntk" not in data and data["nngp"]["largest_standard_error"] > 0


@pytest.mark.parametrize("out", ["K.npz", "K.npy"])
def test_kernel_in_float32(capsys, mlp, out):
    import tensorprog

    x = np.random.default_rng(0).normal(size=(9, 3))
    np.save("x.npy", x)
    code, _, _ = call(capsys, "kernel", mlp, "--data", "x.npy", "--only", "ntk", "--dtype", "float32",
                      "--no-reductions", "--out", out)
    found = np.load(out)
    found = found["ntk"] if out == "K.npz" else found
    assert code == 0 and found.dtype == np.float32
    np.testing.assert_allclose(found, tensorprog.load(mlp).ntk(x), rtol=1e-5, atol=1e-6)


def test_a_failed_command_leaves_the_old_file(capsys, mlp):
    Path("K.npz").write_text("old")
    np.save("x.npy", np.array([[1.0, np.nan]]))
    code, _, err = call(capsys, "kernel", mlp, "--data", "x.npy", "--out", "K.npz")
    assert code == 2 and "NaN" in err and Path("K.npz").read_text() == "old"


def test_validate_agrees(capsys, mlp, tmp_path):
    code, out, _ = call(capsys, "validate", mlp, "--widths", "32,64,128,256", "--seeds", "24", "--plot", "c.png")
    assert code == 0 and "verdict: agrees" in out and (tmp_path / "c.png").stat().st_size > 1000
    code, _, err = call(capsys, "validate", mlp, "--widths", "8,16", "--seeds", "2", "--plot", "c.xyz")
    assert code == 2 and "xyz" in err and not (tmp_path / "c.xyz").exists()


def test_validate_exits_with_1_when_it_disagrees(capsys, mlp, monkeypatch):
    from tensorprog import api

    wrong = api.load(MLP, sw=2)
    monkeypatch.setattr(api.Network, "limit", lambda self, output=None: api.analyse(wrong.program, output))
    code, out, _ = call(capsys, "validate", mlp, "--widths", "32,64,128,256", "--seeds", "24")
    assert code == 1 and "verdict: disagrees" in out


def test_validate_against_another_limit(capsys, mlp, tmp_path):
    (tmp_path / "other.tp").write_text(MLP.replace("relu", "erf"))
    small = ("--widths", "16..64", "--seeds", "16")
    code, out, _ = call(capsys, "validate", mlp, *small, "--against", "other.tp")
    assert code == 1 and "this is not the limit of the program" in out and "    64     16" in out
    np.savez("wrong.npz", nngp=np.eye(4))
    assert call(capsys, "validate", mlp, *small, "--against", "wrong.npz")[0] == 1
    np.savez("wrong.npz", nngp=np.eye(3))
    code, _, err = call(capsys, "validate", mlp, *small, "--against", "wrong.npz")
    assert code == 2 and "[4, 4]" in err


def test_train(capsys, mlp, tmp_path):
    code, out, _ = call(capsys, "train", mlp, "--n", "8", "--test", "4", "--widths", "16..32", "--seeds", "2",
                        "--steps", "5", "--plot", "t.svg", "--set", "phi=erf")
    assert code == 0 and "width 32" in out and "off the infinite network" in out
    assert "<svg" in (tmp_path / "t.svg").read_text()
    code, out, _ = call(capsys, "train", mlp, "--data", "diabetes", "--n", "6", "--widths", "16", "--steps", "3",
                        "--json", "--flow")
    assert code == 0 and len(json.loads(out)["trainings"][0][0]["losses"]) == 4
    code, _, err = call(capsys, "train", mlp, "--loss", "logistic", "--data", "diabetes", "--steps", "2")
    assert code == 2 and "-1 and 1" in err


def test_run(capsys, mlp, tmp_path):
    code, out, _ = call(capsys, "run", mlp, "--n", "90", "--seconds", "1", "--plot", "p.png")
    assert code in (0, 1) and "test accuracy" in out and "verdict" in out and "NNGP" in out
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = call(capsys, "run", mlp, "--data", "diabetes", "--n", "60", "--seconds", "1", "--json")
    scores = json.loads(out)["outputs"]["output"]["scores"]
    assert scores["nngp"]["measure"] == "R^2"


def test_run_without_inputs(capsys, mlp, tmp_path):
    (tmp_path / "s.tp").write_text(
        "program s():\n    width n = 64\n    weight g: [n] ~ N(0, 1)\n"
        "    output a = avg(g^2)\n    output b = avg(g^4)\n"
    )
    code, out, _ = call(capsys, "run", "s.tp", "--seconds", "1")
    assert code in (0, 1) and "a in the limit: [1.]" in out and "b in the limit: [3.]" in out
    assert (tmp_path / "s_a.png").exists() and (tmp_path / "s_b.png").exists()


def test_interrupt_and_memory(capsys, mlp, monkeypatch):
    from tensorprog import api

    def raising(error):
        def broken(self):
            raise error
        return broken

    monkeypatch.setattr(api.Network, "check", raising(KeyboardInterrupt()))
    assert call(capsys, "check", mlp)[0] == 130
    monkeypatch.setattr(api.Network, "check", raising(MemoryError()))
    code, _, err = call(capsys, "check", mlp)
    assert code == 2 and "not enough memory" in err
    monkeypatch.setattr(api.Network, "check", raising(ZeroDivisionError("x")))
    code, _, err = call(capsys, "check", mlp)
    assert code == 1 and "please report" in err


def test_help_and_version(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0 and all(name in out for name in ("check", "derive", "kernel", "validate", "run"))
    assert call(capsys, "kernel", "--help")[0] == 0
    assert "0.1.0" in call(capsys, "--version")[1]


def test_a_closed_pipe_is_quiet(mlp):
    command = f"{sys.executable} -m tensorprog.cli.main derive {Path(mlp).resolve()} | head -c 1"
    shown = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in shown.stderr and "Exception" not in shown.stderr


def test_check_does_not_import_what_it_does_not_need(mlp):
    code = (
        "import sys; from tensorprog.cli.main import run; run(['check', sys.argv[1], '-q']);"
        "print(*(m for m in ('numba', 'sympy', 'sklearn', 'matplotlib', 'rich') if m in sys.modules))"
    )
    command = [sys.executable, "-c", code, str(Path(mlp).resolve())]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == ""


def test_kernels_to_disk(capsys, mlp):
    """Both formats that go block by block, and what is said of them."""
    code, out, _ = call(capsys, "kernel", mlp, "--data", "iris", "--n", "20", "--out", "K.npy", "--memory", "2GB")
    assert code == 0 and "K.nngp.npy, K.ntk.npy: 1 blocks" in out and "peak memory" in out
    code, out, _ = call(capsys, "kernel", mlp, "--data", "iris", "--n", "20", "--out", "K.zarr", "--json")
    data = json.loads(out)
    ntk = np.load("K.ntk.npy", mmap_mode="r")
    assert code == 0 and data["out"] == ["K.zarr"] and data["ntk"]["mean"] == pytest.approx(ntk.mean())
    assert data["ntk"]["shape"] == [20, 20] and Path("K.zarr").is_dir()


def test_interrupted_on_the_way_to_disk(capsys, mlp, monkeypatch):
    from tensorprog.store.journal import Journal

    monkeypatch.setattr(Journal, "add", lambda self, done: (_ for _ in ()).throw(KeyboardInterrupt))
    code, _, err = call(capsys, "kernel", mlp, "--data", "iris", "--n", "20", "--out", "K.npy")
    assert code == 130 and "K.npy.partial" in err and not Path("K.nngp.npy").exists()
