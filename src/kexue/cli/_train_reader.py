"""The run behind ``kexue train reader``: read, build, fit, save, score."""

import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import kexue
from kexue.cli._common import note, write_json
from kexue.cli._training import TrainOptions, begin_with, check_output, rate_of, state_of, train_task
from kexue.errors import ConfigError
from kexue.tasks import Reader, SpanReader
from kexue.text import read_reading, split_reading

__all__ = ["METHODS", "Settings", "run"]

METHODS: dict[str, Any] = {"write": Reader, "point": SpanReader}
HELD_OUT = 0.1

Records = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Settings(TrainOptions):
    """The options of the command, see its help."""

    method: str
    negatives: float | None
    max_passage: int
    max_question: int
    max_answer: int
    stride: int | None
    mode: str | None
    vote: str | None
    separators: str | None
    slim: bool
    save_every: int


def run(settings: Settings, *, restart: bool) -> None:
    """Train and save.

    Raises:
        KexueError: wrong data, model or settings.
    """
    if settings.method not in METHODS:
        raise ConfigError(f"--method must be one of {', '.join(METHODS)}. Received: {settings.method}")
    own = ("mode", "vote", "separators")
    given = {name: getattr(settings, name) for name in own if getattr(settings, name) is not None}
    if settings.method == "point" and given:
        raise ConfigError(f"--{', --'.join(given)} is for --method write.")
    check_output(settings, restart)
    train = _read(settings.data, settings.format, "train")
    test = None if settings.test is None else _read(settings.test, settings.format, "test")
    train, valid = _validation(settings, train)
    for name, records in (("training", train), ("validation", valid), ("test", test or [])):
        _describe(name, records)
    if state_of(settings.output).exists():
        note(f"going on with the training in {settings.output}")
    task, pretrained = _build(settings, train, given)
    rate = rate_of(settings, pretrained, task.encoder.config.hidden_size)
    history, seconds = train_task(
        settings, task, train, valid, rate, negatives=settings.negatives, save_every=settings.save_every
    )
    _report(settings, task, {"valid": valid, "test": test or []}, history, seconds)
    shutil.rmtree(state_of(settings.output))


def _read(path: Path, format: str, part: str) -> Records:
    return read_reading(path, format, split=part if path.is_dir() else None)


def _validation(settings: Settings, train: Records) -> tuple[Records, Records]:
    if settings.valid is not None:
        return train, _read(settings.valid, settings.format, "valid")
    kept, held = split_reading(train, 1 - HELD_OUT, settings.seed)
    if not kept or not held:
        note("no --valid, and too few articles to hold some out: training goes without validation")
        return train, []
    note(f"no --valid: {len(held):,} of {len(train):,} questions, whole articles, are held out (seed {settings.seed})")
    return kept, held


def _describe(name: str, records: Records) -> None:
    if not records:
        return
    passages = {passage for record in records for passage in record["passages"]}
    without = sum(not record["answers"] for record in records)
    more = f", {without:,} of them without answer" if without else ""
    note(f"{name}: {len(records):,} questions on {len(passages):,} passages{more}")


def _build(settings: Settings, train: Records, given: dict[str, Any]) -> tuple[Any, bool]:
    """The task, and whether its weights were pretrained."""
    total = settings.max_passage + settings.max_question + settings.max_answer
    start = begin_with(
        settings.model,
        settings.tokenizer,
        lambda: (text for record in train for text in (record["question"], *record["passages"], *record["answers"])),
        total,
    )
    if settings.slim and not start.pretrained:
        raise ConfigError("--slim leaves tokens out of a pretrained vocabulary; from random weights there is none.")
    task = METHODS[settings.method].from_pretrained(
        start.model,
        tokenizer=start.tokenizer,
        max_passage=settings.max_passage,
        max_question=settings.max_question,
        max_answer=settings.max_answer,
        stride=settings.stride,
        keep_tokens="simplified" if settings.slim else None,
        dtype=settings.dtype,
        seed=settings.seed,
        **given,
    )
    return task, start.pretrained


def _report(
    settings: Settings, task: Any, sets: dict[str, Records], history: dict[str, list[Any]], seconds: float
) -> None:
    scores = {name: task.evaluate(records) for name, records in sets.items() if records}
    metrics = {
        "kexue": kexue.__version__,
        "task": task.kind,
        **{name: score.as_dict() for name, score in scores.items()},
        "history": {name: [float(v) for v in values] for name, values in history.items()},
        "best_epoch": task.best_epoch,
        "seconds": seconds,
        "settings": settings.as_dict(),
    }
    write_json(settings.output / "metrics.json", metrics)
    for name, score in scores.items():
        typer.echo(f"\n{name}\n{score.table()}")
    record = next((record for records in sets.values() for record in records), None)
    question, passage = ("question", "passage") if record is None else (record["question"], record["passages"][0])
    note(f"\nSaved in {settings.output}. Ask with:")
    words = ["kexue", "read", str(settings.output), "-q", question, passage[:80]]
    typer.echo(shlex.join(words))
