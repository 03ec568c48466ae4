"""The small trainer, its instruments and the statistics of a trial: NumPy, PyArrow, numba and torch, nothing of ours."""
