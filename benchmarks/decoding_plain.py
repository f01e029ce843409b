"""The beam search of bert4keras, written plainly: every step runs the whole sequences again."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["bert4keras_beams"]

MULTIPLE = 16


def bert4keras_beams(model: Any, prompt: Sequence[int], width: int, new: int) -> list[int]:
    """The best of ``width`` beams after ``new`` tokens, of which none ends the sequence.

    One sequence alone. Lengths are padded to multiples of 16, so that JAX compiles few programs.

    Args:
        model: a UniLM, ``mask="prefix"`` and ``head="lm"``.
        prompt: ids of the source.
        width: beams.
        new: tokens.
    """
    from keras import ops

    texts, scores = [list(prompt)], np.zeros(1)
    for _ in range(new):
        length = len(texts[0])
        wide = -(-length // MULTIPLE) * MULTIPLE
        ids = np.zeros((width, wide), "int32")  # at the first step all rows are the prompt
        for row in range(width):
            ids[row, :length] = texts[row % len(texts)]
        place = np.broadcast_to(np.arange(wide), ids.shape)
        batch = {
            "token_ids": ids,
            "segment_ids": ((place >= len(prompt)) & (place < length)).astype("int32"),
            "padding_mask": place < length,
        }
        logits = ops.convert_to_numpy(model.predict_on_batch(batch)["logits"])[: len(texts), length - 1].astype(
            "float64"
        )
        logits -= logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total = (scores[:, None] + log_p).ravel()
        best = np.argpartition(total, -width)[-width:]
        parents, tokens = np.divmod(best, log_p.shape[1])
        texts = [[*texts[p], int(t)] for p, t in zip(parents, tokens, strict=True)]
        scores = total[best]
    return texts[int(np.argmax(scores))][len(prompt) :]
