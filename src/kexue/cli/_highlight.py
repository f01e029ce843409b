"""Entities of a text in colour."""

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

__all__ = ["show"]

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta", "bright_green")


def show(text: str, entities: Sequence[dict[str, Any]], labels: Sequence[str], console: Console | None = None) -> None:
    """Print the text with its entities coloured by label, inner ones underlined, and a line for each entity."""
    console = console or Console(highlight=False)
    colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    line = Text(text)
    ordered = sorted(entities, key=lambda entity: (entity["start"], -entity["end"]))
    for entity in ordered:
        inside = any(
            other is not entity and other["start"] <= entity["start"] and entity["end"] <= other["end"]
            for other in ordered
        )
        style = f"{'underline' if inside else 'bold'} {colours[entity['label']]}"
        line.stylize(style, entity["start"], entity["end"])
    console.print(line, soft_wrap=True)
    widths = [max((cell_len(str(entity[key])) for entity in ordered), default=0) for key in ("label", "text")]
    for entity in ordered:
        label, words = str(entity["label"]), str(entity["text"])
        row = Text("  ")
        row.append(label + " " * (widths[0] - cell_len(label)), colours[entity["label"]])
        row.append("  " + words + " " * (min(widths[1], 40) - cell_len(words)))
        row.append(f"  {entity['start']:>4}-{entity['end']:<4} {entity['score']:.2f}", "dim")
        console.print(row, soft_wrap=True)
    if not ordered:
        console.print("  no entities", style="dim")
