"""The run behind ``kexue train conditional-lm``: read, build, fit, save, score."""

import shlex
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import kexue
from kexue.cli._common import note, one_line, write_json
from kexue.cli._data import hold_out
from kexue.cli._training import TrainOptions, begin_with, check_output, rate_of, state_of, train_task
from kexue.errors import ConfigError, DataError
from kexue.tasks import ConditionalLM
from kexue.text.data.labelled import read_labelled_texts

__all__ = ["Settings", "run"]


Records = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Settings(TrainOptions):
    """The options of the command, see its help."""

    labels: list[str] | None
    condition_dropout: float
    max_length: int
    segment: int
    save_every: int


def run(settings: Settings, *, restart: bool) -> None:
    """Train and save.

    Raises:
        KexueError: wrong data, model or settings.
    """
    check_output(settings, restart)
    sets = {"train": _read(settings, settings.data, "train")}
    for name, path in (("valid", settings.valid), ("test", settings.test)):
        if path is not None:
            sets[name] = _read(settings, path, name)
    key = _key(sets)
    options = _options(settings, sets["train"], key)
    if "valid" not in sets and len(sets["train"]) > 1:
        total = len(sets["train"])
        sets["train"], sets["valid"] = hold_out(sets["train"], settings.seed)
        note(
            f"no --valid: {len(sets['valid']):,} of {total:,} texts are held out for validation (seed {settings.seed})"
        )
    if state_of(settings.output).exists():
        note(f"going on with the training in {settings.output}")
    texts = [record["text"] for record in sets["train"]]
    start = begin_with(settings.model, settings.tokenizer, lambda: texts, settings.max_length)
    task = ConditionalLM.from_pretrained(
        start.model,
        tokenizer=start.tokenizer,
        max_length=settings.max_length,
        segment=settings.segment,
        dtype=settings.dtype,
        seed=settings.seed,
        **options,
    )
    for name, records in sets.items():
        task.source.read([record[key] for record in records], f"{name} text")
    rate = rate_of(settings, start.pretrained, task.model.config.hidden_size)
    history, seconds = train_task(
        settings,
        task,
        sets["train"],
        sets.get("valid"),
        rate,
        condition_dropout=settings.condition_dropout,
        save_every=settings.save_every,
    )
    scores = {name: task.evaluate(records) for name, records in sets.items() if name != "train"}
    metrics = {"kexue": kexue.__version__, **scores, "history": history, "best_epoch": task.best_epoch}
    write_json(settings.output / "metrics.json", metrics | {"seconds": seconds, "settings": settings.as_dict()})
    for name, row in scores.items():
        typer.echo(f"{name}  " + "  ".join(f"{measure} {value:.4g}" for measure, value in row.items()))
    _show(settings, task)
    shutil.rmtree(state_of(settings.output))


def _read(settings: Settings, path: Path, part: str) -> Records:
    records = read_labelled_texts(path, settings.format, split=part if path.is_dir() else None)
    known = Counter(str(record["label"]) for record in records if record.get("label") is not None)
    classes = f" of {len(known)} labels" if known else ""
    note(f"{part}: {len(records):,} texts{classes}")
    return records


def _key(sets: dict[str, Records]) -> str:
    """``"label"`` or ``"condition"``, the same in all data."""
    keys = {key for records in sets.values() for record in records for key in record if key != "text"}
    if len(keys) > 1:
        raise DataError("some texts have a label and others a condition; a model is conditioned on one kind.")
    return keys.pop()


def _options(settings: Settings, train: Records, key: str) -> dict[str, Any]:
    """What the model is conditioned on."""
    if key == "condition":
        if settings.labels is not None:
            raise ConfigError("--labels: the data has conditions, not labels.")
        size = next((len(record[key]) for record in train if record[key] is not None), None)
        if size is None:
            raise DataError("no text has a condition.")
        return {"condition_size": size}
    labels = settings.labels or sorted({record[key] for record in train if record[key] is not None})
    if not labels:
        raise DataError("no text has a label.")
    note(f"labels: {', '.join(labels)}")
    return {"labels": labels}


def _show(settings: Settings, task: ConditionalLM) -> None:
    folder = shlex.quote(str(settings.output))
    if task.labels is None:
        note(f"\nSaved in {settings.output}. Go on with:")
        typer.echo(f"kexue generate {folder} --condition '{[0.0] * task.source.size}'")
        return
    for label, text in zip(task.labels, task.predict(list(task.labels)), strict=True):
        note(f"{label}: {one_line(text)}")
    note(f"\nSaved in {settings.output}. Go on with:")
    typer.echo(f"kexue generate {folder} --label {shlex.quote(task.labels[0])} --best 3 --guidance 2")
