"""What the examples of reading share: options, training into a folder, scores beside it."""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import kexue  # noqa: F401  chooses the backend


def options(doc: str | None, epochs: int) -> argparse.ArgumentParser:
    """A parser with what both examples take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("KEXUE_DATA"), help="default: KEXUE_DATA")
    parser.add_argument("--model", default="zh-mini")
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--dtype", default="mixed_bfloat16")
    parser.add_argument("--output", type=Path, default=Path("runs/reading"), help="folder of the trained readers")
    parser.add_argument("--limit", type=int, help="only so many questions (a trial)")
    return parser


def folder_of(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Path:
    """The folder ``mrc`` of the data."""
    if given.data is None:
        parser.error("set KEXUE_DATA to the folder that holds mrc/, or give --data")
    return Path(given.data) / "mrc"


def trained(task: Any, records: list[dict], folder: Path, given: argparse.Namespace, **sizes: Any) -> Any:
    """A reader trained on the records, or the one that is in the folder; an interrupted training goes on."""
    if (folder / "task.json").exists():
        return task.load(folder, dtype=given.dtype)
    reader = task.from_pretrained(given.model, seed=0, dtype=given.dtype, **sizes)
    wall, processor = time.perf_counter(), time.process_time()
    reader.fit(
        records,
        epochs=given.epochs,
        batch_size=16,
        learning_rate=given.rate,
        negatives=0.25,
        resume=f"{folder}-training",
        verbose=2,
    )
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    reader.save(folder)
    took = {"questions": len(records), "epochs": given.epochs, "seconds": wall, "processor": processor}
    (folder / "training.json").write_text(json.dumps(took), encoding="utf-8")
    print(f"{len(records):,} questions x {given.epochs}: {wall:.0f} s of training, {processor:.0f} s of processor time")
    return reader


def note(folder: Path, rows: dict[str, Any]) -> None:
    """Scores by name, printed and kept beside the reader."""
    for name, scores in rows.items():
        print(f"\n{name}\n{scores.table()}")
    kept = {name: scores.as_dict() for name, scores in rows.items()}
    (folder / "scores.json").write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
