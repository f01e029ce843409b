"""``kexue train``: fine-tune a model on labelled data; one file a task."""

import typer

from kexue.cli import train_conditional, train_ner, train_reader, train_seq2seq

__all__ = ["app"]

app = typer.Typer(name="train", help="Train a task on labelled data.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Train a task on labelled data."""


app.command("ner", epilog=train_ner.EXAMPLE)(train_ner.ner)
app.command("seq2seq", epilog=train_seq2seq.EXAMPLE)(train_seq2seq.seq2seq)
app.command("reader", epilog=train_reader.EXAMPLE)(train_reader.reader)
app.command("conditional-lm", epilog=train_conditional.EXAMPLE)(train_conditional.conditional_lm)
