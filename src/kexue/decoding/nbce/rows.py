"""A kexue model as the rows of NBCE."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kexue.decoding.search.forward import Forward
from kexue.errors import ConfigError
from kexue.nn import masks

__all__ = ["KexueRows"]


class KexueRows:
    """A causal `Transformer` with the head ``lm``; every step reads the rows anew, without a cache.

    Args:
        model: with a causal or prefix mask.
        segment: segment id of all tokens; by default 1 with the mask ``Prefix``, none otherwise.
        pad_id: id of padding.
        batch_size: rows at a time.

    Raises:
        ConfigError: a bidirectional model, or one without the head.
    """

    def __init__(self, model: Any, *, segment: int | None = None, pad_id: int = 0, batch_size: int = 64) -> None:
        rule = getattr(model, "mask", None)
        if isinstance(rule, masks.Bidirectional):
            raise ConfigError("NBCE writes from left to right: load the model with mask='causal' or mask='prefix'.")
        if segment is None and isinstance(rule, masks.Prefix):
            segment = 1
        self._forward = Forward(model, segment=segment, pad_id=pad_id, batch_size=batch_size)
        self._rows: list[list[int]] = []

    def start(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits (rows, V) of the token after each row; normalised, as it happens."""
        self._rows = [list(row) for row in rows]
        return self._forward.at(self._rows, [[len(row) - 1] for row in self._rows])[:, 0]

    def extend(self, token: int) -> np.ndarray:
        """Append a token to every row: logits (rows, V) of the one after."""
        return self.start([[*row, token] for row in self._rows])
