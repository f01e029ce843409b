"""The run behind ``kexue pretrain``: vocabulary, shards, training, checkpoint, figures."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

import kexue
from kexue.cli._common import Options, note, write_json
from kexue.cli._scratch import SIZES, read_configuration, sized
from kexue.errors import ConfigError
from kexue.files import folder_lock, shipped
from kexue.tasks import Pretrainer
from kexue.tasks.pretraining.objectives import parse
from kexue.text import Tokenizer
from kexue.text.corpus import Shards, build_shards, open_shards, read_corpus, train_vocabulary
from kexue.text.corpus.readers import corpus_files
from kexue.training import AdamW, Lamb, PiecewiseLinear, WarmupStableDecay
from kexue.training.distribution import Distribution, distribute, wait_for_all

__all__ = ["Settings", "run"]

_RESULT = "pretraining.json"


@dataclass(frozen=True)
class Settings(Options):
    """The options of the command, see its help."""

    corpus: list[str]
    output: Path
    model: str
    tokenizer: Path | None
    vocabulary_size: int
    objective: str
    steps: int
    length: int
    batch_size: int
    accumulation: int
    learning_rate: float
    warmup: float
    weight_decay: float
    optimizer: str
    schedule: str | None
    ema: float | None
    noise_scale: bool
    tensorboard: bool
    dropout: float | None
    words: str | None
    holdout: float
    valid_every: int | None
    save_every: int
    log_every: int
    dtype: str | None
    seed: int
    processes: int
    devices: str | None
    hosts: str | None
    process: int | None


def run(settings: Settings, *, restart: bool) -> None:
    """Pretrain and save.

    Raises:
        KexueError: wrong corpora, model or settings.
    """
    output = settings.output
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; a folder is needed.")
    with folder_lock(output) if not settings.process else nullcontext():
        _run(settings, restart=restart)


def _run(settings: Settings, *, restart: bool) -> None:
    output = settings.output
    if restart:
        (output / _RESULT).unlink(missing_ok=True)  # or a restart that was interrupted would pass for finished
        for name in ("shards", "vocabulary", "state"):
            shutil.rmtree(output / name, ignore_errors=True)
    elif (output / _RESULT).is_file():
        raise ConfigError(f"--output {output} holds a finished run. Choose another folder, or add --restart.")
    corpora = _corpora(settings.corpus)
    distribution = distribute(settings.devices, hosts=settings.hosts, process=settings.process)
    first = distribution.process == 0
    # Mistakes are told before the corpora are read, which takes minutes.
    _check_model(settings)
    parse(settings.objective)
    optimizer = _optimizer(settings)
    callbacks = _callbacks(settings) if first else []
    if first:
        tokenizer = _tokenizer(settings, corpora)
        shards = _shards(settings, corpora, tokenizer)
        _describe(shards)
    wait_for_all(distribution, "shards")
    if not first:
        tokenizer, shards = _tokenizer(settings, corpora), open_shards(output / "shards")
    trainer = _trainer(settings, tokenizer, distribution)

    if (output / "state" / "state.json").is_file():
        note(f"going on with the run in {output}")
    history = trainer.fit(
        shards,
        steps=settings.steps,
        batch_size=settings.batch_size,
        accumulation=settings.accumulation,
        optimizer=optimizer,
        ema=settings.ema,
        noise_scale=settings.noise_scale,
        valid_every=settings.valid_every,
        folder=output,
        save_every=settings.save_every,
        log_every=settings.log_every,
        seed=settings.seed,
        callbacks=callbacks,
        verbose=0,
    )
    scores = trainer.evaluate(shards, batch_size=settings.batch_size)
    if not first:
        return
    trainer.save(output)
    result = {
        "kexue": kexue.__version__,
        "settings": settings.as_dict(),
        "corpora": {name: {split: shards.counts(name, split) for split in ("train", "valid")} for name in shards.names},
        "held_out": scores,
        "history": history.history,
    }
    write_json(output / _RESULT, result)
    for name, row in scores.items():
        figures = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if not key.endswith("_loss"))
        typer.echo(f"{name}  {figures}")
    note(f"Saved in {output}. Load it with kexue.models.Transformer.from_pretrained({str(output)!r})")


def _corpora(given: list[str]) -> dict[str, Path]:
    """``NAME=PATH``, or the file's name without its endings."""
    corpora: dict[str, Path] = {}
    for item in given:
        name, mark, path = item.partition("=")
        if not mark:
            name, path = Path(item.rstrip("/")).name.split(".")[0], item
        if not name or name in corpora:
            raise ConfigError(f"--corpus {item}: each corpus needs a name of its own. Write NAME=PATH.")
        corpus_files(path)
        corpora[name] = Path(path)
    return corpora


def _tokenizer(settings: Settings, corpora: dict[str, Path]) -> Tokenizer:
    if settings.tokenizer is not None:
        return Tokenizer.from_pretrained(settings.tokenizer)
    path = shipped(settings.model)
    if path.is_dir():
        return Tokenizer.from_pretrained(path)
    folder = settings.output / "vocabulary"
    record = folder / "settings.json"
    wanted = {"vocabulary_size": settings.vocabulary_size}
    if not (folder / "vocab.txt").is_file():
        note("training a vocabulary on the corpora")
        texts = (text for path in corpora.values() for document in read_corpus(path) for text in document)
        train_vocabulary(texts, settings.vocabulary_size).save(folder)
        write_json(record, wanted)
    elif record.is_file() and (found := json.loads(record.read_text(encoding="utf-8"))) != wanted:
        raise ConfigError(
            f"{folder} was made with --vocabulary-size {found.get('vocabulary_size')}. Received: "
            f"{settings.vocabulary_size}. Give that size, another --output, or --restart."
        )
    tokenizer = Tokenizer.from_pretrained(folder)
    note(f"vocabulary: {len(tokenizer):,} tokens")
    return tokenizer


def _optimizer(settings: Settings) -> Any:
    if settings.optimizer not in ("adamw", "lamb"):
        raise ConfigError(f"--optimizer must be adamw or lamb. Received: {settings.optimizer!r}")
    make: Any = AdamW if settings.optimizer == "adamw" else Lamb
    return make(
        _schedule(settings),
        weight_decay=settings.weight_decay,
        global_clipnorm=1.0,
        gradient_accumulation_steps=settings.accumulation if settings.accumulation > 1 else None,
    )


def _schedule(settings: Settings) -> Any:
    """The rate by the number of the update."""
    peak, total, name = settings.learning_rate, settings.steps, settings.schedule or "linear"
    warmup: int | float = settings.warmup if settings.warmup < 1 else int(settings.warmup)
    falls: dict[str, dict[str, Any]] = {
        "linear": {"decay": 1.0},
        "cosine": {"decay": 1.0, "shape": "cosine"},
        "constant": {"decay": 0},
        "wsd": {"decay": 0.2},
    }
    if name in falls:
        return WarmupStableDecay(peak, total, warmup, **falls[name])
    try:
        knots = {int(step): float(factor) for step, factor in (item.split(":") for item in name.split(","))}
    except ValueError:
        raise ConfigError(
            f"--schedule must be {', '.join(falls)} or pairs such as 1000:1,20000:0.1. Received: {name!r}"
        ) from None
    return PiecewiseLinear(knots, peak)


def _callbacks(settings: Settings) -> list[Any]:
    import keras

    from kexue.cli._progress import TrainingProgress

    callbacks: list[Any] = [TrainingProgress()]
    if settings.tensorboard:
        # Keras itself notices at the end of the first epoch only.
        lacking = [name for name in ("tensorflow", "tensorboard") if find_spec(name) is None]
        if lacking:
            raise ConfigError(
                f"--tensorboard needs the package {' and '.join(lacking)}. Install it, or leave the option out and "
                "read log.csv."
            )
        callbacks.append(keras.callbacks.TensorBoard(settings.output / "tensorboard"))
    return callbacks


def _shards(settings: Settings, corpora: dict[str, Path], tokenizer: Tokenizer) -> Shards:
    return build_shards(
        corpora,
        tokenizer,
        settings.output / "shards",
        holdout=settings.holdout,  # the same documents whatever the seed of the training
        words=settings.words,
        processes=settings.processes,
    )


def _check_model(settings: Settings) -> None:
    if settings.model not in SIZES and not shipped(settings.model).exists():
        raise ConfigError(
            f"--model {settings.model} does not exist. Expected a checkpoint folder, a configuration file, or one of "
            f"the sizes {', '.join(SIZES)}."
        )


def _trainer(settings: Settings, tokenizer: Tokenizer, distribution: Distribution) -> Pretrainer:
    path = shipped(settings.model)
    model: Any = path
    if settings.model in SIZES and not path.exists():
        model = sized(settings.model, len(tokenizer), settings.length)
    elif path.suffix == ".json":
        model = read_configuration(path).replace(vocabulary_size=len(tokenizer))
    trainer = Pretrainer(
        model,
        tokenizer,
        objective=settings.objective,
        length=settings.length,
        dtype=settings.dtype,
        seed=settings.seed,
        dropout=settings.dropout,
        distribution=distribution,
    )
    config = trainer.model.config
    note(
        f"model: {config.family}, {config.num_layers} layers of {config.hidden_size}, "
        f"{trainer.model.count_params():,} parameters, objective {settings.objective}"
    )
    return trainer


def _describe(shards: Shards) -> None:
    for name in shards.names:
        train, valid = shards.counts(name), shards.counts(name, "valid")
        note(
            f"{name}: {train['documents']:,} documents, {train['tokens']:,} tokens "
            f"({train['unknown'] / max(train['tokens'], 1):.2%} unknown), {valid['documents']:,} held out"
        )
