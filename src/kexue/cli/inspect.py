"""``kexue inspect``: what a folder or a file of weights holds."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue.cli._common import dumps, guarded, one_line, start_keras
from kexue.errors import CheckpointError, KexueError

__all__ = ["EXAMPLE", "inspect"]

EXAMPLE = "Example: kexue inspect bert-base-chinese/ --tensors"

_FORMATS = {"tf": "TensorFlow bundle", "safetensors": "safetensors", "torch": "PyTorch"}
_TASK_FILE = "task.json"
_OTHER = {"ignored": "besides, optimizer states, buffers or tied copies", "unknown": "besides, unknown to the family"}


@guarded
def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Checkpoint folder, saved task, or a file of weights.")
    ],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor with shape and type.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of tables.")] = False,
) -> None:
    """Show configuration, family, parameters, tensors and tokenizer of a checkpoint or a saved task."""
    start_keras()
    report = describe(path)
    if not tensors:
        report.pop("tensors")
    if as_json:
        report.pop("plain", None)
        typer.echo(dumps(report, indent=2))
    else:
        _show(report)


def describe(path: Path) -> dict[str, Any]:
    """Everything that is shown, as plain data.

    Raises:
        CheckpointError: no weights, or broken ones.
    """
    from kexue.checkpoints import open_checkpoint, summarize
    from kexue.cli._checkpoints import configuration, heads_in, parts_of, tokenizer_in

    with open_checkpoint(path) as checkpoint:
        tensors = summarize(checkpoint)
        names = checkpoint.names()
        layout = "tf" if checkpoint.format == "tf" else "hf"
        file_format = _FORMATS[checkpoint.format]
    folder = path if path.is_dir() else path.parent
    files = sorted({tensor.file for tensor in tensors})
    report: dict[str, Any] = {
        "path": str(path),
        "format": file_format,
        "files": {name: (folder / name).stat().st_size for name in files if (folder / name).is_file()},
        "parameters": sum(tensor.size for tensor in tensors if tensor.nbytes),
        "tensor_count": len(tensors),
        "dtypes": dict(Counter(tensor.dtype for tensor in tensors)),
    }
    data, problem = _configuration_of(path)
    if problem:
        report["problem"] = problem
    if data is not None:
        try:
            config, family, own = configuration(data, names, None)
        except KexueError as error:
            report |= {"problem": str(error), "config": data, "plain": []}
        else:
            report["layout"] = "kexue" if own else "Google" if layout == "tf" else "Hugging Face"
            report["family"] = family.name
            report["heads"] = heads_in(config, family, names, layout, own)
            if not own:
                sizes = {tensor.name: tensor.size for tensor in tensors}
                parts = parts_of(config, family, names, layout)
                report["parts"] = {part: sum(sizes[name] for name in members) for part, members in parts.items()}
                report["parameters"] = sum(n for part, n in report["parts"].items() if part not in _OTHER)
            report["config"] = config.to_dict()
            report["plain"] = [
                field.name for field in dataclasses.fields(config) if getattr(config, field.name) == field.default
            ]
    if (folder / _TASK_FILE).is_file():
        report |= _task(folder)
    report["tokenizer"] = None
    try:
        tokenizer = tokenizer_in(folder)
    except KexueError as error:
        report["problem"] = "; ".join(filter(None, [report.get("problem"), str(error)]))
    else:
        if tokenizer is not None:
            kind = type(tokenizer.rust.model).__name__
            cased = not tokenizer.lowercase
            report["tokenizer"] = {"kind": kind, "size": tokenizer.vocabulary_size, "cased": cased}
    report["tensors"] = [
        {"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype, "file": tensor.file}
        for tensor in tensors
    ]
    return report


def _task(folder: Path) -> dict[str, Any]:
    """What a saved task says of itself, and the size of its head."""
    from kexue.checkpoints import open_checkpoint, summarize

    try:
        task = json.loads((folder / _TASK_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{folder / _TASK_FILE} is not the description of a task: {error}") from None
    report: dict[str, Any] = {"task": task}
    if (folder / "head.safetensors").is_file():
        with open_checkpoint(folder / "head.safetensors") as head:
            report["head_parameters"] = sum(tensor.size for tensor in summarize(head))
    return report


def _configuration_of(path: Path) -> tuple[Any, str | None]:
    """The configuration beside the weights, or None for bare tensors; and what is wrong with it."""
    from kexue.models.loading import read_config

    try:
        return read_config(path)[0], None
    except CheckpointError:
        return None, None
    except KexueError as error:
        return None, str(error)


def _show(report: dict[str, Any]) -> None:
    """Plain lines: names are copied and grepped, so nothing is folded to the width of a terminal."""
    files = ", ".join(f"{name} ({size:,} bytes)" for name, size in report["files"].items())
    layout = report.get("layout")
    rows = [
        ("path", report["path"]),
        ("format", f"{layout} ({report['format']})" if layout else f"bare tensors ({report['format']})"),
        ("files", files),
        ("family", report.get("family")),
        ("heads", ", ".join(report["heads"]) or "none" if "heads" in report else None),
        ("task", _task_line(report)),
        ("parameters", f"{report['parameters']:,}" + _parts_line(report.get("parts"))),
        ("tensors", ", ".join(f"{count} {dtype}" for dtype, count in report["dtypes"].items())),
        ("tokenizer", _tokenizer_line(report["tokenizer"])),
        ("problem", report.get("problem")),
    ]
    for name, value in rows:
        if value:
            typer.echo(f"{typer.style(f'{name:<10}', bold=True)}  {one_line(value)}")
    if "config" in report:
        plain = report["plain"]
        typer.echo(f"\n{typer.style('config', bold=True)}" + (" (what differs from the defaults)" if plain else ""))
        shown = {name: value for name, value in report["config"].items() if name not in plain}
        width = max(map(len, shown), default=0)
        for name, value in shown.items():
            typer.echo(f"  {name:<{width}}  {dumps(value)}")
    if "tensors" in report:
        typer.echo()
        width = max((len(tensor["name"]) for tensor in report["tensors"]), default=0)
        for tensor in report["tensors"]:
            shape = "x".join(map(str, tensor["shape"])) or "scalar"
            typer.echo(f"{tensor['name']:<{width}}  {shape:>16}  {tensor['dtype']}")


def _task_line(report: dict[str, Any]) -> str:
    if "task" not in report:
        return ""
    task = report["task"]
    if "labels" not in task:
        fields = [f"{name} {value}" for name, value in task.items() if name not in ("format", "version", "task")]
        return ", ".join([str(task.get("task")), *fields])
    labels = task["labels"]
    head = f", {report['head_parameters']:,} parameters" if "head_parameters" in report else ""
    return f"{task.get('task')}, head {task.get('head')}{head}, {len(labels)} labels: {', '.join(map(str, labels))}"


def _parts_line(parts: dict[str, int] | None) -> str:
    if not parts:
        return ""
    own = " + ".join(f"{part} {size:,}" for part, size in parts.items() if part not in _OTHER)
    others = "".join(f"; {_OTHER[part]}: {size:,} numbers" for part, size in parts.items() if part in _OTHER)
    return f" = {own}{others}"


def _tokenizer_line(tokenizer: dict[str, Any] | None) -> str:
    if tokenizer is None:
        return "none"
    return f"{tokenizer['kind']}, {tokenizer['size']:,} tokens, {'cased' if tokenizer['cased'] else 'lower-casing'}"
