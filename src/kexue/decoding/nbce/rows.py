"""A kexue model as the rows of NBCE."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kexue.decoding.search.forward import Forward
from kexue.errors import ConfigError
from kexue.nn import masks

__all__ = ["KexueRows"]


class KexueRows:
    """A causal `Transformer` with the head ``lm``, all rows in one batch.

    With the cache each token is run once. What all rows begin with (the ``start`` of `NBCE`: an instruction, say) is
    read once, for all rows; then the rest of each row, padded at its end, and from there one token a step. Every token
    has the position that it has in its own row. Lengths are rounded up to powers of two, so that JAX and TensorFlow
    compile a handful of programs.

    Args:
        model: with a causal or prefix mask.
        segment: segment id of all tokens; by default 1 with the mask ``Prefix``, none otherwise.
        pad_id: id of padding.
        batch_size: rows at a time, without the cache.
        cached: False reads the rows anew at each step, for models that cannot run one token at a time.

    Attributes:
        compiled: the cache, which also writes a whole answer in one program; None without it.

    Raises:
        ConfigError: a bidirectional model, one without the head, ``cached`` and a part that cannot work with a cache.
    """

    def __init__(
        self, model: Any, *, segment: int | None = None, pad_id: int = 0, batch_size: int = 64, cached: bool = True
    ) -> None:
        rule = getattr(model, "mask", None)
        if isinstance(rule, masks.Bidirectional):
            raise ConfigError("NBCE writes from left to right: load the model with mask='causal' or mask='prefix'.")
        if segment is None and isinstance(rule, masks.Prefix):
            segment = 1
        self._forward = Forward(model, segment=segment, pad_id=pad_id, batch_size=batch_size)
        self.compiled = None
        if cached:
            from kexue.decoding.nbce.rows_cached import CachedRows

            self.compiled = CachedRows(model, segment, pad_id)
        self._rows: list[list[int]] = []

    def start(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits (rows, V) of the token after each row; normalised without the cache, as it happens."""
        if self.compiled is not None:
            return self.compiled.start(rows)
        self._rows = [list(row) for row in rows]
        return self._forward.at(self._rows, [[len(row) - 1] for row in self._rows])[:, 0]

    def extend(self, token: int) -> np.ndarray:
        """Append a token to every row: logits (rows, V) of the one after."""
        if self.compiled is not None:
            return self.compiled.extend(token)
        if not self._rows:
            raise ConfigError("extend() continues rows that start() has read.")
        return self.start([[*row, token] for row in self._rows])
