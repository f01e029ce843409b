"""``kexue evaluate``: score a saved task on labelled data."""

from pathlib import Path
from typing import Annotated

import typer

from kexue.cli._common import dumps, guarded, load_task, note, start_keras
from kexue.cli._served import chosen, server

__all__ = ["EXAMPLE", "evaluate"]

EXAMPLE = "Example: kexue evaluate runs/ner --data test.jsonl --json"


@guarded
def evaluate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Saved task.")],
    data: Annotated[Path, typer.Option(help="Labelled data (with conditions if the task takes them), or pairs.")],
    format: Annotated[str, typer.Option(help="Format of the data, see `kexue train TASK --help`.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at a time.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="The scores as JSON.")] = False,
    beam: Annotated[
        int | None, typer.Option(min=1, help="Written texts: beams, 4 by default.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Written texts: most tokens; the task's own by default.", show_default=False),
    ] = None,
    outputs: Annotated[
        Path | None,
        typer.Option(help="Written texts: JSON Lines of source, target and output.", show_default=False),
    ] = None,
) -> None:
    """Scores of a saved task on labelled data: precision, recall and F1 of entities, for each label and in all; BLEU,
    chrF, ROUGE and perplexity of a seq2seq task (needs the extra 'metrics').
    """
    start_keras()
    served = server(folder)
    options = chosen({"beam": beam, "max_tokens": max_tokens, "outputs": outputs}, served.EVALUATE, folder)
    task = load_task(folder)
    scores, count = served.score(task, data, format, batch_size, **options)
    if as_json:
        typer.echo(dumps(scores.as_dict(), indent=2))
    else:
        note(f"{count:,} examples of {data}")
        typer.echo(scores.table())
