"""The run behind ``kexue train ner``: read, build, fit, save, score."""

import json
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import kexue
from kexue.cli._common import Options, dumps, note, write_json
from kexue.cli._data import check_conditions, hold_out, labels_of, read_labelled
from kexue.cli._scratch import SIZES, character_vocabulary, read_configuration, sized
from kexue.errors import ConfigError
from kexue.files import shipped
from kexue.tasks import NER
from kexue.text import Tokenizer, statistics

__all__ = ["Settings", "run"]

PRETRAINED_RATE, RANDOM_RATE = 2e-5, 5e-4
_STATE = ".training"  # in the output folder, while the training is under way
_TASK_FILE = "task.json"

Examples = list[dict[str, Any]]


@dataclass(frozen=True)
class Settings(Options):
    """The options of the command, see its help."""

    data: Path
    model: str
    valid: Path | None
    test: Path | None
    format: str
    labels: list[str] | None
    head: str
    output: Path
    epochs: int
    batch_size: int
    learning_rate: float | None
    head_learning_rate: float | None
    layer_decay: float
    max_length: int
    stride: int | None
    flat: bool | None
    scheme: str
    rotary: bool
    condition_size: int | None
    tokenizer: Path | None
    dtype: str | None
    seed: int


def run(settings: Settings, *, restart: bool) -> None:
    """Train and save.

    Raises:
        KexueError: wrong data, model or settings.
    """
    _check_output(settings, restart)
    labels = settings.labels
    train = read_labelled(settings.data, settings.format, "train", labels)
    labels = labels or labels_of(train)
    test = None if settings.test is None else read_labelled(settings.test, settings.format, "test", labels)
    everything = train
    train, valid = _validation(settings, train, labels)
    _describe("training", train)
    _describe("validation", valid)
    note(f"labels: {', '.join(labels)}")

    state = settings.output / _STATE
    if state.exists():
        note(f"going on with the training in {settings.output}")
    task, pretrained = _build(settings, train, labels)
    check_conditions(everything, task.condition_size, settings.data)
    for path, examples in ((settings.valid, valid), (settings.test, test)):
        if path is not None:
            check_conditions(examples or [], task.condition_size, path)
    _remember(state, settings)
    rate = settings.learning_rate or (PRETRAINED_RATE if pretrained else RANDOM_RATE)

    from kexue.cli._progress import TrainingProgress

    start = time.perf_counter()
    history = task.fit(
        train,
        valid or None,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=rate,
        head_learning_rate=settings.head_learning_rate,
        layer_decay=settings.layer_decay,
        seed=settings.seed,
        resume=state / "state",
        callbacks=[TrainingProgress()],
        verbose=0,
    )
    seconds = time.perf_counter() - start
    task.save(settings.output)
    sets = {name: data for name, data in (("valid", valid), ("test", test)) if data}
    _report(settings, task, sets, history.history, seconds)
    shutil.rmtree(state)


def _check_output(settings: Settings, restart: bool) -> None:
    """Make way for a new training, go on with an interrupted one, or refuse to overwrite."""
    output, state = settings.output, settings.output / _STATE
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; a folder is needed.")
    finished = (output / _TASK_FILE).is_file()
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not finished and not state.exists():
        raise ConfigError(f"--output {output} is not empty and holds no training. Choose another folder.")
    if restart:
        shutil.rmtree(state, ignore_errors=True)
    elif not state.exists():
        raise ConfigError(f"--output {output} holds a finished task. Choose another folder, or add --restart.")
    else:
        _compare(state, settings)


def _compare(state: Path, settings: Settings) -> None:
    """An interrupted training can only go on with the settings it began with."""
    try:
        before = json.loads((state / "settings.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return  # killed before it was written: nothing has been trained
    except ValueError as error:
        raise ConfigError(f"{state / 'settings.json'} is broken ({error}). Add --restart to begin anew.") from None
    now = _fingerprint(settings)
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        what = "; ".join(f"{name} was {before.get(name)!r}, now {now[name]!r}" for name in changed)
        raise ConfigError(
            f"{settings.output} holds an interrupted training with other settings ({what}). "
            "Repeat its command to go on with it, or add --restart to begin anew."
        )


def _fingerprint(settings: Settings) -> dict[str, Any]:
    """What must stay the same; a file that was edited in between counts as another one."""
    values = {name: value for name, value in settings.as_dict().items() if name not in ("output", "test")}
    for name in ("data", "valid"):
        path = getattr(settings, name)
        if path is not None and path.is_file():
            values[f"{name}_bytes"] = path.stat().st_size
    return values


def _remember(state: Path, settings: Settings) -> None:
    state.mkdir(parents=True, exist_ok=True)
    write_json(state / "settings.json", _fingerprint(settings))


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
    tokenizer = None if settings.tokenizer is None else Tokenizer.from_pretrained(settings.tokenizer)
    path = shipped(settings.model)
    named = settings.model in SIZES and not path.exists()
    if not named and path.suffix != ".json":
        if not path.exists() and not Path(f"{path}.index").exists():
            raise ConfigError(
                f"--model {path} does not exist. Expected a checkpoint folder, a configuration file, or one of the "
                f"sizes {', '.join(SIZES)}."
            )
        note(f"model: {path}")
        return NER.from_pretrained(path, labels, tokenizer=tokenizer, **options), True

    if (
        tokenizer is None
        and not named
        and any((path.parent / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    ):
        tokenizer = Tokenizer.from_pretrained(path.parent)
        note(f"tokenizer: {path.parent}, {len(tokenizer):,} tokens")
    if tokenizer is None:
        tokenizer = character_vocabulary(example["text"] for example in train)
        note(f"vocabulary: {len(tokenizer):,} tokens, the characters of the training data")
    if named:
        config = sized(settings.model, len(tokenizer), settings.max_length)
    else:
        config = read_configuration(path).replace(vocabulary_size=len(tokenizer))
    note(
        f"model: {settings.model}, {config.num_layers} layers of {config.hidden_size}, RANDOM INITIAL WEIGHTS: "
        "nothing is pretrained. Give a checkpoint folder with --model for better scores"
    )
    return NER.from_pretrained(config, labels, tokenizer=tokenizer, **options), False


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
