"""A BERT-base pretraining step (masked LM, length 128, float32): against the machine's rate, and against KerasHub.

Both train with AdamW and dropout 0.1 on the Keras backend in force (JAX by default, compiled), and predict as many
places of each row; ours is the network of `kexue.tasks.Pretrainer`, which clips gradients as well. All steps run in
turns in one process, between them float32 matrix products of several shapes: the greatest rate of these is what the
share of the machine refers to. Operations are counted by `kexue.tasks.pretraining.flops`.

- same arrays: both get the same full rows.
- same text: with the data sets (KEXUE_DATA), both get the same paragraphs. KerasHub's own preprocessor makes a row of
  each, padded or cut; ours are packed. Counted are real tokens a second, with the making of the batches.
"""

import os
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.report import arguments, data_folder, in_turns, median, publish, table
from benchmarks.speed import wait

VOCABULARY, RATE = 21128, 1e-4
VOCABULARY_FILE = "vocab/bert_base_chinese/albert_config/vocab.txt"

Batch = dict[str, np.ndarray]


def products(options: object) -> dict[str, tuple[Callable[[], object], float]]:
    """Compiled products ``(m, k) (k, n)``, and how many operations each takes."""
    import keras

    tokens, width = options.rows * options.length, options.width
    found = {}
    for m, k, n in ((2048, 2048, 2048), (4096, 4096, 4096), (tokens, width, 4 * width), (tokens, 4 * width, width)):
        rng = np.random.default_rng(0)
        a, b = (keras.ops.convert_to_tensor(rng.standard_normal(shape).astype("float32")) for shape in ((m, k), (k, n)))
        multiply = keras.ops.matmul
        if os.environ["KERAS_BACKEND"] == "jax":
            import jax

            multiply = jax.jit(multiply)
        found[f"product {m} x {k} x {n}"] = (lambda f=multiply, a=a, b=b: wait(f(a, b)), 2.0 * m * k * n)
    return found


def our_model(options: object) -> object:
    from kexue.models import Transformer, TransformerConfig
    from kexue.tasks.pretraining.network import PretrainingModel
    from kexue.training.optimizers import AdamW

    config = TransformerConfig(
        vocabulary_size=VOCABULARY,
        hidden_size=options.width,
        num_layers=options.layers,
        num_heads=options.width // 64,
        intermediate_size=4 * options.width,
    )
    model = PretrainingModel(Transformer(config, head="lm"), ("mlm",))
    model.compile(AdamW(RATE, weight_decay=0.01, global_clipnorm=1.0))
    return model


def hub_model(options: object) -> object:
    import keras
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=options.layers,
        num_heads=options.width // 64,
        hidden_dim=options.width,
        intermediate_dim=4 * options.width,
        dropout=0.1,
    )
    model = keras_hub.models.BertMaskedLM(backbone, preprocessor=None)
    model.compile(
        optimizer=keras.optimizers.AdamW(RATE, weight_decay=0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
        jit_compile=os.environ["KERAS_BACKEND"] != "torch",
    )
    return model


def same_arrays(options: object, targets: int) -> tuple[Batch, tuple[Batch, np.ndarray, np.ndarray]]:
    """A batch of full rows for each library."""
    rng = np.random.default_rng(0)
    shape = (options.rows, options.length)
    ids = rng.integers(106, VOCABULARY, shape).astype("int32")
    places = np.sort(
        rng.permuted(np.tile(np.arange(options.length, dtype="int32"), (shape[0], 1)), axis=1)[:, :targets]
    )
    wanted = np.take_along_axis(ids, places, 1)
    np.put_along_axis(ids, places, 103, 1)
    common = {"token_ids": ids, "segment_ids": np.zeros_like(ids)}
    ones = np.ones(shape, "int32")
    ours = common | {
        "padding_mask": ones.astype(bool),
        "document_ids": ones,
        "target_positions": places,
        "target_ids": wanted,
        "target_weights": np.ones(wanted.shape, "float32"),
        "objective": np.zeros((shape[0], 1), "int32"),
    }
    theirs = common | {"padding_mask": ones, "mask_positions": places}
    return ours, (theirs, wanted, np.ones(wanted.shape, "float32"))


def paragraphs(name: str, count: int) -> list[str]:
    """The first paragraphs of a corpus."""
    from kexue.text.corpus import read_corpus

    found: list[str] = []
    for document in read_corpus(data_folder() / "corpora" / name):
        found += [line for text in document for line in text.split("\n") if line.strip()]
        if len(found) >= count:
            break
    return found[:count]


def our_batches(texts: list[str], options: object, folder: str) -> Callable[[], Iterator[Batch]]:
    from pathlib import Path

    from kexue.models import TransformerConfig
    from kexue.tasks import Pretrainer
    from kexue.text import Tokenizer
    from kexue.text.corpus import build_shards

    tokenizer = Tokenizer.from_vocab(data_folder() / VOCABULARY_FILE)
    path = Path(folder) / "text.txt"
    path.write_text("\n\n".join(texts), encoding="utf-8")
    shards = build_shards({"text": path}, tokenizer, Path(folder) / "shards", holdout=0.0, progress=False)
    tiny = TransformerConfig(
        vocabulary_size=VOCABULARY, hidden_size=8, num_layers=1, num_heads=1, intermediate_size=8
    )  # only its batches are used
    trainer = Pretrainer(tiny, tokenizer, length=options.length)

    data = trainer._batches(shards, "train", options.rows, 0, options.steps)
    return lambda: (data[index][0] for index in range(options.steps))


def hub_batches(texts: list[str], options: object, targets: int) -> Callable[[], Iterator[tuple[object, ...]]]:
    import keras_hub
    import tensorflow as tf

    words = (data_folder() / VOCABULARY_FILE).read_text(encoding="utf-8").rstrip("\n").split("\n")
    preprocessor = keras_hub.models.BertMaskedLMPreprocessor(
        keras_hub.models.BertTokenizer(vocabulary=words, lowercase=True),
        sequence_length=options.length,
        mask_selection_length=targets,
    )

    data = tf.data.Dataset.from_tensor_slices(texts).repeat().batch(options.rows)
    data = data.map(preprocessor, num_parallel_calls=tf.data.AUTOTUNE).take(options.steps).prefetch(tf.data.AUTOTUNE)
    return data.as_numpy_iterator  # the graph of the preprocessor is made once, as in `fit`


def same_text(options: object, ours: object, hub: object, targets: int) -> list[tuple[str, ...]]:
    """Rows of the table: real tokens a second of both, with the making of batches."""
    import tempfile

    texts = paragraphs(options.corpus, options.rows * options.steps)
    with tempfile.TemporaryDirectory() as folder:
        packed, padded = our_batches(texts, options, folder), hub_batches(texts, options, targets)
        real = {
            "kexue": sum(int(batch["padding_mask"].sum()) for batch in packed()),
            "KerasHub": sum(int(np.sum(x["padding_mask"])) for x, _, _ in padded()),
        }
        seconds = in_turns(
            {
                "kexue": lambda: [ours.train_on_batch(batch) for batch in packed()],
                "KerasHub": lambda: [hub.train_on_batch(x, y, sample_weight=w) for x, y, w in padded()],
            },
            options.text_rounds,
            warm=1,
        )
    cells = options.rows * options.length * options.steps
    rate = {name: real[name] / median(seconds[name]) for name in real}
    return [
        (name, f"{real[name] / cells:.3f}", f"{rate[name]:.0f}", f"{rate['kexue'] / rate[name]:.2f}") for name in rate
    ]


def main() -> None:
    parser = arguments(__doc__)
    for name, value, text in (
        ("rows", 32, "of a batch"),
        ("length", 128, "of a row"),
        ("layers", 12, "of the model"),
        ("width", 768, "of the model, a multiple of 64"),
        ("rounds", 7, "of single steps"),
        ("steps", 8, "in a round of the same text"),
        ("text-rounds", 3, "of the same text; 0: none"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=text)
    parser.add_argument("--corpus", default="laws.txt.xz", help="in corpora/ of the data sets")
    options = parser.parse_args()
    import kexue  # noqa: F401  chooses the backend
    from kexue.tasks.pretraining.objectives import MaskedLM

    targets = MaskedLM().room(options.length)
    ours, hub = our_model(options), hub_model(options)
    batch, (x, y, weight) = same_arrays(options, targets)
    rates = products(options)
    seconds = in_turns(
        {name: function for name, (function, _) in rates.items()}
        | {
            "kexue": lambda: ours.train_on_batch(batch),
            "KerasHub": lambda: hub.train_on_batch(x, y, sample_weight=weight),
        },
        options.rounds,
    )
    speed = {name: flops / median(seconds[name]) for name, (_, flops) in rates.items()}
    peak = max(speed.values())
    flops, tokens = ours.flops(options.rows, options.length, MaskedLM()), options.rows * options.length
    rows = [(name, f"{median(seconds[name]):.4f}", "", f"{value / 1e9:.1f}", "", "") for name, value in speed.items()]
    for name in ("kexue", "KerasHub"):
        took = median(seconds[name])
        rate, ratio = flops / took, took / median(seconds["kexue"])
        rows.append(
            (name, f"{took:.4f}", f"{tokens / took:.0f}", f"{rate / 1e9:.1f}", f"{rate / peak:.1%}", f"{ratio:.2f}")
        )
    header = ("work", "median s", "tokens/s", "GFLOP/s", "of the best product", "kexue's rate over this one's")
    body = (
        f"Keras backend {os.environ['KERAS_BACKEND']}; {options.layers} layers of {options.width}, batch "
        f"{options.rows} x {options.length}, {targets} targets a row. Same arrays, {flops / 1e9:.0f} GFLOP a step:\n\n"
    ) + table(header, rows)
    text = options.text_rounds and (data_folder() / VOCABULARY_FILE).exists()
    if text and (data_folder() / "corpora" / options.corpus).exists():
        body += f"\n\nSame text, the paragraphs of {options.corpus}, batches made on the way:\n\n"
        header = ("library", "share of real tokens", "real tokens/s", "kexue's rate over this one's")
        body += table(header, same_text(options, ours, hub, targets))
    publish("pretraining", "A pretraining step", "python -m benchmarks.pretraining", body, options.write)


if __name__ == "__main__":
    main()
