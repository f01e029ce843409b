"""``kexue train conditional-lm``: fine-tune a writer of texts for labels or vectors."""

from pathlib import Path
from typing import Annotated

import typer

from kexue.cli._common import guarded, interruptible, start_keras
from kexue.cli._options import (
    BatchSize,
    Dtype,
    Epochs,
    LearningRate,
    Restart,
    Resume,
    SaveEvery,
    Seed,
    Test,
    TokenizerFile,
    Valid,
)

__all__ = ["EXAMPLE", "conditional_lm"]

EXAMPLE = (
    "Example: kexue train conditional-lm --data reviews.tsv --model zh-mini --segment 1 --output runs/reviews   then   "
    "kexue generate runs/reviews --label good --best 5 --guidance 2"
)


@guarded
def conditional_lm(
    *,
    data: Annotated[
        Path,
        typer.Option(
            help="JSON Lines of text and label (or condition, a list of numbers), or lines text TAB label (.gz and .xz "
            "too), archive.zip/member, or a folder with splits."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Folder of a checkpoint with an LM or MLM head, or zh-mini, which comes with kexue; or, for random "
            "initial weights, a configuration file (.json) or a built-in size: tiny, small, medium."
        ),
    ] = "zh-mini",
    valid: Valid = None,
    test: Test = None,
    format: Annotated[str, typer.Option(help="auto, jsonl or tsv.")] = "auto",
    labels: Annotated[
        str | None, typer.Option(help="Comma-separated labels; those of the training data by default.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the task.")] = Path("runs/conditional"),
    epochs: Epochs = 10,
    batch_size: BatchSize = 32,
    learning_rate: LearningRate = None,
    condition_dropout: Annotated[
        float, typer.Option(help="Share of the texts that are learned without their condition, which --guidance needs.")
    ] = 0.1,
    max_length: Annotated[int, typer.Option(min=3, help="Tokens of a row; longer texts are cut at punctuation.")] = 128,
    segment: Annotated[int, typer.Option(min=0, help="Segment of all tokens: 1 for zh-mini, 0 for BERT.")] = 0,
    save_every: SaveEvery = 200,
    tokenizer: TokenizerFile = None,
    dtype: Dtype = None,
    seed: Seed = 0,
    resume: Resume = True,
    restart: Restart = False,
) -> None:
    """Train a writer of texts for a label or a vector and save it as a folder for `kexue generate`."""
    start_keras()
    from kexue.cli._train_conditional import Settings, run

    settings = Settings(
        data=data,
        model=model,
        valid=valid,
        test=test,
        format=format,
        labels=None if labels is None else [label.strip() for label in labels.split(",") if label.strip()],
        output=output,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        condition_dropout=condition_dropout,
        max_length=max_length,
        segment=segment,
        save_every=save_every,
        tokenizer=tokenizer,
        dtype=dtype,
        seed=seed,
    )
    interruptible(run, settings, restart=restart or not resume)
