"""``kexue convert``: a checkpoint in another format."""

import math
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kexue.cli._common import guarded, note, start_keras, warn
from kexue.errors import CheckpointError, ConfigError

__all__ = ["EXAMPLE", "convert"]

EXAMPLE = "Example: kexue convert chinese_L-12_H-768_A-12/ bert-base-chinese/ --to hf"


class Target(StrEnum):
    """Formats that can be written."""

    hf = "hf"
    tf = "tf"
    kexue = "kexue"


@guarded
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Checkpoint folder, or a file of weights beside its configuration.")
    ],
    target: Annotated[Path, typer.Argument(metavar="DST", help="Folder to write.")],
    to: Annotated[
        Target, typer.Option(help="hf: for transformers; tf: Google's layout; kexue: config.json + model.safetensors.")
    ],
    family: Annotated[
        str | None, typer.Option(help="Such as bert, roformer or gpt2, where the checkpoint does not say.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Write a checkpoint in another format, with its tokenizer and all heads it has."""
    _check_target(source, target, force)
    start_keras()
    from kexue.checkpoints import open_checkpoint
    from kexue.cli._checkpoints import configuration, heads_in, tokenizer_in
    from kexue.models import Transformer
    from kexue.models.loading import read_config
    from kexue.models.weights import named_weights

    data, _ = read_config(source)
    with open_checkpoint(source) as checkpoint:
        config, chosen, own = configuration(data, checkpoint.names(), family)
        layout = "tf" if checkpoint.format == "tf" else "hf"
        heads = heads_in(config, chosen, checkpoint.names(), layout, own)
    tokenizer = tokenizer_in(source if source.is_dir() else source.parent)
    model = Transformer.from_pretrained(source, head=heads, family=family)
    model.save_pretrained(target, to.value, tokenizer=tokenizer)
    if (source / "head.safetensors").is_file():
        warn(f"{source} is a trained task; its encoder was converted, its task head has no place in this format.")
    elif (source / "task.json").is_file():
        warn(f"{source} is a trained task; its model was converted, its task.json has no place in this format.")
    if tokenizer is None:
        warn(f"{source} has no tokenizer that kexue reads; only the weights were converted.")
    elif tokenizer.vocabulary_size > model.config.vocabulary_size:
        warn(
            f"the tokenizer has {tokenizer.vocabulary_size} tokens, the model {model.config.vocabulary_size}: "
            "some ids would be out of range."
        )
    parameters = sum(math.prod(weight.shape) for weight in named_weights(model).values())
    note(
        f"Wrote {target} ({to.value}, family {model.config.family}): {parameters:,} parameters, "
        f"encoder{''.join(f' + {head}' for head in heads)}"
        + ("" if tokenizer is None else f", tokenizer of {tokenizer.vocabulary_size:,} tokens")
    )
    for file in sorted(target.iterdir()):
        if file.is_file():
            typer.echo(f"{file}\t{file.stat().st_size:,} bytes")


def _check_target(source: Path, target: Path, force: bool) -> None:
    """The source must exist and must not be written over; a folder with something in it needs ``--force``."""
    folder = source if source.is_dir() else source.parent
    if not source.exists() and not Path(f"{source}.index").exists():
        raise CheckpointError(f"{source} does not exist. Give a checkpoint folder or a file of weights.")
    if target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file; DST must be a folder.")
    if target.is_dir():
        if os.path.samefile(folder, target):
            raise ConfigError("SRC and DST are the same folder. Write into another one.")
        if any(target.iterdir()) and not force:
            raise ConfigError(f"{target} is not empty. Choose another folder, or add --force to write into it.")
