"""What `Seq2Seq.evaluate` gives: the loss of the targets, and the written texts with their scores."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kexue.errors import DataError
from kexue.tasks._checks import check_numbers
from kexue.tasks._pairs import PairBatches, check_pairs, encode_pairs
from kexue.tasks._train import target_network
from kexue.text.scores import score_texts
from kexue.training.feeding import feed

__all__ = ["GenerationScores", "evaluate"]


@dataclass(frozen=True)
class GenerationScores:
    """Scores of generated texts.

    Attributes:
        count: pairs.
        loss: mean cross-entropy of the targets' tokens, end tokens among them, in nats.
        perplexity: ``exp(loss)``.
        accuracy: share of target tokens that were the most probable one after the right beginning.
        exact: share of outputs that are their target, white space apart.
        scores: ``bleu``, ``chrf``, ``rouge1``, ``rouge2``, ``rouge_l`` in percent, as asked for; see
            `kexue.text.scores`.
        outputs: the written texts, in the order of the pairs.
        finished: how many of them ended by themselves, not at the greatest length.
    """

    count: int
    loss: float
    perplexity: float
    accuracy: float
    exact: float
    scores: dict[str, float]
    outputs: list[str] = field(repr=False)
    finished: int

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the outputs."""
        values = {name: value for name, value in asdict(self).items() if name not in ("scores", "outputs")}
        return values | self.scores

    def table(self) -> str:
        """A plain-text table, one line a score."""
        rows = [
            ("pairs", f"{self.count:,}"),
            ("finished", f"{self.finished:,}"),
            ("loss of targets", f"{self.loss:.4f}"),
            ("perplexity", f"{self.perplexity:.2f}"),
            ("accuracy of tokens", f"{self.accuracy:.2%}"),
            ("exact", f"{self.exact:.2%}"),
            *((name, f"{value:.2f}") for name, value in self.scores.items()),
        ]
        return "\n".join(f"{name:<20}{value:>10}" for name, value in rows)


def evaluate(
    task: Any,
    pairs: Iterable[Mapping[str, Any]],
    search: Any,
    metrics: Sequence[str],
    tokenize: str,
    batch_size: int,
    options: Mapping[str, Any],
) -> GenerationScores:
    """See `Seq2Seq.evaluate`."""
    check_numbers(batch_size=batch_size)
    data = check_pairs(pairs, "pairs")
    if not data:
        raise DataError("pairs holds no examples.")
    targets = [pair["target"] for pair in data]
    score_texts(targets[:1], targets[:1], metrics, tokenize=tokenize)  # what is missing is told before the work
    batches = PairBatches(
        encode_pairs(task.tokenizer, data, task.max_source, task.max_target, "pairs"),
        batch_size=batch_size,
        pad_id=task.tokenizer.pad_id,
        seed=None,
        names=task.model.input,
        limit=task.model.max_tokens,
    )
    if task.judge is None:
        task.judge = target_network(task.model)  # kept, so that it is compiled once
        task.judge.compile()
    figures = task.judge.evaluate(feed(batches), verbose=0, return_dict=True)
    found = task.generate([pair["source"] for pair in data], search, batch_size=batch_size, **options)
    if found.interrupted:
        raise KeyboardInterrupt
    outputs = [task.tokenizer.decode(row[0].tokens) for row in found.sequences]
    loss = float(figures["loss"])
    return GenerationScores(
        count=len(data),
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)),
        accuracy=float(figures["accuracy"]),
        exact=sum(a.split() == b.split() for a, b in zip(outputs, targets, strict=True)) / len(data),
        scores=score_texts(outputs, targets, metrics, tokenize=tokenize),
        outputs=outputs,
        finished=sum(row[0].reason == "stop" for row in found.sequences),
    )
