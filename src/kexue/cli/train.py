"""``kexue train``: fine-tune a model on labelled data."""

from pathlib import Path
from typing import Annotated

import typer

from kexue.cli import train_conditional
from kexue.cli._common import die, guarded, start_keras

__all__ = ["app"]

app = typer.Typer(name="train", help="Train a task on labelled data.", no_args_is_help=True)

EXAMPLE = (
    "Examples: kexue train ner --data train.jsonl --valid dev.jsonl --model bert-base-chinese/ --output runs/ner   "
    "or without any checkpoint   kexue train ner --data train.bio --model small --epochs 20"
)


SEQ2SEQ_EXAMPLE = (
    "Example: kexue train seq2seq --data pairs.jsonl --model zh-mini --output runs/titles   then   "
    "kexue generate runs/titles - < texts.txt"
)

READER_EXAMPLE = (
    "Example: kexue train reader --data train.json --format squad --model zh-mini --output runs/reader   then   "
    'kexue read runs/reader -q "question" "passage"'
)


@app.callback()
def _group() -> None:
    """Train a task on labelled data."""


@app.command("ner", epilog=EXAMPLE)
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
    valid: Annotated[
        Path | None, typer.Option(help="Validation data, which picks the best epoch; a tenth of --data by default.")
    ] = None,
    test: Annotated[Path | None, typer.Option(help="Test data, scored at the end.")] = None,
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
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
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
    try:
        run(settings, restart=restart or not resume)
    except KeyboardInterrupt:
        die("interrupted. The same command goes on after the last finished epoch; --restart begins anew.", 130)


@app.command("seq2seq", epilog=SEQ2SEQ_EXAMPLE)
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
    valid: Annotated[
        Path | None, typer.Option(help="Validation data, which picks the best epoch; a tenth of --data by default.")
    ] = None,
    test: Annotated[
        Path | None, typer.Option(help="Test data: BLEU, chrF and ROUGE at the end (the extra 'metrics').")
    ] = None,
    format: Annotated[str, typer.Option(help="auto, jsonl, tsv or csl.")] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the trained task.")] = Path("runs/seq2seq"),
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="2e-5 by default, 1e-3 for hidden sizes below 512 (as zh-mini) and random weights.",
            show_default=False,
        ),
    ] = None,
    max_source: Annotated[int, typer.Option(min=4, help="Most tokens of a source; longer ones lose their end.")] = 256,
    max_target: Annotated[int, typer.Option(min=2, help="Most tokens of a target.")] = 64,
    slim: Annotated[
        bool, typer.Option("--slim/--no-slim", help="Leave out tokens that the tokenizer can never produce.")
    ] = False,
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
    try:
        run(settings, restart=restart or not resume)
    except KeyboardInterrupt:
        die("interrupted. The same command goes on where the state was last saved; --restart begins anew.", 130)


@app.command("reader", epilog=READER_EXAMPLE)
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
    test: Annotated[Path | None, typer.Option(help="Test data, scored at the end.")] = None,
    format: Annotated[str, typer.Option(help="auto, jsonl, squad, cmrc, webqa or sogouqa.")] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the trained task.")] = Path("runs/reader"),
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="2e-5 by default, 1e-3 for hidden sizes below 512 (as zh-mini) and random weights.",
            show_default=False,
        ),
    ] = None,
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
    slim: Annotated[
        bool, typer.Option("--slim/--no-slim", help="Leave out tokens that the tokenizer can never produce.")
    ] = False,
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
    try:
        run(settings, restart=restart or not resume)
    except KeyboardInterrupt:
        die("interrupted. The same command goes on where the state was last saved; --restart begins anew.", 130)


app.command("conditional-lm", epilog=train_conditional.EXAMPLE)(train_conditional.conditional_lm)
