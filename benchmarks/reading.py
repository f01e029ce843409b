"""Reading comprehension with a small pretrained model: WebQA, CMRC 2018 and DRCD, by writing and by pointing.

Runs the scripts of ``examples/reading``, each into a folder of ``--output``. A reader that is there already is not
trained again, scores that are there are not computed again, and an interrupted training goes on.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.report import arguments, data_folder, publish, table

EXAMPLES = Path(__file__).parents[1] / "examples" / "reading"
RUNS = {
    "webqa-write": ("webqa.py",),
    "cmrc-write": ("squad_style.py", "cmrc", "write"),
    "cmrc-point": ("squad_style.py", "cmrc", "point"),
    "drcd-write": ("squad_style.py", "drcd", "write"),
    "drcd-point": ("squad_style.py", "drcd", "point"),
}
HEADER = ("set and scores", "questions", "EM", "F1", "SogouQA accuracy", "SogouQA F1", "SogouQA final", "answered")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="zh-mini", help="folder or name of the pretrained checkpoint")
    parser.add_argument("--runs", default=",".join(RUNS), help="some of the default, with commas")
    parser.add_argument("--output", type=Path, default=Path("runs/reading"), help="folder of the trained readers")
    given = parser.parse_args()
    rows: list[tuple[str, ...]] = []
    times = []
    for name in given.runs.split(","):
        folder = given.output / name
        if not (folder / "scores.json").exists():
            script, *words = RUNS[name]
            command = [sys.executable, str(EXAMPLES / script), *words, "--data", str(data_folder())]
            command += ["--model", given.model, "--output", str(given.output)]
            subprocess.run(command, check=True, env=os.environ)
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        rows += [line(f"{name}: {part}", figures) for part, figures in scores.items()]
        took = json.loads((folder / "training.json").read_text(encoding="utf-8"))
        processor = f", {took['processor']:.0f} s of processor time" if "processor" in took else ""
        times.append(f"{name} {took['questions']:,} questions x {took['epochs']}, {took['seconds']:.0f} s{processor}")
    body = (
        "Scores in percent. EM and F1 by the rules of CMRC 2018; accuracy, F1 and their mean by those of SogouQA; "
        "held-out questions, on passages that the training has not seen (the examples say how the sets are cut). "
        f"Keras backend {os.environ.get('KERAS_BACKEND', 'jax')}. "
        f"Training: {'; '.join(times)}.\n\n{table(HEADER, rows)}"
    )
    some = "" if given.runs == ",".join(RUNS) else f" --runs {given.runs}"
    command_line = f"python -m benchmarks.reading --model {given.model}{some}"
    publish("reading", "Reading comprehension", command_line, body, given.write)
    return 0


def line(name: str, figures: dict[str, float]) -> tuple[str, ...]:
    names = ("exact", "f1", "accuracy", "sogou_f1", "final", "answered")
    return (name, f"{figures['count']:,}", *(f"{100 * figures[key]:.1f}" for key in names))


if __name__ == "__main__":
    raise SystemExit(main())
