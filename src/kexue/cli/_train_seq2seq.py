"""The run behind ``kexue train seq2seq``: read, build, fit, save, score."""

import shlex
import shutil
from dataclasses import dataclass
from typing import Any

import typer

import kexue
from kexue.cli._common import note, one_line, warn, write_json
from kexue.cli._data import hold_out, read_pairs_of
from kexue.cli._training import TrainOptions, begin_with, check_output, rate_of, state_of, train_task
from kexue.decoding import Greedy
from kexue.errors import ConfigError
from kexue.tasks import Seq2Seq
from kexue.text.scores import METRICS, score_texts

__all__ = ["Settings", "describe", "run"]

_SHOWN = 3

Pairs = list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Settings(TrainOptions):
    """The options of the command, see its help."""

    max_source: int
    max_target: int
    slim: bool
    save_every: int


def run(settings: Settings, *, restart: bool) -> None:
    """Train and save.

    Raises:
        KexueError: wrong data, model or settings.
    """
    check_output(settings, restart)
    train = read_pairs_of(settings.data, settings.format, "train")
    test = None if settings.test is None else read_pairs_of(settings.test, settings.format, "test")
    train, valid = _validation(settings, train)
    if state_of(settings.output).exists():
        note(f"going on with the training in {settings.output}")
    task, pretrained = _build(settings, train)
    for name, pairs in (("training", train), ("validation", valid), ("test", test or [])):
        describe(name, pairs, task)
    rate = rate_of(settings, pretrained, task.model.config.hidden_size)
    history, seconds = train_task(settings, task, train, valid, rate, save_every=settings.save_every)
    _report(settings, task, valid, test, history, seconds)
    shutil.rmtree(state_of(settings.output))


def _validation(settings: Settings, train: Pairs) -> tuple[Pairs, Pairs]:
    if settings.valid is not None:
        return train, read_pairs_of(settings.valid, settings.format, "valid")
    if len(train) < 2:
        note("no --valid, and one pair cannot be divided: training goes without validation")
        return train, []
    total = len(train)
    train, valid = hold_out(train, settings.seed)
    note(f"no --valid: {len(valid):,} of {total:,} pairs are held out for validation (seed {settings.seed})")
    return train, valid


def describe(name: str, pairs: Pairs, task: Seq2Seq) -> None:
    """How many pairs there are, and a warning for what is longer than the task takes."""
    if not pairs:
        return
    limits = {"source": task.max_source, "target": task.max_target}
    room = {"source": task.max_source - task.tokenizer.special_count(), "target": task.max_target - 1}
    note(f"{name}: {len(pairs):,} pairs")
    for side, most in limits.items():
        sizes = [len(pieces) for pieces in task.tokenizer.plain_pieces([pair[side] for pair in pairs])]
        cut = sum(size > room[side] for size in sizes)
        if cut:
            warn(
                f"{cut:,} of {len(pairs):,} {side}s of the {name} data are longer than --max-{side} {most} and lose "
                f"their end; the longest has {max(sizes):,} tokens"
            )


def _build(settings: Settings, train: Pairs) -> tuple[Seq2Seq, bool]:
    """The task, and whether its weights were pretrained."""
    start = begin_with(
        settings.model,
        settings.tokenizer,
        lambda: (text for pair in train for text in pair.values()),
        settings.max_source + settings.max_target,
    )
    if settings.slim and not start.pretrained:
        raise ConfigError("--slim leaves tokens out of a pretrained vocabulary; from random weights there is none.")
    task = Seq2Seq.from_pretrained(
        start.model,
        tokenizer=start.tokenizer,
        max_source=settings.max_source,
        max_target=settings.max_target,
        keep_tokens="simplified" if settings.slim else None,
        dtype=settings.dtype,
        seed=settings.seed,
    )
    return task, start.pretrained


def _report(
    settings: Settings,
    task: Seq2Seq,
    valid: Pairs,
    test: Pairs | None,
    history: dict[str, list[Any]],
    seconds: float,
) -> None:
    metrics = {
        "kexue": kexue.__version__,
        "history": {name: [float(v) for v in values] for name, values in history.items()},
        "best_epoch": task.best_epoch,
        "seconds": seconds,
        "settings": settings.as_dict(),
    }
    shown = (test or valid)[:_SHOWN]
    if test is not None:
        wanted: tuple[str, ...] = METRICS
        try:
            score_texts(["a"], ["a"])
        except ConfigError as error:
            warn(error)
            wanted = ()
        scores = task.evaluate(test, metrics=wanted)
        metrics["test"] = scores.as_dict()
        typer.echo(f"\ntest\n{scores.table()}")
        outputs = scores.outputs[:_SHOWN]
    else:
        outputs = task.predict([pair["source"] for pair in shown], Greedy())
    write_json(settings.output / "metrics.json", metrics)
    for pair, written in zip(shown, outputs, strict=True):
        note(f"\n{one_line(pair['source']):.120}\n  -> {one_line(written)}\n  ({one_line(pair['target'])})")
    sample = shown[0]["source"][:60] if shown else "text"
    note(f"\nSaved in {settings.output}. Go on with:")
    typer.echo(f"kexue generate {shlex.quote(str(settings.output))} {shlex.quote(sample)}")
