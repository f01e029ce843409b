"""``kexue train reader``: fine-tune a reader of passages."""

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
    Test,
    TokenizerFile,
)

__all__ = ["EXAMPLE", "reader"]

EXAMPLE = (
    "Example: kexue train reader --data train.json --format squad --model zh-mini --output runs/reader   then   "
    'kexue read runs/reader -q "question" "passage"'
)


@guarded
def reader(
    *,
    data: Annotated[
        Path,
        typer.Option(
            help="Questions with passages and answers: a file (.gz and .xz too), archive.zip/member, or a folder with "
            "splits."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="Checkpoint folder (with an MLM head for --method write), or zh-mini, which comes with kexue; or, for "
            "random initial weights, a configuration file (.json) or a built-in size: tiny, small, medium."
        ),
    ] = "zh-mini",
    method: Annotated[
        str, typer.Option(help="write: answers token by token, passages vote; point: spans are scored.")
    ] = "write",
    valid: Annotated[
        Path | None,
        typer.Option(help="Validation data, which picks the best epoch; a tenth of the articles of --data by default."),
    ] = None,
    test: Test = None,
    format: Annotated[str, typer.Option(help="auto, jsonl, squad, cmrc, webqa or sogouqa.")] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the trained task.")] = Path("runs/reader"),
    epochs: Epochs = 8,
    batch_size: BatchSize = 16,
    learning_rate: LearningRate = None,
    negatives: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Probability of a window without the answer where there are both kinds; as they come by default.",
            show_default=False,
        ),
    ] = None,
    max_passage: Annotated[int, typer.Option(min=4, help="Tokens of a window; longer passages get several.")] = 256,
    max_question: Annotated[int, typer.Option(min=2, help="Most tokens of a question.")] = 64,
    max_answer: Annotated[int, typer.Option(min=2, help="Most tokens of an answer.")] = 32,
    stride: Annotated[int | None, typer.Option(help="Tokens from a window to the next.", show_default=False)] = None,
    mode: Annotated[
        str | None, typer.Option(help="write: extractive (default) or generative.", show_default=False)
    ] = None,
    vote: Annotated[
        str | None,
        typer.Option(help="write: confidence (default), mean, log_mean or product.", show_default=False),
    ] = None,
    separators: Annotated[
        str | None,
        typer.Option(
            help="write: characters read as commas, blanks among them by default; '' for languages with blanks between "
            "words.",
            show_default=False,
        ),
    ] = None,
    slim: Slim = False,
    save_every: SaveEvery = 200,
    tokenizer: TokenizerFile = None,
    dtype: Dtype = None,
    seed: Seed = 0,
    resume: Resume = True,
    restart: Restart = False,
) -> None:
    """Train a reader of passages and save it as a folder for `kexue read` and `kexue evaluate`."""
    start_keras()
    from kexue.cli._train_reader import Settings, run

    settings = Settings(
        data=data,
        model=model,
        method=method,
        valid=valid,
        test=test,
        format=format,
        output=output,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        negatives=negatives,
        max_passage=max_passage,
        max_question=max_question,
        max_answer=max_answer,
        stride=stride,
        mode=mode,
        vote=vote,
        separators=separators,
        slim=slim,
        save_every=save_every,
        tokenizer=tokenizer,
        dtype=dtype,
        seed=seed,
    )
    interruptible(run, settings, restart=restart or not resume)
