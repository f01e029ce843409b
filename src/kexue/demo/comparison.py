"""Training and scoring one head, the same way for each."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kexue.demo import notices
from kexue.models import TransformerConfig
from kexue.tasks import NER
from kexue.text import Tokenizer

__all__ = ["HEADS", "Result", "compare", "encoder_config", "inner_recall"]

WITHOUT_ROTARY = "global_pointer_without_rotary"
HEADS = ("global_pointer", "efficient_global_pointer", "crf", "softmax", WITHOUT_ROTARY)

Examples = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """A trained head and its figures on the test set."""

    head: str
    task: NER
    precision: float
    recall: float
    f1: float
    inner: float
    """Share found of the entities that lie inside another one."""
    training_seconds: float
    sentences_per_second: float
    """In prediction, after everything has been compiled."""


def encoder_config(vocabulary_size: int) -> TransformerConfig:
    """The small encoder that all heads share."""
    return TransformerConfig(
        family="roformer",
        position="rotary",
        vocabulary_size=vocabulary_size,
        hidden_size=128,
        num_layers=2,
        num_heads=4,
        intermediate_size=256,
        max_length=128,
    )


def compare(
    head: str, data: Mapping[Any, Examples], *, epochs: int, seed: int, callbacks: Sequence[Any] = ()
) -> Result:
    """Train one head from random weights and score it."""
    tokenizer = Tokenizer.from_vocab(notices.vocabulary(), lowercase=False)
    task = NER.from_pretrained(
        encoder_config(tokenizer.vocabulary_size),
        list(notices.LABELS),
        head=head.removesuffix("_without_rotary"),
        rotary=head != WITHOUT_ROTARY,
        tokenizer=tokenizer,
        max_length=128,
        head_size=32,
        seed=seed,
    )
    began = time.perf_counter()
    task.fit(
        data["train"],
        data["valid"] or None,
        epochs=epochs,
        batch_size=32,
        learning_rate=2e-3,
        warmup=0.1,
        seed=seed,
        callbacks=list(callbacks),
        verbose=0,
    )
    training = time.perf_counter() - began
    texts = [example["text"] for example in data["test"]]
    scores = task.evaluate(data["test"])  # compiles every shape
    began = time.perf_counter()
    predicted = task.predict(texts)
    speed = len(texts) / (time.perf_counter() - began)
    inner = inner_recall(predicted, [example["entities"] for example in data["test"]])
    return Result(head, task, scores.precision, scores.recall, scores.f1, inner, training, speed)


def inner_recall(predicted: Sequence[Examples], gold: Sequence[Examples]) -> float:
    """Share found of the gold entities that lie inside another gold entity."""
    found = total = 0
    for answers, truth in zip(predicted, gold, strict=True):
        spans = {(e["start"], e["end"], e["label"]) for e in answers}
        for entity in truth:
            inside = any(
                other is not entity and other["start"] <= entity["start"] and entity["end"] <= other["end"]
                for other in truth
            )
            if inside:
                total += 1
                found += (entity["start"], entity["end"], entity["label"]) in spans
    return found / total if total else 0.0
