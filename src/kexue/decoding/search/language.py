"""Language models as the samplers see them: sentences are sequences of ids without special tokens.

- `CausalScores`: log p(sentence), and the law of the next token, from a causal `Transformer`;
- `MaskedScores`: the law of a token given both sides, and the pseudo-log-likelihood (arXiv 1910.14659), from a masked
  language model.

Both are plain callables to the samplers, so that any other function of ids serves as well.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kexue.decoding.search.forward import Forward
from kexue.decoding.search.sentences import Sentences
from kexue.errors import ConfigError
from kexue.nn import masks

__all__ = ["CausalScores", "MaskedScores"]


class CausalScores:
    """log p of sentences under a causal model, ``sum_t log p(x_t | start, x_<t)``, the end token included.

    Args:
        model: a `Transformer` with a causal or prefix mask and the head ``lm``.
        start: id of the token that opens a text (``[CLS]``).
        end: id of the token that ends it (``[SEP]``); None: the end is not scored.
        segment: segment id of all tokens; by default 1 with the mask ``Prefix`` (where segment 1 is the part that is
            written), none otherwise.
        pad_id: id of padding.
        batch_size: rows at a time.

    Raises:
        ConfigError: the model is bidirectional or has no ``lm`` head.
    """

    def __init__(
        self,
        model: Any,
        *,
        start: int,
        end: int | None = None,
        segment: int | None = None,
        pad_id: int = 0,
        batch_size: int = 64,
    ) -> None:
        rule = getattr(model, "mask", None)
        if isinstance(rule, masks.Bidirectional):
            raise ConfigError(
                "log p(sentence) needs a model that sees only what stands before: load it with mask='causal', or "
                "mask='prefix'. Received: a bidirectional one."
            )
        if segment is None and isinstance(rule, masks.Prefix):
            segment = 1
        self.start, self.end = start, end
        self.forward = Forward(model, segment=segment, pad_id=pad_id, batch_size=batch_size)

    def _framed(self, sentence: Sequence[int]) -> list[int]:
        return [self.start, *sentence] + ([] if self.end is None else [self.end])

    def __call__(self, sentences: Sentences) -> np.ndarray:
        """(n,) log-probabilities."""
        return np.array([logs.sum() for logs in self.token_scores(sentences)])

    def token_scores(self, sentences: Sentences) -> list[np.ndarray]:
        """The log-probability of each token, the end token last where there is one."""
        return self.forward.next_tokens([self._framed(s) for s in sentences])

    def perplexity(self, sentences: Sentences) -> np.ndarray:
        """(n,) ``exp(-mean_t log p)``, the end token counted where there is one."""
        return np.array([np.exp(-logs.mean()) if len(logs) else np.nan for logs in self.token_scores(sentences)])

    def next(self, lefts: Sentences) -> np.ndarray:
        """(n, V) log-probabilities of the token after each beginning."""
        rows = [[self.start, *left] for left in lefts]
        return self.forward.at(rows, [[len(row) - 1] for row in rows])[:, 0]

    def slots(self, lefts: Sentences, rights: Sentences) -> np.ndarray:
        """`next`: what stands right is not looked at. A `Slots` function."""
        return self.next(lefts)


class MaskedScores:
    """A masked language model: what may stand in a slot, and how likely a sentence is by all its slots.

    Args:
        model: a `Transformer` with the head ``lm`` that sees both sides.
        mask_id: id of ``[MASK]``.
        start: ids that open a row.
        end: ids that close it.
        segment: segment id of all tokens; None: not given to the model.
        pad_id: id of padding.
        batch_size: rows at a time.
    """

    def __init__(
        self,
        model: Any,
        *,
        mask_id: int | None,
        start: Sequence[int] = (),
        end: Sequence[int] = (),
        segment: int | None = None,
        pad_id: int = 0,
        batch_size: int = 64,
    ) -> None:
        if mask_id is None:
            raise ConfigError("a masked language model needs a [MASK] token, which this vocabulary has not.")
        if isinstance(getattr(model, "mask", None), masks.Causal):
            raise ConfigError("a masked language model sees both sides. Received: a causal one.")
        if segment is None and isinstance(getattr(model, "mask", None), masks.Prefix):
            segment = 0  # the part of a prefix model that is seen from both sides
        self.mask_id, self.start, self.end = mask_id, list(start), list(end)
        self.forward = Forward(model, segment=segment, pad_id=pad_id, batch_size=batch_size)

    @classmethod
    def of(cls, model: Any, tokenizer: Any, **options: Any) -> "MaskedScores":
        """With the special tokens of a tokenizer."""
        ends = {
            "start": [] if tokenizer.cls_id is None else [tokenizer.cls_id],
            "end": [] if tokenizer.sep_id is None else [tokenizer.sep_id],
        }
        return cls(model, mask_id=tokenizer.mask_id, pad_id=tokenizer.pad_id, **(ends | options))

    def slots(self, lefts: Sentences, rights: Sentences) -> np.ndarray:
        """(n, V) log-probabilities of the token between; a `Slots` function."""
        pairs = list(zip(lefts, rights, strict=True))
        rows = [[*self.start, *left, self.mask_id, *right, *self.end] for left, right in pairs]
        return self.forward.at(rows, [[len(self.start) + len(left)] for left, _ in pairs])[:, 0]

    def token_scores(self, sentences: Sentences) -> list[np.ndarray]:
        """log p(x_i | all others) of each token, by one row with ``[MASK]`` at i for each i."""
        lefts = [list(s[:i]) for s in sentences for i in range(len(s))]
        rights = [list(s[i + 1 :]) for s in sentences for i in range(len(s))]
        own = [token for s in sentences for token in s]
        logs = np.empty(len(own))
        size = self.forward.batch_size
        for begin in range(0, len(own), size):  # in parts: the laws of all slots at once would be large
            part = slice(begin, begin + size)
            laws = self.slots(lefts[part], rights[part])
            logs[part] = laws[np.arange(len(laws)), own[part]]
        return np.split(logs, np.cumsum([len(s) for s in sentences])[:-1]) if len(sentences) else []

    def __call__(self, sentences: Sentences) -> np.ndarray:
        """(n,) pseudo-log-likelihoods, ``sum_i log p(x_i | x without i)``."""
        return np.array([logs.sum() for logs in self.token_scores(sentences)])

    def perplexity(self, sentences: Sentences) -> np.ndarray:
        """(n,) pseudo-perplexities ``exp(-PLL / length)``; NaN for a sentence without tokens."""
        return np.array([np.exp(-logs.mean()) if len(logs) else np.nan for logs in self.token_scores(sentences)])
