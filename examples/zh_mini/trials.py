"""Fine-tuning on few examples from zh-mini's weights or some of them: the trials of docs/zh_mini.md.

KERAS_BACKEND=torch OMP_NUM_THREADS=1 python examples/zh_mini/trials.py all all,rate=3e-3 none tokens frozen,head=1e-2

Each argument is one training on the first examples of CLUENER's training set, scored on its last 1,000: what to take
of the checkpoint, and perhaps settings. `all`; `none` (random weights); `tokens` (the token table); `lower1`, `lower2`
(the table and the first blocks); `soft` (attention scores divided by 4); `shrunk` (the weights of all blocks times the
setting `by`); `new_attention`, `new_feedforward` (these layers of all blocks anew); `frozen`, `frozen_none` (only the
head learns).
"""

import argparse
import os
from pathlib import Path

import kexue  # noqa: F401  chooses the backend
import keras

from kexue.models import Transformer
from kexue.tasks import NER
from kexue.text import Tokenizer, read_entities

DEFAULTS = {
    "rate": 1e-3,
    "head": 1e-3,
    "dropout": 0.1,
    "examples": 1000,
    "epochs": 5,
    "seed": 0,
    "float32": 0,
    "by": 0.3,
}


def values(weight):
    """As an array."""
    return keras.ops.convert_to_numpy(weight)


def kept(what, path, blocks):
    """Whether a weight stays as it is in the checkpoint."""
    if what in ("all", "soft", "frozen", "shrunk"):
        return True
    if what.startswith("new_"):
        return what.removeprefix("new_") not in path
    lower = {"lower1": 1, "lower2": 2}.get(what, 0)
    table = "token_embedding" in path and not what.endswith("none")
    segments = lower and "segment_embedding" in path
    return table or segments or any(f"block_{i}_" in path for i in range(min(lower, blocks)))


def start(what, options, labels):
    """An untrained recogniser."""
    policy = "float32" if options["float32"] else "mixed_bfloat16"
    parts = {"mask": "bidirectional", "dropout": options["dropout"], "attention_dropout": options["dropout"]}
    pretrained = Transformer.from_pretrained("zh-mini", **parts)
    ner = NER.from_pretrained(
        pretrained.config,
        labels,
        tokenizer=Tokenizer.from_pretrained("zh-mini"),
        head="crf",
        max_length=64,
        dtype=policy,
        seed=int(options["seed"]),
        **parts,
    )
    for own, stored in zip(ner.encoder.weights, pretrained.weights, strict=True):
        if not kept(what, own.path, pretrained.config.num_layers):
            continue
        array = values(stored).copy()
        if what == "soft" and "qkv_kernel" in own.path:
            array[:, : 2 * pretrained.config.hidden_size] *= 0.5  # queries and keys
        if what == "shrunk" and "block_" in own.path:
            array *= options["by"]
        own.assign(array)
    ner.encoder.trainable = not what.startswith("frozen")
    return ner


def main():
    """A line for each training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="+", metavar="WHAT[,NAME=NUMBER...]", help=f"numbers: {DEFAULTS}")
    parser.add_argument("--data", type=Path, default=os.environ.get("KEXUE_DATA"), help="default: KEXUE_DATA")
    given = parser.parse_args()
    if given.data is None:
        parser.error("set KEXUE_DATA to the folder that holds ner/cluener/, or give --data")
    examples = read_entities(Path(given.data) / "ner" / "cluener" / "train.json")
    training, held_out = examples[:-1000], examples[-1000:]
    labels = sorted({entity["label"] for example in examples for entity in example["entities"]})
    for trial in given.trials:
        what, *settings = trial.split(",")
        options = DEFAULTS | {name: float(number) for name, number in (setting.split("=") for setting in settings)}
        ner = start(what, options, labels)
        ner.fit(
            training[: int(options["examples"])],
            epochs=int(options["epochs"]),
            learning_rate=options["rate"],
            head_learning_rate=max(options["head"], options["rate"]),
            seed=int(options["seed"]),
            verbose=0,
        )
        print(f"{trial}: F1 {100 * ner.evaluate(held_out).f1:.1f}", flush=True)


if __name__ == "__main__":
    main()
