"""BERT-base, batch 8, length 128, float32: forward pass and training step against KerasHub and transformers.

All in one process, in turns: kexue and KerasHub on the Keras backend in force (JAX by default), transformers on
PyTorch, eager. Random weights. A forward pass is measured twice: called directly, ``model(batch)``, as each library
does it by itself, and compiled by Keras, ``model.predict_on_batch(batch)``. A training step is AdamW on all weights
with dropout 0.1 and a token classifier of 10 classes, ``train_on_batch``.
"""

import os

import numpy as np

from benchmarks.report import arguments, in_turns, median, publish, table

BATCH, LENGTH, VOCABULARY, CLASSES = 8, 128, 21128, 10


def batch() -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(1, VOCABULARY, (BATCH, LENGTH)).astype("int32")
    return {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": np.ones(ids.shape, bool)}


def wait(value: object) -> object:
    """Until asynchronous results are there."""
    if os.environ["KERAS_BACKEND"] == "jax":
        import jax

        jax.block_until_ready(value)
    return value


def kexue_model() -> object:
    from kexue.models import Transformer, TransformerConfig

    config = TransformerConfig(
        vocabulary_size=VOCABULARY, hidden_size=768, num_layers=12, num_heads=12, intermediate_size=3072
    )
    return Transformer(config, head="pooler")


def hub_model() -> object:
    import keras_hub

    return keras_hub.models.BertBackbone(
        vocabulary_size=VOCABULARY, num_layers=12, num_heads=12, hidden_dim=768, intermediate_dim=3072, dropout=0.1
    )


def compiled(inputs: object, sequence: object) -> object:
    import keras

    model = keras.Model(inputs, keras.layers.Dense(CLASSES)(sequence))
    model.compile(keras.optimizers.AdamW(1e-5), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def transformers_steps(attention: str) -> tuple[object, object]:
    """A forward pass and a training step."""
    import torch
    from transformers import BertConfig, BertForTokenClassification

    config = BertConfig(vocab_size=VOCABULARY, num_labels=CLASSES, attn_implementation=attention)
    model = BertForTokenClassification(config)
    ids = torch.tensor(batch()["token_ids"].astype("int64"))
    mask = torch.ones_like(ids)
    labels = torch.randint(0, CLASSES, ids.shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

    def forward() -> None:
        model.eval()
        with torch.inference_mode():
            model.bert(input_ids=ids, attention_mask=mask)

    def train() -> float:
        model.train()
        optimizer.zero_grad()
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return forward, train


def forward_rows(rounds: int) -> list[tuple[str, ...]]:
    ours, hub, data = kexue_model(), hub_model(), batch()
    pytorch, _ = transformers_steps("eager")
    pytorch_sdpa, _ = transformers_steps("sdpa")
    seconds = in_turns(
        {
            "kexue, called": lambda: wait(ours(data)),
            "kexue, compiled": lambda: ours.predict_on_batch(data),
            "KerasHub, called": lambda: wait(hub(data)),
            "KerasHub, compiled": lambda: hub.predict_on_batch(data),
            "transformers, eager attention": pytorch,
            "transformers, sdpa attention": pytorch_sdpa,
        },
        rounds,
    )
    return with_ratios("forward", seconds, ("kexue, called", "kexue, compiled"))


def train_rows(rounds: int) -> list[tuple[str, ...]]:
    data = batch()
    labels = np.random.default_rng(1).integers(0, CLASSES, (BATCH, LENGTH))
    ours = kexue_model()
    inputs = {name: ours.input[name] for name in data}
    ours = compiled(inputs, ours(inputs)["sequence_output"])
    hub = hub_model()
    hub = compiled(hub.input, hub.output["sequence_output"])
    _, pytorch = transformers_steps("eager")
    _, pytorch_sdpa = transformers_steps("sdpa")
    seconds = in_turns(
        {
            "kexue": lambda: ours.train_on_batch(data, labels),
            "KerasHub": lambda: hub.train_on_batch(data, labels),
            "transformers, eager attention": pytorch,
            "transformers, sdpa attention": pytorch_sdpa,
        },
        rounds,
    )
    return with_ratios("training step", seconds, ("kexue",))


def with_ratios(what: str, seconds: dict[str, list[float]], ours: tuple[str, ...]) -> list[tuple[str, ...]]:
    """A row a library: median and least seconds, and our medians over its."""
    rows = []
    for name, values in seconds.items():
        ratios = [] if name in ours else [f"{median(seconds[own]) / median(values):.2f}" for own in ours]
        rows.append((what, name, f"{median(values):.3f}", f"{min(values):.3f}", " / ".join(ratios)))
    return rows


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    import kexue  # noqa: F401  chooses the backend

    rows = forward_rows(options.rounds) + train_rows(max(5, options.rounds // 2))
    body = (
        f"Keras backend {os.environ['KERAS_BACKEND']}. The last column is kexue's median over this row's (for the "
        "forward pass: called / compiled); below 1, kexue is the quicker one.\n\n"
    ) + table(("work", "library", "median s", "least s", "ratio"), rows)
    publish("speed", "BERT-base, batch 8, length 128", "python -m benchmarks.speed", body, options.write)


if __name__ == "__main__":
    main()
