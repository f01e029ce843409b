"""Layer normalisation and RMS normalisation, with an optional condition.

Conditional layer norm (kexue.fm article 7124): gain and offset become ``gain + condition @ A`` and
``offset + condition @ B``. A and B start at zero, so that a pretrained model is reproduced exactly until they are
trained. With a hidden size, each norm takes ``c' = act(condition @ W)`` instead of the condition; W starts random, as
two zero matrices in a row would never get a gradient.
"""

from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError
from kexue.nn import activations, taps

__all__ = ["LayerNorm", "RMSNorm", "make_norm"]


class _Norm(keras.layers.Layer):
    def __init__(
        self,
        epsilon: float = 1e-12,
        scale: bool = True,
        offset: bool = True,
        condition_size: int | None = None,
        condition_hidden_size: int | None = None,
        condition_activation: str = "linear",
        **kwargs: Any,
    ) -> None:
        # Nothing is rounded to the compute dtype before its use: inputs here, gain and bias in `build`.
        super().__init__(autocast=False, **kwargs)
        if epsilon <= 0:
            raise ConfigError(f"epsilon must be positive. Received: epsilon={epsilon}")
        if condition_hidden_size is not None and condition_size is None:
            raise ConfigError("condition_hidden_size needs a condition_size.")
        self.epsilon, self.scale, self.offset, self.condition_size = epsilon, scale, offset, condition_size
        self.condition_hidden_size, self.condition_activation = condition_hidden_size, condition_activation
        self._act = activations.get(condition_activation)
        self.supports_masking = True

    def build(self, x_shape: Any, condition_shape: Any = None) -> None:
        size = x_shape[-1]

        def weight(name: str, shape: tuple[int, ...], initializer: str) -> Any:
            return self.add_weight(shape=shape, initializer=initializer, name=name, autocast=False)

        self.gain = weight("gain", (size,), "ones") if self.scale else None
        self.bias = weight("bias", (size,), "zeros") if self.offset else None
        self.gain_kernel = self.bias_kernel = self.condition_kernel = None
        if self.condition_size is not None:
            inner = self.condition_size
            if self.condition_hidden_size is not None:
                inner = self.condition_hidden_size
                self.condition_kernel = weight("condition_kernel", (self.condition_size, inner), "glorot_uniform")
            self.gain_kernel = weight("gain_kernel", (inner, size), "zeros")
            self.bias_kernel = weight("bias_kernel", (inner, size), "zeros")
        self.built = True

    def _affine(self, x: Any, condition: Any) -> Any:
        x = taps.offer(self, "normalized", x)
        gain = None if self.gain is None else ops.cast(self.gain, "float32")
        bias = None if self.bias is None else ops.cast(self.bias, "float32")
        if condition is not None:
            if self.condition_size is None:
                raise ConfigError("a condition was given to a norm that was built without condition_size.")
            condition = ops.cast(condition, "float32")
            if len(condition.shape) == 2:  # one condition a sequence: (batch, 1, size)
                condition = ops.expand_dims(condition, 1)
            if self.condition_kernel is not None:
                condition = self._act(ops.matmul(condition, ops.cast(self.condition_kernel, "float32")))
            gain = (1.0 if gain is None else gain) + ops.matmul(condition, ops.cast(self.gain_kernel, "float32"))
            bias = (0.0 if bias is None else bias) + ops.matmul(condition, ops.cast(self.bias_kernel, "float32"))
        if gain is not None:
            x = x * gain
        return x if bias is None else x + bias

    def compute_output_spec(self, x: Any, condition: Any = None) -> Any:
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "epsilon": self.epsilon,
            "scale": self.scale,
            "offset": self.offset,
            "condition_size": self.condition_size,
            "condition_hidden_size": self.condition_hidden_size,
            "condition_activation": self.condition_activation,
        }


@keras.saving.register_keras_serializable(package="kexue")
class LayerNorm(_Norm):
    """``(x - mean) / sqrt(variance + epsilon) * gain + bias`` over the last axis, in float32, biased variance.

    Args:
        epsilon: 1e-12 in BERT.
        scale: has a gain.
        offset: has a bias.
        condition_size: size of the condition vectors, see the module.
        condition_hidden_size: size of c', see the module; None: c' is the condition.
        condition_activation: of c'.

    Call arguments:
        x: ``(batch, length, size)``.
        condition: ``(batch, condition_size)``, or ``(batch, length, condition_size)`` for one a token.

    Source: Ba et al., arXiv 1607.06450; the condition: kexue.fm article 7124.
    """

    def call(self, x: Any, condition: Any = None) -> Any:
        x = ops.cast(x, "float32")
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.mean(ops.square(centred), axis=-1, keepdims=True)
        return ops.cast(self._affine(centred * ops.rsqrt(variance + self.epsilon), condition), self.compute_dtype)


@keras.saving.register_keras_serializable(package="kexue")
class RMSNorm(_Norm):
    """``x / sqrt(mean(x^2) + epsilon) * gain`` over the last axis, in float32; arguments as in `LayerNorm`.

    Source: Zhang and Sennrich, arXiv 1910.07467; without gain in RoFormerV2 (kexue.fm article 8998).
    """

    def __init__(self, epsilon: float = 1e-7, scale: bool = True, offset: bool = False, **kwargs: Any) -> None:
        super().__init__(epsilon=epsilon, scale=scale, offset=offset, **kwargs)

    def call(self, x: Any, condition: Any = None) -> Any:
        x = ops.cast(x, "float32")
        square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return ops.cast(self._affine(x * ops.rsqrt(square + self.epsilon), condition), self.compute_dtype)


def make_norm(kind: str, **kwargs: Any) -> LayerNorm | RMSNorm:
    """``"layer"`` or ``"rms"``; keyword arguments go to the layer."""
    kinds = {"layer": LayerNorm, "rms": RMSNorm}
    if kind not in kinds:
        raise ConfigError(f"norm must be one of {sorted(kinds)}. Received: norm={kind!r}")
    return kinds[kind](**kwargs)
