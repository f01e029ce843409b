"""The command ``kexue``.

One file a command. Nothing heavy is imported until a command runs, so that ``kexue --help`` is quick. A user's mistake
is one line on stderr and exit code 2; Ctrl-C is exit code 130; anything else that escapes is a defect and shows its
traceback. ``KEXUE_DEBUG=1`` shows the traceback of a user's mistake too.
"""

import os
from typing import Annotated

import typer

from kexue.cli import (
    advise_lr,
    convert,
    curvature,
    evaluate,
    fill,
    generate,
    inspect,
    predict,
    pretrain,
    read,
    sample,
    train,
)

__all__ = ["app", "main"]

app = typer.Typer(
    name="kexue",
    help="Transformers made of parts, anybody's official checkpoints, entities with GlobalPointer.",
    epilog="Example: kexue train ner --data train.jsonl --model bert-base-chinese/ --output runs/ner",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train.app)
app.command("evaluate", epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command("predict", epilog=predict.EXAMPLE)(predict.predict)
app.command("advise-lr", epilog=advise_lr.EXAMPLE)(advise_lr.advise_lr)
app.command("convert", epilog=convert.EXAMPLE)(convert.convert)
app.command("curvature", epilog=curvature.EXAMPLE, cls=curvature.CurvatureCommand)(curvature.curvature)
app.command("generate", epilog=generate.EXAMPLE)(generate.generate)
app.command("fill", epilog=fill.EXAMPLE)(fill.fill)
app.command("pretrain", epilog=pretrain.EXAMPLE)(pretrain.pretrain)
app.command("read", epilog=read.EXAMPLE)(read.read)
app.command("sample", epilog=sample.EXAMPLE)(sample.sample)
app.command("inspect", epilog=inspect.EXAMPLE)(inspect.inspect)


def _version(wanted: bool) -> None:
    if wanted:
        from kexue import __version__

        typer.echo(f"kexue {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app()
