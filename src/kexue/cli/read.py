"""``kexue read``: the answer to a question from passages on the command line, in files or on stdin."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue.cli._common import die, dumps, guarded, interactive, load_task, note, one_line, start_keras
from kexue.cli.predict import _source

__all__ = ["EXAMPLE", "read"]

EXAMPLE = (
    'Example: kexue read runs/reader -q 谁写了《匆匆》？ "匆匆的作者是朱自清。" "别的文章"   or   '
    "cat passages.txt | kexue read runs/reader -q 谁写了《匆匆》？ -"
)
_AROUND = 20  # characters of the passage shown on each side of the answer


@guarded
def read(
    *,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Saved reader (`kexue train reader`).")],
    passages: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PASSAGE]...", help="Passages; a single - stands for lines of stdin."),
    ] = None,
    question: Annotated[str, typer.Option("--question", "-q", help="The question.")],
    file: Annotated[
        list[Path] | None, typer.Option(help="File that is one passage as a whole; may be given several times.")
    ] = None,
    must_answer: Annotated[bool, typer.Option("--must-answer", help="An answer in any case.")] = False,
    best: Annotated[int, typer.Option(min=1, help="So many answers, best first.")] = 1,
    beam: Annotated[
        int | None, typer.Option(min=1, help="Written answers: beams, 1 by default.", show_default=False)
    ] = None,
    mode: Annotated[
        str | None, typer.Option(help="Written answers: extractive or generative.", show_default=False)
    ] = None,
    vote: Annotated[
        str | None,
        typer.Option(help="Written answers: confidence, mean, log_mean or product.", show_default=False),
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Pointed answers: least score.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, the default unless on a terminal.")] = False,
) -> None:
    """Answer a question from passages. Shows on a terminal the answer and where it stands, otherwise one line of JSON:
    {"question", "text", "score", "passage", "start", "end"}, places in characters, null and "" for no answer.
    """
    texts = _passages(passages or [], file or [])
    start_keras()
    task = load_task(folder)
    found = task.predict({"question": question, "passages": texts}, **_options(task, folder, locals()))
    if as_json or not interactive():
        typer.echo(dumps({"question": question} | found))
        return
    for one in found.get("alternatives", [found]):
        _show(one, texts)


def _passages(given: list[str], files: list[Path]) -> list[str]:
    if files:
        if given:
            die("Give passages or --file, not both.")
        texts = []
        for path in files:
            try:
                texts.append(path.read_text(encoding="utf-8"))
            except UnicodeDecodeError:
                die(f"{path}: not valid UTF-8. Convert the file to UTF-8")
        return texts
    if not given and sys.stdin.isatty():
        die("Nothing to read: give passages, --file FILE, or - for stdin.")
    return [text for _, text in _source(given, None) if text.strip() or given not in ([], ["-"])]


def _options(task: Any, folder: Path, given: dict[str, Any]) -> dict[str, Any]:
    """The options of `predict` that were given; one that the task does not know ends the command."""
    from kexue.decoding import Beam, Greedy
    from kexue.tasks import Reader, SpanReader

    if not isinstance(task, Reader | SpanReader):
        die(f"{folder} holds no reader, but a {type(task).__name__}.")
    writes = isinstance(task, Reader)
    for name in ("beam", "mode", "vote") if not writes else ("threshold",):
        if given[name] is not None:
            die(f"--{name} is not for the kind of task in {folder}.")
    options = {"must_answer": given["must_answer"], "n_best": given["best"]}
    names = ("mode", "vote") if writes else ("threshold",)
    options |= {name: given[name] for name in names if given[name] is not None}
    if writes:
        width = max(given["beam"] or 1, given["best"])
        options["search"] = Greedy() if width == 1 else Beam(width, n_best=given["best"])
    return options


def _show(one: dict[str, Any], texts: list[str]) -> None:
    if not one["text"]:
        note(f"no answer (score {one['score']:.3f})")
        return
    typer.echo(one_line(one["text"]))
    if one["start"] is None:
        note(f"  score {one['score']:.3f}, most like passage {one['passage'] + 1}; it does not stand there literally")
        return
    text, start, end = texts[one["passage"]], one["start"], one["end"]
    around = f"{text[max(start - _AROUND, 0) : start]}[{text[start:end]}]{text[end : end + _AROUND]}"
    note(f"  score {one['score']:.3f}, passage {one['passage'] + 1}, characters {start} to {end}: {one_line(around)}")
