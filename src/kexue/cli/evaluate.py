"""``kexue evaluate``: score a saved task on labelled data."""

from pathlib import Path
from typing import Annotated

import typer

from kexue.cli._common import dumps, guarded, load_task, note

__all__ = ["EXAMPLE", "evaluate"]

EXAMPLE = "Example: kexue evaluate runs/ner --data test.jsonl --json"


@guarded
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Saved task.")],
    data: Annotated[Path, typer.Option(help="Labelled data, with conditions if the task takes them.")],
    format: Annotated[str, typer.Option(help="Format of the data, see `kexue train ner --help`.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at a time.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="The scores as JSON.")] = False,
) -> None:
    """Precision, recall and F1 of a saved task on labelled data, for each label and in all."""
    from kexue.cli._data import check_conditions, read_labelled

    task = load_task(folder)
    examples = read_labelled(data, format, "test", task.labels)
    check_conditions(examples, task.condition_size, data)
    scores = task.evaluate(examples, batch_size=batch_size)
    if as_json:
        typer.echo(dumps(scores.as_dict(), indent=2))
    else:
        note(f"{len(examples):,} examples of {data}")
        typer.echo(scores.table())
