"""``kexue pretrain``: from raw text to a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from kexue.cli._common import die, guarded, start_keras

__all__ = ["EXAMPLE", "pretrain"]

EXAMPLE = (
    "Examples: kexue pretrain --corpus news=news.txt.xz --corpus poems.jsonl --steps 20000 --output runs/mini   "
    "or from a checkpoint   kexue pretrain --corpus reports/ --model bert-base-chinese/ --objective mlm --output runs/x"
)


@guarded
def pretrain(
    *,
    corpus: Annotated[
        list[str],
        typer.Option(
            help="PATH or NAME=PATH of a corpus, given as often as there are: .txt (blank lines between documents), "
            ".jsonl, .tsv (pairs), also .gz and .xz, a folder or a pattern."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run and of the checkpoint.")] = Path(
        "runs/pretrain"
    ),
    model: Annotated[
        str,
        typer.Option(
            help="A built-in size (tiny, small, medium) or a configuration file (.json) for random initial weights; or "
            "a checkpoint folder to go on from."
        ),
    ] = "small",
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            "--vocab",
            help="tokenizer.json, vocab.txt or their folder; by default the checkpoint's, or "
            "a vocabulary trained on the corpora.",
        ),
    ] = None,
    vocabulary_size: Annotated[
        int, typer.Option(min=100, help="Tokens of a vocabulary that is trained, at most.")
    ] = 8000,
    objective: Annotated[
        str,
        typer.Option(
            help="mlm, clm, unilm, span, electra, or a mixture trained under several masks, such as "
            "mlm=0.5,clm=0.25,unilm=0.25."
        ),
    ] = "mlm",
    steps: Annotated[int, typer.Option(min=1, help="Updates of the weights.")] = 10_000,
    length: Annotated[int, typer.Option(min=8, help="Tokens of a row.")] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows of a batch.")] = 32,
    accumulation: Annotated[int, typer.Option(min=1, help="Batches to an update.")] = 1,
    learning_rate: Annotated[float, typer.Option(help="The highest.")] = 5e-4,
    warmup: Annotated[float, typer.Option(min=0, help="Share of the steps, or (from 1 on) their number.")] = 0.05,
    weight_decay: Annotated[float, typer.Option(min=0)] = 0.01,
    optimizer: Annotated[str, typer.Option(help="adamw or lamb.")] = "adamw",
    schedule: Annotated[
        str | None,
        typer.Option(
            help="linear, constant or cosine after the warm-up, wsd (constant, then a fall over the last fifth), or "
            "STEP:FACTOR pairs joined by commas, such as 1000:1,20000:0.1.",
            show_default="linear",
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Decay of a moving average of the weights, which is saved.", show_default=False
        ),
    ] = None,
    noise_scale: Annotated[
        bool, typer.Option("--noise-scale", help="Measure the gradient noise (with --accumulation) for advise-lr.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard logs too.")] = False,
    dropout: Annotated[
        float | None, typer.Option(min=0, max=0.9, help="Instead of the configuration's.", show_default=False)
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(help="jieba: mask Chinese words whole (needs the package jieba).", show_default=False),
    ] = None,
    holdout: Annotated[float, typer.Option(min=0, max=0.5, help="Share of each corpus for validation.")] = 0.005,
    valid_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between validations; a twentieth of all.", show_default=False)
    ] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Steps between saved states.")] = 500,
    log_every: Annotated[int, typer.Option(min=1, help="Steps between lines of log.csv.")] = 50,
    dtype: Annotated[str | None, typer.Option(help="Keras policy such as mixed_bfloat16.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    processes: Annotated[int, typer.Option(min=1, help="Processes that tokenise the corpora.")] = 1,
    devices: Annotated[
        str | None,
        typer.Option(
            help="With JAX: a number of devices or `all`, each with a part of every batch; or data=2,model=4: copies, "
            "and the devices that each is spread over.",
            show_default=False,
        ),
    ] = None,
    hosts: Annotated[
        str | None,
        typer.Option(
            help="With JAX: host:port of all processes, separated by commas. The same command is given on each, with "
            "its own --process and an --output that all can read.",
            show_default=False,
        ),
    ] = None,
    process: Annotated[int | None, typer.Option(min=0, help="Number of this process.", show_default=False)] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever is in --output.")] = False,
) -> None:
    """Pretrain a model on text, and save it as a checkpoint that every task starts from.

    A run that was interrupted or killed goes on when the same command is given again.
    """
    start_keras()
    from kexue.cli._pretrain import Settings, run

    settings = Settings(
        corpus=corpus,
        output=output,
        model=model,
        tokenizer=tokenizer,
        vocabulary_size=vocabulary_size,
        objective=objective,
        steps=steps,
        length=length,
        batch_size=batch_size,
        accumulation=accumulation,
        learning_rate=learning_rate,
        warmup=warmup,
        weight_decay=weight_decay,
        optimizer=optimizer,
        schedule=schedule,
        ema=ema,
        noise_scale=noise_scale,
        tensorboard=tensorboard,
        dropout=dropout,
        words=words,
        holdout=holdout,
        valid_every=valid_every,
        save_every=save_every,
        log_every=log_every,
        dtype=dtype,
        seed=seed,
        processes=processes,
        devices=devices,
        hosts=hosts,
        process=process,
    )
    try:
        run(settings, restart=restart)
    except KeyboardInterrupt:
        die("interrupted. The same command goes on from the last saved state; --restart begins anew.", 130)
