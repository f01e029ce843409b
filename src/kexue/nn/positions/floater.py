"""FLOATER: positions as the path of a dynamical system, ``p(t) = p(0) + integral of h(s, p(s)) from 0 to t``.

Position k stands at time ``k * interval``. Between positions the path is followed by Runge-Kutta or Euler steps of
fixed size, the same for all positions. ``h(p) = p A`` with A of skew 2 x 2 blocks gives the sinusoidal encoding, up to
the error of the steps.

Source: kexue.fm article 8130; Liu et al., arXiv 2003.09229. Here the path is added to the embeddings, once; the paper
also adds it inside each block.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.positions.frequencies import frequencies
from kexue.nn.positions.unrolled import UnrolledPosition

__all__ = ["FloaterPosition", "integrate"]


def integrate(h: Callable[[Any, Any], Any], p: Any, time: Any, span: float, steps: int = 1, method: str = "rk4") -> Any:
    """Follow ``dp/dt = h(t, p)`` from ``time`` to ``time + span``.

    Args:
        h: of time and state.
        p: state at ``time``, any array.
        time: scalar.
        span: how far.
        steps: number of equal steps.
        method: ``"rk4"`` (error of order 4 in the size of a step) or ``"euler"`` (1).

    Returns:
        The state at ``time + span``.
    """
    if method not in ("rk4", "euler"):
        raise ConfigError(f"method must be 'rk4' or 'euler'. Received: method={method!r}")
    size = span / steps
    for i in range(steps):
        t = time + i * size
        a = h(t, p)
        if method == "euler":
            p = p + size * a
            continue
        b = h(t + size / 2, p + size / 2 * a)
        c = h(t + size / 2, p + size / 2 * b)
        d = h(t + size, p + size * c)
        p = p + size / 6 * (a + 2 * b + 2 * c + d)
    return p


@keras.saving.register_keras_serializable(package="kexue")
class FloaterPosition(UnrolledPosition):
    """``x + p(interval * position)``; see the module.

    - ``dynamics="mlp"``: ``h(t, p) = tanh(p W_1 + t w + b_1) W_2 + b_2``.
    - ``dynamics="skew"``: ``h(t, p) = p (W - W^T)``, which keeps the norm; W starts so that the path is the sinusoidal
      encoding of ``base`` (``amplitude`` of its first row included), with ``interval`` 1.

    Args:
        max_length: number of positions unrolled; see `UnrolledPosition`.
        dynamics: ``"mlp"`` or ``"skew"``.
        method: ``"rk4"`` or ``"euler"``.
        steps: between two positions.
        interval: of time between two positions; 0.1 for ``"mlp"`` as in the paper, 1 for ``"skew"``.
        amplitude: of the sinusoids that ``"skew"`` starts with.
        base: of their frequencies.
        initializer: of ``p(0)`` with ``"mlp"``.
    """

    def __init__(
        self,
        max_length: int,
        dynamics: str = "mlp",
        method: str = "rk4",
        steps: int = 1,
        interval: float | None = None,
        amplitude: float = 1.0,
        base: float = 10000.0,
        initializer: float | dict[str, int] = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(max_length, initializer, **kwargs)
        if dynamics not in ("mlp", "skew"):
            raise ConfigError(f"dynamics must be 'mlp' or 'skew'. Received: dynamics={dynamics!r}")
        if method not in ("rk4", "euler"):
            raise ConfigError(f"method must be 'rk4' or 'euler'. Received: method={method!r}")
        if steps < 1:
            raise ConfigError(f"steps must be at least 1. Received: steps={steps}")
        self.dynamics, self.method, self.steps = dynamics, method, steps
        self.interval = (0.1 if dynamics == "mlp" else 1.0) if interval is None else interval
        self.amplitude, self.base = amplitude, base

    def start(self, shape: Any, dtype: Any = None) -> Any:
        if self.dynamics == "mlp":
            return super().start(shape, dtype)
        return ops.convert_to_tensor(self.amplitude * (np.arange(shape[1])[None] % 2), dtype=dtype)  # sin 0, cos 0 ...

    def build_step(self, width: int) -> None:
        if self.dynamics == "skew":
            self.generator = self.weight("generator", (width, width), self._sinusoidal)
            return
        self.inner = self.weight("inner_kernel", (width, width), "orthogonal")
        self.clock = self.weight("clock", (width,), keras.initializers.RandomNormal(stddev=0.02))
        self.inner_bias = self.weight("inner_bias", (width,), "zeros")
        self.outer = self.weight("outer_kernel", (width, width), "orthogonal")
        self.outer_bias = self.weight("outer_bias", (width,), "zeros")

    def _sinusoidal(self, shape: Any, dtype: Any = None) -> Any:
        matrix, theta = np.zeros(shape), frequencies(shape[0], self.base)
        even = np.arange(0, shape[0], 2)
        matrix[even + 1, even] = theta / 2  # d sin = theta cos, d cos = -theta sin
        matrix[even, even + 1] = -theta / 2
        return ops.convert_to_tensor(matrix, dtype=dtype)

    def flow(self, time: Any, row: Any) -> Any:
        """``h(time, row)``."""
        if self.dynamics == "skew":
            w = ops.convert_to_tensor(self.generator)
            return ops.matmul(row, w - ops.transpose(w))
        inside = ops.matmul(row, self.inner) + time * ops.convert_to_tensor(self.clock) + self.inner_bias
        return ops.matmul(ops.tanh(inside), self.outer) + self.outer_bias

    def advance(self, row: Any, k: Any) -> Any:
        return integrate(self.flow, row, k * self.interval, self.interval, self.steps, self.method)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "dynamics": self.dynamics,
            "method": self.method,
            "steps": self.steps,
            "interval": self.interval,
            "amplitude": self.amplitude,
            "base": self.base,
        }
