"""``kexue train ner``: fine-tune an entity recogniser."""

from pathlib import Path
from typing import Annotated

import typer

from kexue.cli._common import guarded, interruptible, start_keras
from kexue.cli._options import BatchSize, Dtype, Epochs, Restart, Resume, Seed, Test, TokenizerFile, Valid

__all__ = ["EXAMPLE", "ner"]

EXAMPLE = (
    "Examples: kexue train ner --data train.jsonl --valid dev.jsonl --model bert-base-chinese/ --output runs/ner   "
    "or without any checkpoint   kexue train ner --data train.bio --model small --epochs 20"
)


@guarded
def ner(
    *,
    data: Annotated[
        Path,
        typer.Option(help="Training data: a file (.gz and .xz too), archive.zip/member, or a folder with splits."),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Checkpoint folder, or zh-mini, which comes with kexue; or, for random initial weights, a "
            "configuration file (.json) or a built-in size: tiny, small, medium."
        ),
    ] = "small",
    valid: Valid = None,
    test: Test = None,
    format: Annotated[
        str, typer.Option(help="auto, jsonl, cluener, cmeee, bio, iob1, bioes, bmes or germeval.")
    ] = "auto",
    labels: Annotated[
        str | None, typer.Option(help="Comma-separated labels; those of the training data by default.")
    ] = None,
    head: Annotated[
        str, typer.Option(help="global_pointer, efficient_global_pointer, crf or softmax.")
    ] = "global_pointer",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the trained task.")] = Path("runs/ner"),
    epochs: Epochs = 10,
    batch_size: BatchSize = 16,
    learning_rate: Annotated[
        float | None, typer.Option(help="2e-5 by default, 5e-4 from random weights.", show_default=False)
    ] = None,
    head_learning_rate: Annotated[
        float | None, typer.Option(help="Of the head; chosen to suit it by default.", show_default=False)
    ] = None,
    layer_decay: Annotated[
        float, typer.Option(help="Factor of the learning rate from a layer to the one below.")
    ] = 1.0,
    max_length: Annotated[int, typer.Option(min=4, help="Tokens of a window; longer texts get several.")] = 256,
    stride: Annotated[int | None, typer.Option(help="Tokens from a window to the next.", show_default=False)] = None,
    flat: Annotated[
        bool | None, typer.Option("--flat/--nested", help="No overlapping entities.", show_default=False)
    ] = None,
    scheme: Annotated[str, typer.Option(help="Tags of the crf and softmax heads: bio, bioes, bmes.")] = "bio",
    rotary: Annotated[
        bool, typer.Option("--rotary/--no-rotary", help="Relative positions in the pointer heads.")
    ] = True,
    condition_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Length of the `condition`, a list of numbers that every record of the data then has (JSON Lines); "
            "it conditions all norms of the model. By default as the model has it, mostly none.",
            show_default=False,
        ),
    ] = None,
    tokenizer: TokenizerFile = None,
    dtype: Dtype = None,
    seed: Seed = 0,
    resume: Resume = True,
    restart: Restart = False,
) -> None:
    """Train an entity recogniser and save it as a folder for `kexue predict` and `kexue evaluate`."""
    start_keras()
    from kexue.cli._train_ner import Settings, run

    settings = Settings(
        data=data,
        model=model,
        valid=valid,
        test=test,
        format=format,
        labels=None if labels is None else [label.strip() for label in labels.split(",") if label.strip()],
        head=head,
        output=output,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        layer_decay=layer_decay,
        max_length=max_length,
        stride=stride,
        flat=flat,
        scheme=scheme,
        rotary=rotary,
        condition_size=condition_size,
        tokenizer=tokenizer,
        dtype=dtype,
        seed=seed,
    )
    interruptible(run, settings, restart=restart or not resume, place="after the last finished epoch")
