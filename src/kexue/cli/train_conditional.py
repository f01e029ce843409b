"""``kexue train conditional-lm``: fine-tune a writer of texts for labels or vectors."""

from pathlib import Path
from typing import Annotated

import typer

from kexue.cli._common import die, guarded, start_keras

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
    valid: Annotated[
        Path | None, typer.Option(help="Validation data, which picks the best epoch; a tenth of --data by default.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Test data, scored at the end.")] = None,
    format: Annotated[str, typer.Option(help="auto, jsonl or tsv.")] = "auto",
    labels: Annotated[
        str | None, typer.Option(help="Comma-separated labels; those of the training data by default.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the task.")] = Path("runs/conditional"),
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="2e-5 by default, 1e-3 for hidden sizes below 512 (as zh-mini) and random weights.",
            show_default=False,
        ),
    ] = None,
    condition_dropout: Annotated[
        float, typer.Option(help="Share of the texts that are learned without their condition, which --guidance needs.")
    ] = 0.1,
    max_length: Annotated[int, typer.Option(min=3, help="Tokens of a row; longer texts are cut at punctuation.")] = 128,
    segment: Annotated[int, typer.Option(min=0, help="Segment of all tokens: 1 for zh-mini, 0 for BERT.")] = 0,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saved states, beside those of epochs.")] = 200,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer", "--vocab", help="tokenizer.json, vocab.txt or their folder, instead of the model's."
        ),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Keras policy such as mixed_bfloat16.", show_default=False)] = None,
    seed: Annotated[int, typer.Option()] = 0,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with an interrupted training in the same --output.")
    ] = True,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, whatever is in --output; a finished task is replaced.")
    ] = False,
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
    try:
        run(settings, restart=restart or not resume)
    except KeyboardInterrupt:
        die("interrupted. The same command goes on where the state was last saved; --restart begins anew.", 130)
