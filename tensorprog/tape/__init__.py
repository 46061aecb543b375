"""Which moments a kernel needs, for pairs of indices, as instructions that run on data (`execute.py`)."""
