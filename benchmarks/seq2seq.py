"""Text from text with a small pretrained model: classical to modern Chinese, titles of papers, couplets.

Data, settings and trivial baselines are those of the scripts in ``examples/seq2seq``. Each model is trained once,
pretrained and from random weights, into a folder of ``--output``; what is there already is not trained again, and an
interrupted training goes on. Both have the same network, tokenizer, pairs, batches, seed, learning rate and steps; the
best epoch is chosen by the loss on validation pairs.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.report import arguments, data_folder, publish, table

EXAMPLES = Path(__file__).parents[1] / "examples" / "seq2seq"
TITLES = {
    "classical": "classical to modern Chinese",
    "titles": "titles of papers from abstracts (CSL)",
    "couplets": "second lines of couplets",
}
KEYS = ("bleu", "chrf", "rouge1", "rouge2", "rouge_l")


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="zh-mini", help="folder or name of the pretrained checkpoint")
    parser.add_argument("--tasks", default=",".join(TITLES), help="some of the default, with commas")
    parser.add_argument("--starts", default="pretrained,scratch", help="one of them, or both with a comma")
    parser.add_argument("--output", type=Path, default=Path("runs/seq2seq"), help="folder of the trained tasks")
    given = parser.parse_args()
    data = data_folder()
    sys.path.insert(0, str(EXAMPLES))
    import common

    from kexue.text.scores import score_texts

    rows: list[tuple[str, ...]] = []
    for name in given.tasks.split(","):
        example = importlib.import_module(name)
        parts = example.data(data)
        print(f"{TITLES[name]}: {', '.join(f'{len(part):,}' for part in parts)} pairs", flush=True)
        targets = [pair["target"] for pair in parts.test]
        plain = score_texts([example.trivial(pair["source"]) for pair in parts.test], targets)
        rows.append(line(name, parts, "trivial: " + example.trivial.__doc__.rstrip("."), "", plain))
        for start in given.starts.split(","):
            folder = given.output / f"{name}-{start}"
            task = trained(common, example, parts, given.model, folder, start)
            for beam in (1, 4):
                scores = scored(common, task, parts, folder, beam)
                rows.append(line(name, parts, start, "greedy" if beam == 1 else f"beam {beam}", scores))
                print(" | ".join(rows[-1]), flush=True)
    header = ("task", "test pairs", "model", "search", "BLEU", "chrF", "ROUGE-1", "ROUGE-2", "ROUGE-L", "perplexity")
    seconds = "; ".join(times(given))
    body = (
        f"Scores in percent: BLEU (tokenizer zh) and chrF2 of sacrebleu, mean ROUGE F1 over Chinese characters; "
        f"perplexity of the targets' tokens. Training pairs, seconds of training and of processor time: {seconds}.\n\n"
        f"{table(header, rows)}"
    )
    publish("seq2seq", "Text from text", f"python -m benchmarks.seq2seq --model {given.model}", body, given.write)
    return 0


def trained(common: Any, example: Any, parts: Any, model: str, folder: Path, start: str) -> Any:
    """The task of a folder, trained where it is not yet; notes the time."""
    new = not (folder / "task.json").exists()
    wall, processor = time.perf_counter(), time.process_time()
    task = common.trained(parts, example.SETTINGS, model, folder, scratch=start == "scratch", verbose=2)
    if new:
        took = {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}
        took |= {"pairs": len(parts.train), "epochs": example.SETTINGS["epochs"], "best_epoch": task.best_epoch}
        (folder / "training.json").write_text(json.dumps(took), encoding="utf-8")
    return task


def scored(common: Any, task: Any, parts: Any, folder: Path, beam: int) -> dict[str, Any]:
    """Scores on the test pairs; kept beside the task with what it wrote."""
    path = folder / f"beam-{beam}.json"
    if not path.exists():
        scores = common.written(task, parts.test, beam)
        kept = scores.as_dict() | {"outputs": scores.outputs}
        path.write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def line(name: str, parts: Any, model: str, search: str, scores: Any) -> tuple[str, ...]:
    figures = [f"{scores[key]:.1f}" for key in KEYS]
    perplexity = f"{scores['perplexity']:.1f}" if "perplexity" in scores else ""
    return (TITLES[name], f"{len(parts.test):,}", model, search, *figures, perplexity)


def times(given: Any) -> list[str]:
    """Of each training that is noted."""
    found = []
    for name in given.tasks.split(","):
        for start in given.starts.split(","):
            path = given.output / f"{name}-{start}" / "training.json"
            if path.exists():
                took = json.loads(path.read_text(encoding="utf-8"))
                found.append(
                    f"{name}, {start}: {took['pairs']:,} pairs x {took['epochs']}, {took['seconds']:.0f} s, "
                    f"{took['processor']:.0f} s"
                )
    return found


if __name__ == "__main__":
    raise SystemExit(main())
