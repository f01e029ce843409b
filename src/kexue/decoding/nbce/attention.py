"""One layer of attention is a naive Bayes language model with weights (kexue.fm 9648).

Naive Bayes: with the tokens before x_t independent given it,

    log p(x_t | x_1 ... x_{t-1}) = sum_j log p(x_t | x_j) - (t - 2) log p(x_t) + const.

Let log p(y | x) = v(x) . w(y), give the terms weights a_j = softmax_j(q(x_{t-1}) . k(x_j)) instead of 1, and drop the
prior: the logits are (sum_j a_j v(x_j)) . w(x_t), which is dot-product attention and an output layer. A residual
connection is the term log p(x_t | x_{t-1}) once more.
"""

from typing import Any

import numpy as np

from kexue.errors import ConfigError, DataError

__all__ = ["NaiveBayesLM"]


class NaiveBayesLM:
    """The demonstration model, in both forms.

    Args:
        query, key: (V, d) vectors of the tokens that decide the weights.
        value, output: (V, e) with ``value @ output.T`` the table log p(y | x), row x.
        prior: (V,) log p; uniform by default.
        residual: a residual connection.
    """

    def __init__(
        self, query: Any, key: Any, value: Any, output: Any, *, prior: Any = None, residual: bool = False
    ) -> None:
        self.query, self.key, self.value, self.output = (np.asarray(a, "float64") for a in (query, key, value, output))
        size = len(self.query)
        good = self.query.shape == self.key.shape and self.value.shape == self.output.shape
        if self.query.ndim != 2 or self.value.ndim != 2 or not good or len(self.value) != size:
            raise ConfigError(
                "query and key must be (V, d), value and output (V, e). Received: "
                f"{self.query.shape}, {self.key.shape}, {self.value.shape}, {self.output.shape}"
            )
        self.prior = np.full(size, -np.log(size)) if prior is None else np.asarray(prior, "float64")
        self.residual = residual

    @classmethod
    def from_texts(
        cls, texts: Any, size: int, *, key_size: int = 4, smoothing: float = 0.1, seed: int = 0, **options: Any
    ) -> "NaiveBayesLM":
        """Tables counted from texts: p(y | x) over all pairs of a token x and a later token y of the same text,
        factorised exactly by a singular value decomposition; random queries and keys.

        Raises:
            DataError: an id outside [0, size).
        """
        counts = np.full((size, size), float(smoothing))
        single = np.full(size, float(smoothing))
        for text in texts:
            ids = np.asarray(text, "int64")
            if ids.size and (ids.min() < 0 or ids.max() >= size):
                raise DataError(f"ids must lie in [0, {size}). Received: {ids.min()} to {ids.max()}")
            np.add.at(single, ids, 1.0)
            for t in range(1, len(ids)):
                np.add.at(counts, (ids[:t], ids[t]), 1.0)
        table = np.log(counts / counts.sum(1, keepdims=True))
        left, values, right = np.linalg.svd(table)
        rng = np.random.default_rng(seed)
        query, key = rng.normal(size=(2, size, key_size))
        return cls(query, key, left * values, right.T, prior=np.log(single / single.sum()), **options)

    @property
    def table(self) -> np.ndarray:
        """(V, V) log p(y | x), row x."""
        return self.value @ self.output.T

    def naive_bayes(self, ids: Any) -> np.ndarray:
        """Posterior log-probabilities (V,) of the token after ``ids`` (at least one), all weights 1, with the prior."""
        ids = self._checked(ids)
        logits = sum(self.table[x] for x in ids) - (len(ids) - 1) * self.prior
        return logits - np.logaddexp.reduce(logits)

    def weighted(self, ids: Any) -> np.ndarray:
        """Logits (length, V) after each token, summed term by term: naive Bayes with weights."""
        ids = self._checked(ids)
        table, result = self.table, np.zeros((len(ids), len(self.query)))
        for t, last in enumerate(ids):
            strength = np.array([np.exp(self.query[last] @ self.key[x]) for x in ids[: t + 1]])
            for weight, x in zip(strength / strength.sum(), ids[: t + 1], strict=True):
                result[t] += weight * table[x]
            if self.residual:
                result[t] += table[last]
        return result

    def attention(self, ids: Any) -> np.ndarray:
        """The same logits (length, V) as a causal attention layer and an output layer."""
        ids = self._checked(ids)
        scores = self.query[ids] @ self.key[ids].T
        scores = np.where(np.tri(len(ids), dtype=bool), scores, -1e30)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        mixed = weights @ self.value[ids]
        return (mixed + self.value[ids] if self.residual else mixed) @ self.output.T

    def _checked(self, ids: Any) -> np.ndarray:
        array = np.asarray(ids, "int64")
        if array.ndim != 1 or not array.size or array.min() < 0 or array.max() >= len(self.query):
            raise DataError(f"expected a sequence of ids in [0, {len(self.query)}), not empty. Received: {ids!r:.60}")
        return array
