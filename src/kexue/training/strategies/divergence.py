"""How far two outputs of a model are from each other."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["Divergence"]


@dataclass(frozen=True)
class Divergence:
    """``KL(p || q)`` of the distributions that two outputs of a model stand for.

    - ``"softmax"``: summed over the classes on the last axis, mean over all other axes.
    - ``"sigmoid"``: of each number's Bernoulli distribution, summed over all axes but the first, mean over the first.

    Sample weights multiply before the mean, as in Keras losses: with weights (batch, length), padded places whose
    weight is 0 do not count.

    Args:
        kind: of distributions.
        from_logits: False: the outputs are probabilities.
        output: name or number of the output, for a model with several.
    """

    kind: str
    from_logits: bool = True
    output: str | int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("softmax", "sigmoid"):
            raise ConfigError(f"kind must be 'softmax' or 'sigmoid'. Received: kind={self.kind!r}")

    def check(self, model: keras.Model) -> None:
        """Raise ConfigError for a model that lacks the output."""
        if isinstance(model, keras.Sequential) or not hasattr(model, "_outputs_struct"):
            return
        self._pick(model._outputs_struct)

    def _pick(self, outputs: Any) -> Any:
        if self.output is not None:
            try:
                return outputs[self.output]
            except (KeyError, IndexError, TypeError):
                names: Any = list(outputs) if isinstance(outputs, dict) else len(keras.tree.flatten(outputs))
                raise ConfigError(f"the model has no output {self.output!r}. It has: {names}") from None
        leaves = keras.tree.flatten(outputs)
        if len(leaves) != 1:
            names = list(outputs) if isinstance(outputs, dict) else f"{len(leaves)} outputs"
            raise ConfigError(f"the model has several outputs: say which with output=. It has: {names}")
        return leaves[0]

    def _logits(self, outputs: Any) -> Any:
        x = ops.cast(self._pick(outputs), "float32")
        if self.from_logits:
            return x
        x = ops.clip(x, 1e-7, 1.0 - 1e-7)
        return ops.log(x) if self.kind == "softmax" else ops.log(x) - ops.log1p(-x)

    def __call__(self, problem: Any, p: Any, q: Any) -> Any:
        """The scalar, of the outputs of two passes over the batch of ``problem``."""
        p, q = self._logits(p), self._logits(q)
        if self.kind == "softmax":
            log_p, log_q = ops.log_softmax(p), ops.log_softmax(q)
            each = ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)
        else:
            each = ops.sigmoid(p) * (p - q) + ops.softplus(q) - ops.softplus(p)
            each = ops.sum(ops.reshape(each, (ops.shape(each)[0], -1)), axis=-1)
        weight = problem.sample_weight
        if isinstance(weight, dict | list | tuple):
            weight = self._pick(weight)
        if weight is not None:
            weight = ops.cast(weight, "float32")
            if len(weight.shape) <= len(each.shape):
                each = each * ops.reshape(weight, (*ops.shape(weight), *[1] * (len(each.shape) - len(weight.shape))))
        return ops.mean(each)
