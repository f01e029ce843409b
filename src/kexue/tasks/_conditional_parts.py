"""The halves of `ConditionalLM` that need no training: probabilities of texts, and writing them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, cast

import keras
import numpy as np

from kexue.decoding import Generation, Guidance, Sample, generate, stream
from kexue.decoding.search.mlm_gibbs import special_tokens
from kexue.decoding.strategies import Search
from kexue.errors import ConfigError, DataError
from kexue.models import Transformer
from kexue.tasks._checks import check_numbers
from kexue.tasks._condition_source import ConditionSource, Given
from kexue.tasks._conditional import ConditionalNetwork, ConditionedBatches, rows_of, texts_of
from kexue.tasks._forward import Forward, compiled_forward, rows_for
from kexue.tasks._pairs import Pair, encode_sources
from kexue.tasks._writing import text_pieces
from kexue.text import Tokenizer

__all__ = ["Probabilities", "Writing"]


class _Parts:
    """What both have."""

    model: Transformer
    tokenizer: Tokenizer
    source: ConditionSource
    max_length: int
    segment: int
    start: int
    stop: int

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the labels, or None."""
        return self.source.labels

    @property
    def key(self) -> str:
        """What the condition is called in records: ``"label"`` or ``"condition"``."""
        return "condition" if self.labels is None else "label"

    def _single(self, conditions: Any) -> bool:
        """Whether this is one condition and not several."""
        if conditions is None or isinstance(conditions, str):
            return True
        if self.labels is not None or not np.iterable(conditions) or isinstance(conditions, Mapping):
            return False
        if isinstance(conditions, (list, tuple)) and (not conditions or any(c is None for c in conditions)):
            return False
        try:
            return np.ndim(cast(Any, conditions)) == len(self.source.row[0])
        except ValueError:  # arrays of several shapes
            return False

    def _read(self, conditions: Any, count: int | None) -> Given:
        """Conditions, one of them repeated for ``count`` texts.

        Raises:
            DataError: one that does not fit, or not as many as there are texts.
        """
        if self._single(conditions):
            return self.source.read([conditions], "condition").repeated(1 if count is None else count)
        if not np.iterable(conditions) or isinstance(conditions, Mapping):
            raise DataError(f"conditions must be one or a list of them. Received: {conditions!r:.80}")
        given = self.source.read(list(conditions), "condition")
        if count is not None and len(given) != count:
            raise DataError(f"expected one condition, or one for each of {count} texts. Received: {len(given)}")
        return given

    def _rows(self, texts: Sequence[str], what: str) -> tuple[list[Pair], np.ndarray]:
        """Rows of texts, and the number of the text that each is from; none for a text without tokens.

        Raises:
            DataError: something that is not a text.
        """
        encode_sources(self.tokenizer, texts, self.max_length, what)
        return rows_of(self.tokenizer, texts, self.stop, self.max_length)

    def _batches(
        self, rows: tuple[list[Pair], np.ndarray], given: Given, batch_size: int, **options: Any
    ) -> ConditionedBatches:
        """Batches of rows under the conditions of their texts."""
        return ConditionedBatches(
            rows[0],
            given,
            rows[1],
            segment=self.segment,
            dtype=self.source.row[1],
            batch_size=batch_size,
            pad_id=self.tokenizer.pad_id,
            names=self.model.input,
            limit=self.model.max_tokens,
            **({"seed": None} | options),
        )


class Probabilities(_Parts):
    """Log probabilities of texts under conditions."""

    @cached_property
    def _network(self) -> ConditionalNetwork:
        return ConditionalNetwork(self.model, self.source)

    @cached_property
    def _forward(self) -> Forward:
        return compiled_forward(self._network)

    def log_prob(self, texts: Iterable[str], conditions: Any, *, batch_size: int = 32) -> np.ndarray:
        """``(texts,)`` log p(text | condition), natural logarithms, the end token's among them.

        A text over ``max_length`` is cut as in training; its pieces count as independent texts. One without tokens has
        log probability 0.

        Args:
            texts: strings.
            conditions: one for each text, or one for all; None: the null condition.
            batch_size: rows at a time.

        Raises:
            DataError: something that is not a text, or a condition that does not fit.
        """
        texts = _listed(texts)
        return self._scores(texts, self._read(conditions, len(texts)), batch_size)[0]

    def label_log_prob(self, texts: Iterable[str], *, batch_size: int = 32) -> np.ndarray:
        """``(texts, labels)`` log p(text | label): with log p(label) added, Bayes' rule gives the label of a text.

        Raises:
            ConfigError: a model without labels.
            DataError: something that is not a text.
        """
        if self.labels is None:
            raise ConfigError("label_log_prob needs a model that was built with labels=. Use log_prob.")
        texts = _listed(texts)
        return np.stack([self.log_prob(texts, label, batch_size=batch_size) for label in self.labels], axis=1)

    def _scores(self, texts: list[str], given: Given, batch_size: int) -> tuple[np.ndarray, int]:
        """Log probabilities of texts, and how many tokens they are of."""
        check_numbers(batch_size=batch_size)
        total = np.zeros(len(texts), "float64")
        rows = self._rows(texts, "text")
        if not rows[0]:
            return total, 0
        batches = self._batches(rows, given, batch_size)
        for members in batches.order():
            batch = batches.batch(members)
            losses = keras.ops.convert_to_numpy(self._forward(batch)["losses"])
            sums = (losses.astype("float64") * batch["target_weights"]).sum(axis=1)
            np.add.at(total, batches.origin[members], -sums[: len(members)])
        return total, sum(len(row.token_ids) - row.source for row in batches.rows)

    def evaluate(self, data: Iterable[Mapping[str, Any]], *, batch_size: int = 32) -> dict[str, float]:
        """Mean cross-entropy of a token under the texts' own conditions and under the null condition.

        Args:
            data: as in `fit`.
            batch_size: rows at a time.

        Returns:
            ``loss`` and ``perplexity``, ``null_loss`` and ``null_perplexity``; with labels also ``label_accuracy``: how
            often the own label is the one under which the text is most probable.

        Raises:
            DataError: no or broken examples.
        """
        texts, values = texts_of(data, self.key, "data")
        given = self.source.read(values, "data")
        found: dict[str, float] = {}
        for name, conditions in (("", given), ("null_", Given(given.values, [False] * len(given)))):
            total, tokens = self._scores(texts, conditions, batch_size)
            if not tokens:
                raise DataError("data holds no text: all examples are empty or white space.")
            loss = -float(total.sum()) / tokens
            found |= {f"{name}loss": loss, f"{name}perplexity": float(np.exp(min(loss, 700.0)))}
        known = [n for n, value in enumerate(values) if value is not None]
        if self.labels is not None and known:
            best = self.label_log_prob([texts[n] for n in known], batch_size=batch_size).argmax(axis=1)
            right = [self.labels[i] == values[n] for i, n in zip(best.tolist(), known, strict=True)]
            found["label_accuracy"] = float(np.mean(right))
        return found


class Writing(_Parts):
    """Texts for conditions."""

    @cached_property
    def _source_forward(self) -> Forward:
        return compiled_forward(self.source)

    def vectors(self, conditions: Any, *, batch_size: int = 32) -> np.ndarray:
        """``(conditions, condition_size)``: what the norms get for labels, vectors or inputs of the conditioner.

        Raises:
            DataError: one that does not fit.
        """
        check_numbers(batch_size=batch_size)
        return self._vectors(self._read(conditions, None), batch_size)

    def _vectors(self, given: Given, batch_size: int = 32) -> np.ndarray:
        parts = []
        for first in range(0, len(given), batch_size):
            values = given.values[first : first + batch_size]
            places = np.resize(np.arange(len(values)), rows_for(len(values), batch_size))
            batch = {
                "given": np.stack([values[i] for i in places.tolist()]).astype(self.source.row[1]),
                "present": given.present[first : first + batch_size][places][:, None],
            }
            parts.append(np.asarray(keras.ops.convert_to_numpy(self._source_forward(batch)))[: len(values)])
        return np.concatenate(parts) if parts else np.zeros((0, self.source.size), "float32")

    def _own_tokens(self, texts: Sequence[str]) -> list[list[int]]:
        encode_sources(self.tokenizer, texts, self.max_length, "prompt")  # refuses what is no text
        return [e.token_ids[~e.special].tolist() for e in self.tokenizer.encode_batch(list(texts))]

    def _inputs(self, given: Given, prompts: Sequence[str], guidance: Any) -> tuple[dict[str, Any], Guidance | None]:
        """Rows to go on from, and what guides them."""
        rows = [[self.start, *tokens] for tokens in self._own_tokens(prompts)]
        shape = (len(rows), max(map(len, rows)))
        inputs = {"token_ids": np.full(shape, self.tokenizer.pad_id, "int32"), "padding_mask": np.zeros(shape, bool)}
        for n, row in enumerate(rows):
            inputs["token_ids"][n, : len(row)], inputs["padding_mask"][n, : len(row)] = row, True
        if "segment_ids" in self.model.input:
            inputs["segment_ids"] = np.full(shape, self.segment, "int32")
        inputs["condition"] = self._vectors(given)
        if np.isscalar(guidance) and guidance == 1:
            return inputs, None
        null = np.asarray(keras.ops.convert_to_numpy(self.source.null.value))[None]
        return inputs, Guidance(guidance, {"condition": null})

    def _options(self, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        room = self.max_length - int(inputs["padding_mask"].sum(axis=1).min())
        forbidden = [i for i in special_tokens(self.tokenizer) if i != self.stop]
        return {"max_tokens": max(1, room), "stop": self.stop, "forbidden": forbidden} | dict(options)

    def generate(
        self,
        conditions: Any,
        search: Search | None = None,
        *,
        n: int = 1,
        guidance: float | Sequence[float] = 1.0,
        prompt: str | Sequence[str] = "",
        **options: Any,
    ) -> Generation:
        """Sequences of tokens, with scores and reasons.

        Args:
            conditions: a label, a vector or an input of the conditioner, or several; None: the null condition.
            search: of `kexue.decoding`; ``Sample(top_p=0.95)`` by default.
            n: texts for each condition, one after the other in the result; random ones, which needs `Sample`. The r-th
                text of all draws from ``seed + r``.
            guidance: w of `kexue.decoding.guidance`, for all or for each condition: 1 is the model as it is, 0 the null
                condition, above 1 the condition counts more.
            prompt: what the texts begin with, for all or for each condition.
            **options: of `kexue.decoding.generate`; by default ``max_tokens`` fills ``max_length``, and special tokens
                are forbidden.

        Raises:
            DataError: a condition that does not fit.
            ConfigError: arguments that cannot work.
        """
        check_numbers(n=n)
        search = Sample(top_p=0.95) if search is None else search
        if n > 1 and not isinstance(search, Sample):
            raise ConfigError(f"n={n} texts for each condition would all be the same: {search!r} does not draw.")
        given = self._read(conditions, None)
        if not len(given):
            return Generation([])
        prompts = [text for text in _each(prompt, len(given), "prompt") for _ in range(n)]
        weights = np.repeat(guidance, n).tolist() if np.ndim(guidance) else guidance
        inputs, guide = self._inputs(given.repeated(n), prompts, weights)
        return generate(self.model, inputs, search, guidance=guide, **self._options(inputs, options))

    def predict(
        self,
        conditions: Any,
        search: Search | None = None,
        *,
        n: int | None = None,
        guidance: float | Sequence[float] = 1.0,
        prompt: str | Sequence[str] = "",
        **options: Any,
    ) -> Any:
        """Texts, the prompt at their beginning; arguments as in `generate`.

        Returns:
            For one condition a text, for several a list of texts; with ``n``, a list of n texts instead of each.
        """
        times = 1 if n is None else n
        found = self.generate(conditions, search, n=times, guidance=guidance, prompt=prompt, **options)
        count = len(found.sequences) // times
        begins = self._own_tokens(_each(prompt, count, "prompt"))
        texts = [self.tokenizer.decode(begins[i // times] + tokens) for i, tokens in enumerate(found.best)]
        rows: list[Any] = texts if n is None else [texts[i * n : (i + 1) * n] for i in range(count)]
        return rows[0] if self._single(conditions) else rows

    def stream(
        self, condition: Any, search: Search | None = None, *, guidance: float = 1.0, prompt: str = "", **options: Any
    ) -> Iterator[str]:
        """What follows the prompt under one condition, piece by piece as it is written; arguments as in `generate`."""
        inputs, guide = self._inputs(self.source.read([condition], "condition"), [prompt], guidance)
        search = Sample(top_p=0.95) if search is None else search
        tokens = stream(self.model, inputs, search, guidance=guide, **self._options(inputs, options))
        before = self._own_tokens([prompt])[0]
        skip = len(self.tokenizer.decode(before))
        return text_pieces(lambda ids: self.tokenizer.decode(before + ids)[skip:], tokens)


def _listed(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str) or not np.iterable(texts):
        raise DataError(f"expected a list of texts. Received: {texts!r:.60}")
    return list(texts)


def _each(value: Any, count: int, what: str) -> list[Any]:
    """One for each of ``count`` conditions."""
    values = [value] * count if isinstance(value, str) or not np.iterable(value) else list(value)
    if len(values) != count:
        raise DataError(f"expected one {what}, or one for each of {count} conditions. Received: {len(values)}")
    return values
