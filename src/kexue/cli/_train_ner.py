"""The run behind ``kexue train ner``: read, build, fit, save, score."""

import shlex
import shutil
from dataclasses import dataclass
from typing import Any

import typer

import kexue
from kexue.cli._common import dumps, note, write_json
from kexue.cli._data import check_conditions, hold_out, labels_of, read_labelled
from kexue.cli._training import TrainOptions, begin_with, check_output, state_of, train_task
from kexue.tasks import NER
from kexue.text import statistics

__all__ = ["Settings", "run"]

PRETRAINED_RATE, RANDOM_RATE = 2e-5, 5e-4

Examples = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Settings(TrainOptions):
    """The options of the command, see its help."""

    labels: list[str] | None
    head: str
    head_learning_rate: float | None
    layer_decay: float
    max_length: int
    stride: int | None
    flat: bool | None
    scheme: str
    rotary: bool
    condition_size: int | None


def run(settings: Settings, *, restart: bool) -> None:
    """Train and save.

    Raises:
        KexueError: wrong data, model or settings.
    """
    check_output(settings, restart)
    labels = settings.labels
    train = read_labelled(settings.data, settings.format, "train", labels)
    labels = labels or labels_of(train)
    test = None if settings.test is None else read_labelled(settings.test, settings.format, "test", labels)
    everything = train
    train, valid = _validation(settings, train, labels)
    _describe("training", train)
    _describe("validation", valid)
    note(f"labels: {', '.join(labels)}")

    if state_of(settings.output).exists():
        note(f"going on with the training in {settings.output}")
    task, pretrained = _build(settings, train, labels)
    check_conditions(everything, task.condition_size, settings.data)
    for path, examples in ((settings.valid, valid), (settings.test, test)):
        if path is not None:
            check_conditions(examples or [], task.condition_size, path)
    rate = settings.learning_rate or (PRETRAINED_RATE if pretrained else RANDOM_RATE)
    history, seconds = train_task(
        settings,
        task,
        train,
        valid,
        rate,
        head_learning_rate=settings.head_learning_rate,
        layer_decay=settings.layer_decay,
    )
    sets = {name: data for name, data in (("valid", valid), ("test", test)) if data}
    _report(settings, task, sets, history, seconds)
    shutil.rmtree(state_of(settings.output))


def _validation(settings: Settings, train: Examples, labels: list[str]) -> tuple[Examples, Examples]:
    if settings.valid is not None:
        return train, read_labelled(settings.valid, settings.format, "valid", labels)
    if len(train) < 2:
        note("no --valid, and one example cannot be divided: training goes without validation")
        return train, []
    total = len(train)
    train, valid = hold_out(train, settings.seed)
    note(f"no --valid: {len(valid):,} of {total:,} examples are held out for validation (seed {settings.seed})")
    return train, valid


def _describe(name: str, examples: Examples) -> None:
    if not examples:
        return
    counts = statistics(examples)
    nested = f", {counts['nested']:.1%} of them overlapping" if counts["nested"] else ""
    note(f"{name}: {counts['examples']:,} examples, {counts['entities']:,} entities{nested}")


def _build(settings: Settings, train: Examples, labels: list[str]) -> tuple[NER, bool]:
    """The task, and whether its encoder was pretrained."""
    options: dict[str, Any] = {
        "head": settings.head,
        "max_length": settings.max_length,
        "stride": settings.stride,
        "flat": settings.flat,
        "rotary": settings.rotary,
        "condition_size": settings.condition_size,
        "dtype": settings.dtype,
        "seed": settings.seed,
        "scheme": settings.scheme,
    }
    start = begin_with(
        settings.model, settings.tokenizer, lambda: (example["text"] for example in train), settings.max_length
    )
    return NER.from_pretrained(start.model, labels, tokenizer=start.tokenizer, **options), start.pretrained


def _report(
    settings: Settings, task: NER, sets: dict[str, Examples], history: dict[str, list[Any]], seconds: float
) -> None:
    scores = {name: task.evaluate(data) for name, data in sets.items()}
    metrics = {
        "kexue": kexue.__version__,
        "labels": list(task.labels),
        **{name: score.as_dict() for name, score in scores.items()},
        "history": {name: [float(v) for v in values] for name, values in history.items()},
        "seconds": seconds,
        "settings": settings.as_dict(),
    }
    write_json(settings.output / "metrics.json", metrics)
    for name, score in scores.items():
        typer.echo(f"\n{name}\n{score.table()}")
    found = (example for data in sets.values() for example in data if example["entities"])
    example: dict[str, Any] = next(found, {"text": "text", "condition": [0.0] * (task.condition_size or 0)})
    sample = example["text"][:60]
    if task.condition_size is not None:
        sample = dumps({"text": sample, "condition": example["condition"]})
    note(f"\nSaved in {settings.output}. Predict with:")
    typer.echo(f"kexue predict {shlex.quote(str(settings.output))} {shlex.quote(sample)}")
