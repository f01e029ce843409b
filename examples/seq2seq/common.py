"""What the scripts of this folder share: the arguments, the training, the scores."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import kexue  # noqa: F401  chooses the Keras backend before Keras is imported
from kexue.files import shipped
from kexue.models import Transformer
from kexue.tasks import Seq2Seq
from kexue.text import Tokenizer

Pair = dict[str, str]


class Data(NamedTuple):
    """Pairs ``{"source": str, "target": str}``."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]


def pairs_of(sides: Iterable[Sequence[str]]) -> list[Pair]:
    """Of tuples of two texts."""
    return [{"source": source, "target": target} for source, target in sides]


def trained(
    parts: Data,
    settings: Mapping[str, Any],
    model: str,
    output: Path,
    *,
    scratch: bool = False,
    dtype: str | None = "mixed_bfloat16",
    verbose: int | str = "auto",
) -> Seq2Seq:
    """The task in ``output``; trained first, or further after an interruption, where there is none yet."""
    if (output / "task.json").exists():
        return Seq2Seq.load(output)
    options = dict(settings)
    sizes = {name: options.pop(name) for name in ("max_source", "max_target")}
    if scratch:
        # The same network and tokenizer, random weights.
        config = Transformer.from_pretrained(shipped(model)).config
        task = Seq2Seq.from_pretrained(config, tokenizer=Tokenizer.from_pretrained(model), dtype=dtype, seed=0, **sizes)
    else:
        task = Seq2Seq.from_pretrained(model, dtype=dtype, **sizes)
    state = output.with_name(output.name + ".training")
    task.fit(parts.train, parts.valid, seed=0, resume=state, save_every=200, verbose=verbose, **options)
    task.save(output)
    return task
