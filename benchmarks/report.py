"""What all benchmarks share: the machine, timing in turns, and the page of results."""

import argparse
import importlib.metadata
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from kexue.files import atomic_write

RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = ("keras", "jax", "torch", "tensorflow", "transformers", "keras-hub", "tokenizers", "numpy")


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the results into benchmarks/RESULTS.md")
    return parser


def data_folder() -> Path:
    """The folder of public data sets: KEXUE_DATA, or ``../shared/data`` beside the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("KEXUE_DATA", beside))


def machine() -> str:
    """Processor, cores and versions, in two lines."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*: (.*)", info.read_text())
        cpu = found.group(1) if found else cpu
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}\n{', '.join(versions)}"


def in_turns(functions: Mapping[str, Callable[[], object]], rounds: int, warm: int = 2) -> dict[str, list[float]]:
    """Seconds of each function, called in turns so that a busy moment of the machine hits all alike."""
    for function in functions.values():
        for _ in range(warm):
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def publish(name: str, title: str, command: str, body: str, write: bool) -> None:
    """Print a section and, when asked, put it into RESULTS.md in place of its predecessor."""
    date = datetime.now(UTC).strftime("%Y-%m-%d")
    section = f"## {title}\n\n`{command}`, {date}\n\n```\n{machine()}\n```\n\n{body.strip()}\n"
    print(section)
    if not write:
        return
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    block = f"{begin}\n{section}{end}\n"
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results of the benchmarks\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end) + "\n", re.DOTALL)
    text = pattern.sub(lambda _: block, text) if pattern.search(text) else f"{text.rstrip()}\n\n{block}"
    with atomic_write(RESULTS) as temporary:
        temporary.write_text(text, encoding="utf-8")
