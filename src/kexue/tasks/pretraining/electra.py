"""ELECTRA: a small generator fills masked tokens, and the network that is wanted tells which of them it changed."""

from collections.abc import Mapping
from math import gcd
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig, surgery
from kexue.tasks.pretraining.flops import training_flops
from kexue.tasks.pretraining.network import PretrainingModel, perplexities
from kexue.tasks.pretraining.objectives import Objective

__all__ = ["ElectraMetrics", "ElectraModel", "generator_config", "with_shared_embeddings"]

_EMBEDDINGS = ("token_embedding", "segment_embedding", "position_embedding", "embedding_norm")


def generator_config(config: TransformerConfig) -> TransformerConfig:
    """A generator for the discriminator ``config``: as deep, its blocks a quarter to a third as wide.

    It has a third of the heads (1 at least), of the same size where there are three or more, so that 12 heads of width
    768 become 4 of 256 and 4 heads of 256 become 1 of 64, as in the paper. Embeddings keep their width and are
    projected, so that both networks can have the same.
    """
    heads, old = max(config.num_heads // 3, 1), config.hidden_size // config.num_heads
    size = old if config.num_heads >= 3 else config.hidden_size // 4
    size = max(size // 2 * 2, 2)  # rotary positions turn pairs

    def scaled(inner: int | None) -> int | None:
        return None if inner is None else max(inner * size // old // 2 * 2, 2)

    return config.replace(
        hidden_size=heads * size,
        num_heads=heads,
        key_size=None if config.key_size is None else max(config.key_size * size * heads // config.hidden_size, 2),
        value_size=None
        if config.value_size is None
        else max(config.value_size * size * heads // config.hidden_size, 2),
        key_heads=None if config.key_heads is None else gcd(config.key_heads, heads),
        intermediate_size=max(config.intermediate_size * heads * size // config.hidden_size, 1),
        embedding_size=config.embedding_dim,
        embedding_projection=None,
    )


def with_shared_embeddings(generator: Transformer, discriminator: Transformer) -> keras.Model:
    """The generator with the discriminator's layers of embeddings in place of its own, where the sizes are the same.

    These are the tables of tokens, segments and positions and the norm of their sum, as in the authors' code.

    Raises:
        ConfigError: the two have different vocabularies.
    """
    sizes = generator.config.vocabulary_size, discriminator.config.vocabulary_size
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"generator and discriminator need one vocabulary. Received: {sizes[0]} and {sizes[1]} tokens"
        )
    names = {layer.name for layer in generator.layers} & {layer.name for layer in discriminator.layers}
    shared = [
        name
        for name in _EMBEDDINGS
        if name in names
        and [w.shape for w in generator.get_layer(name).weights]
        == [w.shape for w in discriminator.get_layer(name).weights]
    ]
    if not shared:
        return generator
    return surgery.replace(generator, shared, lambda old: discriminator.get_layer(old.name), name="generator")


class ElectraMetrics(keras.metrics.Metric):
    """Losses of both networks, the generator's accuracy over the targets, and what the discriminator finds.

    Of all real tokens, ``discriminator_accuracy`` is the part told right; ``discriminator_precision`` the part of those
    called replaced that are, ``discriminator_recall`` the part of the replaced ones that are called so. 0 where there
    are none.

    Args:
        weight: of the discriminator's loss.
    """

    def __init__(self, weight: float) -> None:
        super().__init__(name="electra", dtype="float32")
        self.weight = weight
        self.sums = self.add_variable(shape=(9,), initializer="zeros", name="sums")

    def update_state(self, outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        """Add a batch."""
        targets = ops.cast(inputs["target_weights"], "float32")
        real = ops.cast(inputs["padding_mask"], "float32")
        replaced = outputs["replaced"]
        called = ops.cast(outputs["discriminator_logits"] > 0, "float32")
        sums = [
            *(ops.sum(outputs[name] * targets) for name in ("losses", "hits")),
            ops.sum(targets),
            ops.sum(outputs["discriminator_losses"] * real),
            ops.sum(ops.cast(ops.equal(called, replaced), "float32") * real),
            ops.sum(real),
            *(ops.sum(x * real) for x in (called * replaced, called, replaced)),
        ]
        self.sums.assign(self.sums + ops.stack(sums))

    def result(self) -> dict[str, Any]:
        """Means; 0 where nothing was seen."""
        s = [self.sums[i] for i in range(9)]
        targets, tokens, called, replaced = (ops.maximum(s[i], 1.0) for i in (2, 5, 7, 8))
        return {
            "loss": s[0] / targets + self.weight * s[3] / tokens,
            "generator_loss": s[0] / targets,
            "generator_accuracy": s[1] / targets,
            "discriminator_loss": s[3] / tokens,
            "discriminator_accuracy": s[4] / tokens,
            "discriminator_precision": s[6] / called,
            "discriminator_recall": s[6] / replaced,
        }


class ElectraModel(PretrainingModel):
    """Trains a generator and a discriminator together.

        loss = mean over targets of -log p_G(x_t) + weight * mean over real tokens of BCE(D(x')_t, x'_t != x_t)

    x' is the text x with a sample of p_G (temperature 1) at each target; a sample that hits the token itself counts as
    original. Nothing flows from the discriminator's loss through the samples; embeddings that both networks share
    receive both gradients.

    In training, samples come from a generator of random numbers whose state is a variable of the model; outside, they
    depend on the batch alone, so that validations compare and leave no trace.

    Args:
        discriminator: with the head ``discriminator``.
        generator: with the head ``lm``, such as from `with_shared_embeddings`.
        config: of the generator, where it is no `Transformer`.
        weight: of the discriminator's loss.

    Source: Clark et al., "ELECTRA", arXiv 2003.10555.
    """

    def __init__(
        self,
        discriminator: Transformer,
        generator: keras.Model,
        config: TransformerConfig | None = None,
        weight: float = 50.0,
    ) -> None:
        super().__init__(generator, ("electra",), config)
        self.discriminator, self.weight = discriminator, weight
        self.target_metrics = ElectraMetrics(weight)
        self.random = keras.random.SeedGenerator(0)

    @property
    def columns(self) -> list[str]:
        return list(self.target_metrics.result())

    def scores(self, logs: Mapping[str, Any]) -> dict[str, float]:
        found = {key: float(value) for key, value in logs.items() if key != "loss"}
        return found | perplexities({"generator_loss": found["generator_loss"]})

    def flops(self, rows: int, length: int, objective: Objective) -> float:
        own = training_flops(self.discriminator, rows, length, 0)
        return own + super().flops(rows, length, objective)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        logits = self.logits(inputs, training)
        samples = self.sample(logits, inputs, training)
        return self.compare(logits, inputs["target_ids"]) | self.judge(inputs, samples, training)

    def sample(self, logits: Any, inputs: Mapping[str, Any], training: bool) -> Any:
        """A token for each target, (batch, targets) int32: the greatest of logits with Gumbel noise."""
        logits = ops.stop_gradient(ops.cast(logits, "float32"))
        state = self.random.state
        before = ops.copy(state.value)
        if not training:
            number = ops.sum(ops.cast(inputs["original_ids"], "int32"))
            state.assign(ops.cast(ops.stack([number, ops.zeros_like(number)]), state.dtype))
        noise = keras.random.uniform(ops.shape(logits), 1e-9, 1.0, dtype="float32", seed=self.random)
        if not training:
            state.assign(before)
        return ops.cast(ops.argmax(logits - ops.log(-ops.log(noise)), axis=-1), "int32")

    def judge(self, inputs: Mapping[str, Any], samples: Any, training: bool = False) -> dict[str, Any]:
        """What the discriminator says of the text with ``samples`` at the targets.

        Returns:
            ``replaced`` (batch, length) float32, 1 where the sample is another token; ``discriminator_logits`` and
            ``discriminator_losses`` of the same shape.
        """
        original = ops.cast(inputs["original_ids"], "int32")
        places = ops.one_hot(ops.cast(inputs["target_positions"], "int32"), original.shape[1], dtype="int32")
        places = places * ops.cast(ops.expand_dims(inputs["target_weights"], -1) > 0, "int32")
        put = ops.sum(places * ops.expand_dims(samples, -1), axis=1)
        token_ids = ops.where(ops.sum(places, axis=1) > 0, put, original)
        replaced = ops.cast(ops.not_equal(token_ids, original), "float32")
        facts = {name: inputs[name] for name in self.facts} | {"token_ids": token_ids}
        logits = self.discriminator(facts, training=training)["discriminator_logits"]
        losses = ops.softplus(logits) - logits * replaced
        return {"replaced": replaced, "discriminator_logits": logits, "discriminator_losses": losses}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        real = ops.cast(x["padding_mask"], "float32")
        found = ops.sum(y_pred["discriminator_losses"] * real) / (ops.sum(real) + 1e-7)
        return super().compute_loss(x, y, y_pred, sample_weight, training) + self.weight * found
