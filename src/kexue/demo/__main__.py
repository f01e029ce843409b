"""``python -m kexue.demo``: train on generated notices, compare the heads, draw pointer scores, predict."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue.cli._common import guarded, note, start_keras

TEXT = "梅阳市气象局发布暴雨橙色预警，预计今天夜间松岗、泉春、白川和洛平有雷阵雨，湘城至凤阴高铁限速运行。"


@guarded
def demo(
    *,
    text: Annotated[list[str] | None, typer.Option(help="Text to predict on; may be repeated.")] = None,
    heads: Annotated[
        str | None,
        typer.Option(help="Comma-separated, of those in the table; all by default.", show_default=False),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 3,
    sentences: Annotated[int, typer.Option(min=10, help="Training sentences.")] = 2500,
    output: Annotated[Path, typer.Option(help="Folder for the picture and the trained task.")] = Path("demo-output"),
    seed: int = 0,
) -> None:
    """Train small models from random weights on generated Chinese notices, one for each way to find entities."""
    start_keras()
    from kexue.cli._highlight import show
    from kexue.demo import notices
    from kexue.demo.comparison import HEADS, compare

    chosen = _chosen(heads, HEADS)
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(20, "is a file; a folder is needed", str(output))
    tests = max(sentences // 8, 10)
    data = notices.datasets(train=sentences, valid=tests, test=tests, seed=seed)
    note(f"{sentences:,} training sentences, {tests:,} for validation, {tests:,} for the test; {len(chosen)} heads")
    results = []
    for head in chosen:
        result = compare(head, data, epochs=epochs, seed=seed, callbacks=[_progress(head)])
        results.append(result)
    typer.echo()
    typer.echo(table(results))

    best = next((r for r in results if r.head == "global_pointer"), None)
    best = best or max(results, key=lambda result: result.f1)
    best.task.save(output / "task")
    if "pointer" in best.head:
        for line in _picture(best.task, data["test"], output):
            typer.echo(line)
    typer.echo(f"\nPrediction by {best.head}, saved in {output / 'task'}:\n")
    for line in text or [TEXT]:
        show(line, best.task.predict(line), best.task.labels)
    typer.echo(f"\nMore: kexue predict {output / 'task'} TEXT")


def _chosen(heads: str | None, known: tuple[str, ...]) -> list[str]:
    if heads is None:
        return list(known)
    chosen = list(dict.fromkeys(name.strip() for name in heads.split(",") if name.strip()))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        raise typer.BadParameter(f"expected some of {', '.join(known)}. Received: {heads!r}", param_hint="--heads")
    return chosen


def _progress(head: str) -> Any:
    from kexue.cli._progress import TrainingProgress

    return TrainingProgress(head)


def table(results: list[Any]) -> str:
    """The scores of the heads, one line each."""
    head = f"{'head':<30} precision  recall      F1  nested found  training s  sentences/s"
    rows = [
        f"{r.head:<30} {r.precision:9.4f}  {r.recall:6.4f}  {r.f1:6.4f}  {r.inner:12.1%}  "
        f"{r.training_seconds:10.1f}  {r.sentences_per_second:11.0f}"
        for r in results
    ]
    return "\n".join([head, *rows, "nested found: share of the entities inside another entity that were found"])


def _picture(task: Any, examples: list[dict[str, Any]], output: Path) -> list[str]:
    """Draw the sentence with the longest list that is still legible; what to print about it."""
    from kexue.demo.picture import chinese_font, draw

    legible = [example for example in examples if len(example["text"]) <= 48] or examples
    example = max(legible, key=lambda example: len(example["entities"]))
    found = task.pointer_scores(example["text"])
    first = {int(start): i for i, (start, _) in enumerate(found.offsets)}
    last = {int(end): i for i, (_, end) in enumerate(found.offsets)}
    gold = [
        (first[e["start"]], last[e["end"]], e["label"])
        for e in example["entities"]
        if e["start"] in first and e["end"] in last
    ]
    font = chinese_font("".join(found.tokens) + "".join(task.labels))
    path = output / "pointer_scores.png"
    drawn = draw(path, found.tokens, found.scores, task.labels, gold=gold, font=font)
    lines = [f"\nPointer scores of one sentence: {path} ({', '.join(drawn)})", f"  {example['text']}"]
    if font is None:
        legend = output / "pointer_scores.txt"
        numbered = "  ".join(f"{i}{token}" for i, token in enumerate(found.tokens))
        legend.write_text(f"{example['text']}\n{numbered}\n", encoding="utf-8")
        lines += [f"  No Chinese font is installed, so the axes are numbered ({legend}):", f"  {numbered}"]
    return lines


def main() -> None:
    """Entry point."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command(epilog="Example: python -m kexue.demo --text 青阳今天有雷阵雨")(demo)
    app(prog_name="python -m kexue.demo")


if __name__ == "__main__":
    main()
