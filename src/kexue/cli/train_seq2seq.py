"""``kexue train seq2seq``: fine-tune a writer of texts from texts."""

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
    Slim,
    TokenizerFile,
    Valid,
)

__all__ = ["EXAMPLE", "seq2seq"]

EXAMPLE = (
    "Example: kexue train seq2seq --data pairs.jsonl --model zh-mini --output runs/titles   then   "
    "kexue generate runs/titles - < texts.txt"
)


@guarded
def seq2seq(
    *,
    data: Annotated[
        Path,
        typer.Option(
            help="Pairs: JSON Lines of source and target, or lines source TAB target (.gz and .xz too), "
            "archive.zip/member, or a folder with splits."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Folder of a checkpoint with an MLM head, or zh-mini, which comes with kexue; or, for random initial "
            "weights, a configuration file (.json) or a built-in size: tiny, small, medium."
        ),
    ] = "zh-mini",
    valid: Valid = None,
    test: Annotated[
        Path | None, typer.Option(help="Test data: BLEU, chrF and ROUGE at the end (the extra 'metrics').")
    ] = None,
    format: Annotated[str, typer.Option(help="auto, jsonl, tsv or csl.")] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the trained task.")] = Path("runs/seq2seq"),
    epochs: Epochs = 10,
    batch_size: BatchSize = 16,
    learning_rate: LearningRate = None,
    max_source: Annotated[int, typer.Option(min=4, help="Most tokens of a source; longer ones lose their end.")] = 256,
    max_target: Annotated[int, typer.Option(min=2, help="Most tokens of a target.")] = 64,
    slim: Slim = False,
    save_every: SaveEvery = 200,
    tokenizer: TokenizerFile = None,
    dtype: Dtype = None,
    seed: Seed = 0,
    resume: Resume = True,
    restart: Restart = False,
) -> None:
    """Train a writer of texts from texts and save it as a folder for `kexue generate` and `kexue evaluate`."""
    start_keras()
    from kexue.cli._train_seq2seq import Settings, run

    settings = Settings(
        data=data,
        model=model,
        valid=valid,
        test=test,
        format=format,
        output=output,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_source=max_source,
        max_target=max_target,
        slim=slim,
        save_every=save_every,
        tokenizer=tokenizer,
        dtype=dtype,
        seed=seed,
    )
    interruptible(run, settings, restart=restart or not resume)
