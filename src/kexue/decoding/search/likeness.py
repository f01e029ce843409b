"""How alike two texts are to an encoder: each token finds its best match on the other side (BERTScore, arXiv
1904.09675)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from keras import ops

from kexue.decoding.search.forward import Forward
from kexue.decoding.search.sentences import Sentences

__all__ = ["SoftMatch", "shared_pairs"]


class SoftMatch:
    """Likeness of texts in [0, 1]: the harmonic mean of how well each text's tokens are found in the other.

    Args:
        model: a `Transformer`; the cosines are those of its ``sequence_output``, less ``floor``, over ``1 - floor``.
        start: ids that open a row.
        end: ids that close it.
        segment: segment id of all tokens; None: not given.
        pad_id: id of padding.
        floor: cosines up to this count as nothing alike.
        batch_size: rows at a time.
    """

    def __init__(
        self,
        model: Any,
        *,
        start: Sequence[int] = (),
        end: Sequence[int] = (),
        segment: int | None = None,
        pad_id: int = 0,
        floor: float = 0.0,
        batch_size: int = 64,
    ) -> None:
        self.start, self.end, self.floor = list(start), list(end), floor
        self.forward = Forward(model, segment=segment, pad_id=pad_id, batch_size=batch_size)

    def vectors(self, sentences: Sentences) -> list[np.ndarray]:
        """For each sentence unit vectors of its tokens, (length, D)."""
        rows = [[*self.start, *s, *self.end] for s in sentences]
        found: list[np.ndarray] = []
        for part, output in self.forward.hidden(rows):
            array = np.asarray(ops.convert_to_numpy(ops.cast(output, "float32")), "float64")
            array /= np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), 1e-12)
            begin = len(self.start)
            found += [array[i, begin : begin + len(s)] for i, s in enumerate(sentences[part])]
        return found

    def __call__(self, sentences: Sentences, source: Sequence[int]) -> np.ndarray:
        """(n,) likeness of each sentence to the source; 0 for a sentence without tokens."""
        wanted, *given = self.vectors([source, *sentences])
        result = np.zeros(len(given))
        for i, vectors in enumerate(given):
            if len(vectors) and len(wanted):
                cosines = np.clip((wanted @ vectors.T - self.floor) / (1 - self.floor), 0.0, 1.0)
                recall, precision = cosines.max(axis=1).mean(), cosines.max(axis=0).mean()
                result[i] = 2 * recall * precision / max(recall + precision, 1e-12)
        return result


def shared_pairs(sentences: Sentences, source: Sequence[int]) -> np.ndarray:
    """(n,) share of the neighbouring pairs of each sentence that stand in the source as well, in [0, 1]."""
    pairs = set(pairwise(source))
    result = np.zeros(len(sentences))
    for i, sentence in enumerate(sentences):
        own = list(pairwise(sentence))
        result[i] = sum(pair in pairs for pair in own) / len(own) if own else float(tuple(sentence) == tuple(source))
    return result
