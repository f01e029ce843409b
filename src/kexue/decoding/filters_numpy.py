"""Top-p of arrays, without Keras."""

import numpy as np

__all__ = ["sorted_nucleus"]


def sorted_nucleus(log_p: np.ndarray, p: float) -> np.ndarray:
    """`kexue.decoding.filters.nucleus` of an array."""
    masses = np.exp(log_p - log_p.max(-1, keepdims=True))
    order = -np.sort(-masses, axis=-1)
    reached = np.cumsum(order, axis=-1, dtype="float64")
    inside = reached - order < p * reached[..., -1:]
    return masses >= np.where(inside, order, np.inf).min(-1, keepdims=True)
