"""Packed and length-bucketed rows against full rows of fixed length: real tokens a second.

A model of BERT-small's size (4 layers of width 512, 8 heads), forward pass and training step (AdamW on all weights,
a token classifier of 10 classes). Lengths are those of CLUENER's training texts, a token a character and two more;
without that data set, drawn from a log-normal distribution of the same mean and deviation. Every way has the same
number of cells in a batch:

- fixed: rows of 128 real tokens each;
- packed: documents packed into rows of 128 (``kexue.text.batching.pack``), each seeing only itself;
- bucketed: rows of like length (``length_batches``, buckets of 8);
- padded: one document a row of 128.
"""

import json
import os

import numpy as np

from benchmarks.report import arguments, data_folder, in_turns, median, publish, table
from benchmarks.speed import wait

LENGTH, VOCABULARY, CLASSES = 128, 21128, 10
MEAN, DEVIATION = 39.4, 10.7
"""Tokens in a text of CLUENER."""
BUCKETS = tuple(range(8, LENGTH + 1, 8))

Batches = list[dict[str, np.ndarray]]


def lengths(count: int) -> tuple[list[int], str]:
    """Numbers of tokens, and where they come from."""
    path = data_folder() / "ner/cluener/train.json"
    rng = np.random.default_rng(0)
    if path.exists():
        texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
        sizes = np.array([min(len(text) + 2, LENGTH) for text in texts])
        return rng.choice(sizes, count).tolist(), "CLUENER"
    sigma = np.sqrt(np.log1p((DEVIATION / MEAN) ** 2))
    drawn = rng.lognormal(np.log(MEAN) - sigma**2 / 2, sigma, count)
    return np.clip(np.rint(drawn), 3, LENGTH).astype(int).tolist(), "a log-normal distribution"


def encoding(size: int, rng: np.random.Generator) -> object:
    from kexue.text.encoding import Encoding

    return Encoding(
        token_ids=rng.integers(1, VOCABULARY, size).astype("int32"),
        segment_ids=np.zeros(size, "int32"),
        offsets=np.zeros((size, 2), "int32"),
        special=np.zeros(size, bool),
        sequence_ids=np.zeros(size, "int32"),
        tokens=("",) * size,
        texts=("",),
        limits=((0, 0),),
    )


def batches(rows: int, count: int) -> tuple[dict[str, Batches], str]:
    """The same documents in each way, in batches of ``rows * LENGTH`` cells."""
    from kexue.text.batching import length_batches, pack, pad

    rng = np.random.default_rng(1)
    sizes, source = lengths(count)
    documents = [encoding(size, rng) for size in sizes]
    packed = pack(documents, LENGTH)
    whole = len(packed.batch["token_ids"]) // rows * rows  # full batches only
    parts = {name: np.split(values[:whole], whole // rows) for name, values in packed.batch.items()}
    result: dict[str, Batches] = {
        "fixed": [pad([encoding(LENGTH, rng) for _ in range(rows)]) for _ in range(whole // rows)],
        "packed": [dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)],
        "bucketed": [],
        "padded": [pad(documents[i : i + rows], length=LENGTH) for i in range(0, count - rows + 1, rows)],
    }
    for group in length_batches(sizes, max_tokens=rows * LENGTH, buckets=BUCKETS):
        batch = pad([documents[i] for i in group], buckets=BUCKETS)
        size = batch["token_ids"].shape[1]
        if len(group) == rows * LENGTH // size:  # as they come in a long run: the last of a bucket is rare
            result["bucketed"].append(batch)
    for name in ("bucketed", "padded"):  # spread over all lengths, about as many as the others
        found = result[name]
        step = max(len(found) // len(result["packed"]), 1)
        result[name] = found[::step]
    return result, source


def real_tokens(ways: Batches) -> int:
    return sum(int(batch["padding_mask"].sum()) for batch in ways)


def model(config: dict[str, int]) -> object:
    from kexue.models import Transformer, TransformerConfig

    return Transformer(TransformerConfig(vocabulary_size=VOCABULARY, **config))


def classifier(encoder: object, batch: dict[str, np.ndarray]) -> object:
    import keras

    inputs = {name: encoder.input[name] for name in batch}
    outputs = keras.layers.Dense(CLASSES)(encoder(inputs)["sequence_output"])
    result = keras.Model(inputs, outputs)
    result.compile(keras.optimizers.AdamW(1e-5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return result


def rates(ways: dict[str, Batches], config: dict[str, int], rounds: int, train: bool) -> dict[str, float]:
    """Real tokens a second of each way; all in turns."""
    encoder = model(config)
    runs = {}
    for name, own in ways.items():
        if train:
            step = classifier(encoder, own[0])
            labels = [np.zeros(batch["token_ids"].shape, "int32") for batch in own]
            runs[name] = lambda step=step, own=own, labels=labels: [
                step.train_on_batch(batch, y) for batch, y in zip(own, labels, strict=True)
            ]
        else:
            runs[name] = lambda own=own: wait([encoder(batch)["sequence_output"] for batch in own])
    seconds = in_turns(runs, rounds, warm=1)
    return {name: real_tokens(ways[name]) / median(values) for name, values in seconds.items()}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=16, help="rows of 128 in a batch")
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--no-train", action="store_true")
    options = parser.parse_args()
    import kexue  # noqa: F401  chooses the backend

    ways, source = batches(options.rows, options.documents)
    config = {
        "hidden_size": options.width,
        "num_layers": 4,
        "num_heads": options.width // 64,
        "intermediate_size": 4 * options.width,
    }
    rows = []
    for work in ("forward",) if options.no_train else ("forward", "training step"):
        rate = rates(ways, config, options.rounds, work != "forward")
        for name, value in rate.items():
            cells = sum(batch["padding_mask"].size for batch in ways[name])
            share = real_tokens(ways[name]) / cells
            rows.append((work, name, f"{share:.3f}", f"{value:.0f}", f"{value / rate['fixed']:.3f}"))
    body = (
        f"Keras backend {os.environ['KERAS_BACKEND']}; lengths from {source}. Batches of {options.rows} rows of "
        f"{LENGTH}, or as many cells.\n\n"
    ) + table(("work", "rows", "share of real tokens", "real tokens/s", "to fixed"), rows)
    publish("packing", "Packed and bucketed text", "python -m benchmarks.packing", body, options.write)


if __name__ == "__main__":
    main()
