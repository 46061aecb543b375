"""The batchnorm NTK by the published notebook of Tensor Programs II, for bench_papers.py: run by a Python with torch.

    python peer_ntk4a.py CLONE FOLDER       reads FOLDER/x.npy, writes ntk.npy, seconds.npy

CLONE is a checkout of github.com/thegregyang/NTK4A.  The cells up to the one that loads images are executed as they
are; of quadpy, whose free versions are gone, they need the Gauss-Laguerre rule alone, which is NumPy's here.
"""

import json
import sys
import time
import types
from pathlib import Path

import numpy as np

UNUSED = ("torchvision", "torchvision.transforms", "seaborn", "pandas", "tqdm", "matplotlib", "matplotlib.pyplot")


class Laguerre:
    """A rule as quadpy has it: functions of [1, nodes]."""

    def __init__(self, count: int, alpha: float) -> None:
        assert alpha == 0
        self.points, self.weights = np.polynomial.laguerre.laggauss(count)

    def integrate(self, function):
        """The sum over the last axis."""
        return np.dot(np.asarray(function(self.points[None])), self.weights)


def notebook(folder: Path) -> dict:
    """The names that the notebook defines."""
    quadpy = types.ModuleType("quadpy")
    quadpy.e1r = types.SimpleNamespace(gauss_laguerre=Laguerre)
    sys.modules.update({"quadpy": quadpy, **{name: types.ModuleType(name) for name in UNUSED}})
    sys.modules["seaborn"].set = lambda: None
    sys.modules["tqdm"].tqdm = iter
    sys.path.insert(0, str(folder))
    names: dict = {}
    for cell in json.loads((folder / "Batchnorm-NTK.ipynb").read_text())["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] != "code" or text.startswith("!"):
            continue
        if "CIFAR10" in text or "transform =" in text:
            break
        exec(text, names)
    return names


def main() -> None:
    """Times one evaluation; the first has nothing to compile."""
    import torch

    torch.set_num_threads(1)
    clone, folder = map(Path, sys.argv[1:])
    x = np.load(folder / "x.npy")
    names = notebook(clone)
    k = np.einsum("aid,bjd->aibj", x, x) / x.shape[2]
    start = time.process_time()
    found = names["theorykernels"](k[0, :, 1], k[0, :, 0], k[1, :, 1], depth=2)
    np.save(folder / "seconds.npy", time.process_time() - start)
    np.save(folder / "ntk.npy", np.block([[found["ntk1"], found["ntkx"]], [found["ntkx"].T, found["ntk2"]]]))


if __name__ == "__main__":
    main()
