"""The network that is trained: a Transformer whose head looks at the targets only, and gives their losses."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kexue.models import TransformerConfig, surgery
from kexue.nn.losses import token_crossentropy
from kexue.tasks.pretraining.flops import products
from kexue.tasks.pretraining.objectives import MaskedLM, Objective

__all__ = ["PretrainingModel", "TargetMetrics"]

_FACTS = ("token_ids", "segment_ids", "padding_mask", "document_ids")


def at_positions(x: Any, positions: Any) -> Any:
    """``y[b, t] = x[b, positions[b, t]]``, (batch, targets, size); all positions in order when there are as many."""
    if positions.shape[1] is not None and positions.shape[1] == x.shape[1]:
        return x
    return ops.take_along_axis(x, ops.expand_dims(positions, -1), axis=1)


def perplexities(figures: Mapping[str, float]) -> dict[str, float]:
    """``exp(loss)`` of each loss."""
    losses = {key: value for key, value in figures.items() if key.endswith("_loss")}
    return {key.replace("_loss", "_perplexity"): math.exp(min(value, 700.0)) for key, value in losses.items()}


class TargetMetrics(keras.metrics.Metric):
    """Mean loss and accuracy over all targets, and of each objective where there are several.

    Args:
        names: of the objectives.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(name="targets", dtype="float32")
        self.names = tuple(names)
        self.sums = self.add_variable(shape=(len(self.names), 3), initializer="zeros", name="sums")

    def update_state(self, outputs: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
        """Add a batch."""
        weights = ops.cast(inputs["target_weights"], "float32")
        sums = [ops.sum(outputs["losses"] * weights), ops.sum(outputs["hits"] * weights), ops.sum(weights)]
        which = ops.one_hot(ops.cast(inputs["objective"][0, 0], "int32"), len(self.names), dtype="float32")
        self.sums.assign(self.sums + which[:, None] * ops.stack(sums)[None])

    def result(self) -> dict[str, Any]:
        """Means; 0 where nothing was seen."""
        rows = {"": ops.sum(self.sums, axis=0)}
        if len(self.names) > 1:
            rows |= {f"{name}_": self.sums[i] for i, name in enumerate(self.names)}
        logs: dict[str, Any] = {}
        for name, row in rows.items():
            count = ops.maximum(row[2], 1.0)
            logs |= {f"{name}loss": row[0] / count, f"{name}accuracy": row[1] / count}
        return logs


class PretrainingModel(keras.Model):
    """Trains ``transformer``, which has an ``lm`` head, on batches of objectives.

    Batches are dicts: the Transformer's inputs and ``target_positions``, ``target_ids``, ``target_weights``
    (batch, targets) and ``objective`` (batch, 1), the number of the objective in ``names``. The loss is the mean over
    the targets, ``sum w l / (sum w + 1e-7)``; the logs are those of `TargetMetrics`.

    Args:
        transformer: a `Transformer`, or a model of surgery with its names of layers and inputs.
        names: of the objectives.
        config: of ``transformer``, where it has none itself.
    """

    def __init__(self, transformer: keras.Model, names: Sequence[str], config: TransformerConfig | None = None) -> None:
        super().__init__(name="pretraining")
        self.transformer_config = transformer.config if config is None else config
        hidden = transformer.output["sequence_output"]
        self.body = surgery.Part(inputs=transformer.input, outputs=hidden, name="body")
        self.head = transformer.get_layer("lm_head")
        self.embedding = transformer.get_layer("token_embedding") if self.transformer_config.tie_embeddings else None
        self.facts = tuple(name for name in _FACTS if name in transformer.input)
        self.names = tuple(names)
        self.target_metrics: keras.metrics.Metric = TargetMetrics(names)
        self.built = True

    @property
    def columns(self) -> list[str]:
        """Names of the logs."""
        names = self.names
        each = [f"{name}_{value}" for name in names for value in ("loss", "accuracy")]
        return ["loss", "accuracy", *(each if len(names) > 1 else [])]

    def scores(self, logs: Mapping[str, Any]) -> dict[str, float]:
        """Figures of an evaluation under names that say what they are of; the perplexity ``exp(loss)`` too."""
        names = self.names
        if len(names) == 1:
            logs = {f"{names[0]}_{key}": value for key, value in logs.items()}
        found = {key: float(value) for key, value in logs.items() if key not in ("loss", "accuracy")}
        return found | perplexities(found)

    def flops(self, rows: int, length: int, objective: Objective) -> float:
        """Operations of a training step under ``objective``; see `training_flops`."""
        targets = objective.room(length) if isinstance(objective, MaskedLM) else length
        return products([*self.body.layers, self.head], self.transformer_config, rows, length, targets)

    def call(self, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        return self.compare(self.logits(inputs, training), inputs["target_ids"])

    def logits(self, inputs: Mapping[str, Any], training: bool) -> Any:
        """(batch, targets, vocabulary)."""
        hidden = self.body({name: inputs[name] for name in self.facts}, training=training)
        x = at_positions(hidden, inputs["target_positions"])
        return self.head(x) if self.embedding is None else self.head(x, table=self.embedding(x, table=True))

    def compare(self, logits: Any, ids: Any) -> dict[str, Any]:
        """``losses`` and ``hits`` of each target."""
        ids = ops.cast(ids, "int32")
        # Right where no logit is greater: on a CPU an argmax over the vocabulary takes as long as half the products.
        own = ops.take_along_axis(logits, ops.expand_dims(ids, -1), axis=-1)[..., 0]
        hits = ops.cast(own >= ops.max(logits, axis=-1), "float32")
        return {"losses": token_crossentropy(logits, ids)[0], "hits": hits}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        weights = ops.cast(x["target_weights"], "float32")
        return ops.sum(y_pred["losses"] * weights) / (ops.sum(weights) + 1e-7)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        self.target_metrics.update_state(y_pred, x)
        return self.target_metrics.result()
