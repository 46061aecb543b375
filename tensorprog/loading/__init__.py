"""Data for a program: files of arrays, the bundled sets of scikit-learn, and Gaussian stand-ins."""

from tensorprog.loading.bundled import BUNDLED, Labelled, bundled
from tensorprog.loading.files import load_file
from tensorprog.loading.synthetic import gaussian_data

__all__ = ["BUNDLED", "Labelled", "bundled", "gaussian_data", "load_file"]
