"""``kexue generate``: the targets of texts by a saved `Seq2Seq`, or texts to order by a `ConditionalLM`."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue.cli._common import die, dumps, guarded, interactive, note, one_line, start_keras
from kexue.cli.predict import _source

__all__ = ["EXAMPLE", "generate"]

EXAMPLE = (
    "Examples: kexue generate runs/titles --file texts.txt --beam 4   or   kexue generate runs/titles - --sample   "
    "or   kexue generate runs/reviews --label good --best 5 --guidance 2"
)


@guarded
def generate(
    *,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Saved Seq2Seq or ConditionalLM task.")],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...",
            help="Sources, or what a ConditionalLM is to go on from; a single - stands for lines of stdin.",
        ),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="File with one text a line; - for stdin.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Of a ConditionalLM, may be repeated; all of them by default.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(help="Of a ConditionalLM: a JSON list of numbers or a .npy file; may be repeated."),
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="How much the condition counts: 1 as learned, 0 not at all, above 1 more.")
    ] = 1.0,
    beam: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Beams; 1 takes the most probable token at each step. 4 by default; a ConditionalLM samples instead.",
            show_default=False,
        ),
    ] = None,
    best: Annotated[int, typer.Option(min=1, help="Results of each text.")] = 1,
    length_penalty: Annotated[
        float, typer.Option(help="Above 0 longer results gain; 1 compares means of a token.")
    ] = 1.0,
    sample: Annotated[bool, typer.Option("--sample", help="Draw at random instead of by beams.")] = False,
    temperature: Annotated[float, typer.Option(help="Of --sample.")] = 1.0,
    top_k: Annotated[int, typer.Option(min=0, help="Of --sample; 0 for all tokens.")] = 0,
    top_p: Annotated[float, typer.Option(help="Of --sample.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Of --sample.")] = 0,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens; the task's own by default.")] = None,
    as_jsonl: Annotated[bool, typer.Option("--jsonl", help="JSON Lines, the default unless on a terminal.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts at a time.")] = 8,
) -> None:
    """Write a target for each text, such as a title or a translation; or texts for a label or another condition.

    On a terminal one line a result, otherwise JSON Lines: {"text": "...", "results": [{"text": "...", "score": -1.2}]},
    for a ConditionalLM {"label": "...", "results": [...]}. Ctrl-C shows what is finished.
    """
    start_keras()
    from kexue.tasks.loading import kind_of

    conditional = kind_of(folder) == "conditional_lm"
    source = iter([("", "")]) if conditional and not texts and file is None else _source(texts or [], file)
    if not conditional and (label or condition or guidance != 1.0):
        die("--label, --condition and --guidance are for a saved ConditionalLM.")
    if sample and beam is not None:
        die("--sample and --beam exclude each other.")
    from kexue.decoding import Beam, Greedy, Sample
    from kexue.tasks import ConditionalLM, Seq2Seq

    task: Any = (ConditionalLM if conditional else Seq2Seq).load(folder)
    width = 4 if beam is None else beam
    search: Any = Greedy() if width == 1 and best == 1 else Beam(max(width, best), length_penalty, n_best=best)
    if sample or (conditional and beam is None):
        search = Sample(temperature, top_k=top_k, top_p=top_p, n=best, seed=seed)
    plain = interactive() and not as_jsonl
    options: dict[str, Any] = {"batch_size": batch_size} | ({} if max_tokens is None else {"max_tokens": max_tokens})
    if conditional:
        from kexue.cli._generate_conditional import conditions_of, records_of

        wanted = conditions_of(task, label or [], condition or [])
        found = records_of(task, wanted, [text for _, text in source], search, best, guidance, options)
    else:
        found = _records(task, source, search, options)
    for record, interrupted in found:
        if plain:
            for result in record["results"]:
                typer.echo(one_line(result["text"]))
        else:
            typer.echo(dumps(record))
        if interrupted:
            note("interrupted; what stands above was finished.")
            raise typer.Exit(130)


def _records(task: Any, source: Iterator[tuple[str, str]], search: Any, options: dict[str, Any]) -> Iterator[Any]:
    """Records, and whether one is the last because of Ctrl-C."""
    from kexue.cli._serve_seq2seq import tell_cut

    seed = getattr(search, "seed", None)
    done = 0
    while part := list(islice(source, 8 * options["batch_size"])):
        if seed is not None:
            from dataclasses import replace

            search = replace(search, seed=seed + done)
        done += len(part)
        tell_cut(task, part)
        found = task.generate([text for _, text in part], search, **options)
        records = []
        for (_, text), row in zip(part, found.sequences, strict=True):
            results = [
                {"text": task.tokenizer.decode(one.tokens), "score": round(one.score, 4), "reason": one.reason}
                for one in row
                if one.reason != "interrupted"
            ]
            if results:
                records.append({"text": text, "results": results})
        if found.interrupted and not records:
            die("interrupted.", 130)
        for n, record in enumerate(records):
            yield record, found.interrupted and n == len(records) - 1
