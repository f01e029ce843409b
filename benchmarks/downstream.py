"""A pretrained checkpoint against the same network from random weights, fine-tuned on five Chinese tasks.

Three networks: with all weights of the checkpoint, with its token table and random weights else, and from random
weights. All have the same configuration, tokenizer, data, batches, seed and number of steps. Nothing is chosen by the
scores shown: they are those after the last epoch.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from benchmarks.report import arguments, data_folder, publish, table

NAMES = ("cluener", "weibo", "sentiment", "stsb", "stsb-pair", "reading", "drcd")
DEFAULT = "cluener,weibo,sentiment,stsb,reading"
WEIGHTS = {"all": "all weights", "tokens": "token table", "none": "random"}


def numbers(text: str, names: list[str], kind: type) -> dict[str, Any]:
    """``"3"`` for all tasks or ``"cluener=5,weibo=8"`` for some."""
    try:
        if "=" not in text:
            return dict.fromkeys(names, kind(text))
        return {name: kind(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, or NAME=NUMBER,... Received: {text!r}") from None


def options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--model", default="zh-mini", help="folder or name of the pretrained checkpoint")
    parser.add_argument("--tasks", default=DEFAULT, help=f"some of {','.join(NAMES)}; default {DEFAULT}")
    parser.add_argument("--epochs", help="instead of each task's own: a number, or NAME=NUMBER,...")
    parser.add_argument("--learning-rate", help="of the encoder, instead of each task's own: as for --epochs")
    parser.add_argument("--weights", default=",".join(WEIGHTS), help="what to take: some of all,tokens,none")
    parser.add_argument("--limit", type=int, help="only the first so many training examples (a trial)")
    parser.add_argument("--dtype", default="mixed_bfloat16", help="Keras dtype policy of the encoder")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.names = [name.strip() for name in given.tasks.split(",") if name.strip()]
    unknown = [name for name in given.names if name not in NAMES]
    if unknown or not given.names:
        parser.error(f"--tasks takes some of {', '.join(NAMES)}. Received: {given.tasks}")
    given.weights = [name.strip() for name in given.weights.split(",")]
    if not set(given.weights) <= set(WEIGHTS):
        parser.error(f"--weights takes some of {', '.join(WEIGHTS)}. Received: {','.join(given.weights)}")
    return given


def changed(name: str, settings: Any, epochs: Mapping[str, int], rates: Mapping[str, float]) -> Any:
    """A task's settings with those of the command line."""
    if name in epochs:
        settings = replace(settings, epochs=epochs[name])
    if name in rates:
        settings = replace(settings, rates=(rates[name],) * len(WEIGHTS))
    return settings


def row(title: str, settings: Any, results: Mapping[str, Any]) -> tuple[str, ...]:
    """A line of the table; ``results`` by what was taken from the checkpoint."""
    first = next(iter(results.values()))
    rates = [f"{settings.rate(weights):g}" for weights in results]
    scores = [" / ".join(f"{value:.1f}" for value in result.scores.values()) for result in results.values()]
    return (
        title,
        f"{first.examples:,}",
        f"{settings.epochs} x {settings.batch_size}",
        f"{settings.length}",
        rates[0] if len(set(rates)) == 1 else " / ".join(rates),
        " / ".join(first.scores),
        *scores,
        " / ".join(f"{result.seconds:.0f}" for result in results.values()),
    )


def report(rows: list[tuple[str, ...]], skipped: list[str], given: Any, size: str) -> None:
    header = (
        "task",
        "training examples",
        "epochs x batch",
        "tokens",
        "learning rate",
        "score, %",
        *(WEIGHTS[name] for name in given.weights),
        "seconds",
    )
    notes = "".join(f"\n\nSkipped: {note}" for note in skipped)
    limited = "" if given.limit is None else f" Only the first {given.limit} training examples."
    body = (
        f"Encoder: {size}. AdamW, warm-up over a tenth of the steps, linear decay to 0, dropout 0.1, {given.dtype}, "
        f"seed {given.seed}; scores after the last epoch.{limited} Seconds include reading, training and scoring."
        f"\n\n{table(header, rows)}{notes}"
    )
    arguments_shown = f" --model {given.model}" + (f" --tasks {given.tasks}" if given.tasks != DEFAULT else "")
    for name in ("epochs", "learning_rate", "limit"):
        value = getattr(given, name)
        arguments_shown += "" if value is None else f" --{name.replace('_', '-')} {value}"
    publish(
        "downstream",
        "A pretrained model on five tasks",
        f"python -m benchmarks.downstream{arguments_shown}",
        body,
        given.write,
    )


def main() -> int:
    given = options()
    data = data_folder()
    from benchmarks.downstream_tasks import TASKS, Start

    epochs = {} if given.epochs is None else numbers(given.epochs, given.names, int)
    rates = {} if given.learning_rate is None else numbers(given.learning_rate, given.names, float)
    rows: list[tuple[str, ...]] = []
    skipped: list[str] = []
    size = ""
    for name in given.names:
        task = TASKS[name]
        if not (data / task.needs).exists():
            skipped.append(f"{task.title}: {task.needs} is not in {data} (set KEXUE_DATA to the folder of the data)")
            print(skipped[-1], flush=True)
            continue
        settings = changed(name, task.settings, epochs, rates)
        results: dict[str, Any] = {}
        for weights in given.weights:
            print(f"{task.title}, {WEIGHTS[weights]}", flush=True)
            start = Start(given.model, weights, given.seed, given.dtype, given.limit)
            found = results[weights] = task.run(start, settings, data)
            scores = "  ".join(f"{key} {value:.2f}" for key, value in found.scores.items())
            print(f"  {scores}  {found.training:.0f} s of training", flush=True)
            size = size or describe(start)
        rows.append(row(task.title, settings, results))
    if not rows:
        print("nothing was run")
        return 1
    report(rows, skipped, given, size)
    return 0


def describe(start: Any) -> str:
    """Shape of the encoder in words."""
    encoder = start.encoder()
    config = encoder.config
    return (
        f"{config.family}, {config.num_layers} blocks of {config.hidden_size}, {encoder.count_params():,} parameters, "
        f"{config.vocabulary_size:,} tokens"
    )


if __name__ == "__main__":
    raise SystemExit(main())
