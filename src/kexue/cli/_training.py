"""What the ``kexue train`` commands share: the output folder, and which model to begin with."""

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kexue.cli._common import Options, note, write_json
from kexue.cli._scratch import SIZES, character_vocabulary, read_configuration, sized
from kexue.errors import ConfigError
from kexue.files import shipped
from kexue.models.config import TransformerConfig
from kexue.text import Tokenizer

__all__ = ["Start", "TrainOptions", "begin_with", "check_output", "rate_of", "remember", "state_of", "train_task"]

_STATE = ".training"  # in the output folder, while the training is under way
_TASK_FILE = "task.json"
_LARGE = 512  # hidden size from which a pretrained model is trained at BERT's usual rate
_LARGE_RATE, _SMALL_RATE = 2e-5, 1e-3


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """The options that all commands of ``kexue train`` have, see their help."""

    data: Path
    model: str
    valid: Path | None
    test: Path | None
    format: str
    output: Path
    epochs: int
    batch_size: int
    learning_rate: float | None
    tokenizer: Path | None
    dtype: str | None
    seed: int


class _Settings(Protocol):
    @property
    def output(self) -> Path: ...

    def as_dict(self) -> dict[str, Any]: ...


def state_of(output: Path) -> Path:
    """Where the state of a training that is under way lies."""
    return output / _STATE


def check_output(settings: _Settings, restart: bool) -> None:
    """Make way for a new training, go on with an interrupted one, or refuse to overwrite.

    Raises:
        ConfigError: the folder holds something else, a finished task, or a training with other settings.
    """
    output, state = settings.output, state_of(settings.output)
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


def _compare(state: Path, settings: _Settings) -> None:
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


def _fingerprint(settings: _Settings) -> dict[str, Any]:
    """What must stay the same; a file that was edited in between counts as another one."""
    values = {name: value for name, value in settings.as_dict().items() if name not in ("output", "test")}
    for name in ("data", "valid"):
        path = getattr(settings, name)
        if path is not None and path.is_file():
            values[f"{name}_bytes"] = path.stat().st_size
    return values


def remember(settings: _Settings) -> Path:
    """Note the settings of a training that begins; gives the folder of its state."""
    state = state_of(settings.output)
    state.mkdir(parents=True, exist_ok=True)
    write_json(state / "settings.json", _fingerprint(settings))
    return state


def rate_of(settings: TrainOptions, pretrained: bool, hidden_size: int) -> float:
    """The learning rate that is asked for, or that suits the model."""
    if settings.learning_rate is not None:
        return settings.learning_rate
    return _LARGE_RATE if pretrained and hidden_size >= _LARGE else _SMALL_RATE


def train_task(
    settings: TrainOptions, task: Any, train: Any, valid: Any, rate: float, **options: Any
) -> tuple[dict[str, list[Any]], float]:
    """Fit and save a task; what its ``fit`` returned, and the seconds it took. `state_of` is left for the caller to
    remove when all is written."""
    from kexue.cli._progress import TrainingProgress

    state = remember(settings)
    start = time.perf_counter()
    history = task.fit(
        train,
        valid or None,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=rate,
        seed=settings.seed,
        resume=state / "state",
        callbacks=[TrainingProgress()],
        verbose=0,
        **options,
    )
    seconds = time.perf_counter() - start
    task.save(settings.output)
    return history.history, seconds


@dataclass(frozen=True)
class Start:
    """What a task is made from.

    Attributes:
        model: a checkpoint's folder, or a configuration for random weights.
        tokenizer: None: the checkpoint's own.
    """

    model: Path | TransformerConfig
    tokenizer: Tokenizer | None

    @property
    def pretrained(self) -> bool:
        """Whether there are weights to begin with."""
        return isinstance(self.model, Path)


def begin_with(model: str, tokenizer: Path | None, texts: Callable[[], Iterable[str]], max_length: int) -> Start:
    """The checkpoint, configuration file or built-in size that ``--model`` names, with a tokenizer.

    Args:
        model: see the help of ``--model``.
        tokenizer: that of ``--tokenizer``.
        texts: those of the training data, whose characters are the vocabulary where there is no other.
        max_length: of a built-in size.

    Raises:
        ConfigError: there is no such model.
    """
    own = None if tokenizer is None else Tokenizer.from_pretrained(tokenizer)
    path = shipped(model)
    named = model in SIZES and not path.exists()
    if not named and path.suffix != ".json":
        if not path.exists() and not Path(f"{path}.index").exists():
            raise ConfigError(
                f"--model {path} does not exist. Expected a checkpoint folder, a configuration file, or one of the "
                f"sizes {', '.join(SIZES)}."
            )
        note(f"model: {path}")
        return Start(path, own)
    if own is None and not named and any((path.parent / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        own = Tokenizer.from_pretrained(path.parent)
        note(f"tokenizer: {path.parent}, {len(own):,} tokens")
    if own is None:
        own = character_vocabulary(texts())
        note(f"vocabulary: {len(own):,} tokens, the characters of the training data")
    config = sized(model, len(own), max_length) if named else read_configuration(path)
    config = config.replace(vocabulary_size=len(own))
    note(
        f"model: {model}, {config.num_layers} layers of {config.hidden_size}, RANDOM INITIAL WEIGHTS: "
        "nothing is pretrained. Give a checkpoint folder with --model for better scores"
    )
    return Start(config, own)
