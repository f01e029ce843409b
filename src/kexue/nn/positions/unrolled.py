"""Positions that are computed one after another from the first one: base of recursive positions and FLOATER."""

from typing import Any

from keras import ops

from kexue.errors import ConfigError
from kexue.nn import initializers
from kexue.nn.positions.base import PositionEncoding, Sizes

__all__ = ["UnrolledPosition"]


class UnrolledPosition(PositionEncoding):
    """``x + p[position]`` with ``p[0]`` trained and ``p[k + 1] = advance(p[k], k)``, all in float32.

    The weights do not depend on the length: ``max_length`` says how many rows are unrolled in a forward pass, one
    after another, and may be raised afterwards (``config.replace(position_options={"max_length": ...})``).

    Subclasses define `advance`, and `build_step` for its weights.

    Args:
        max_length: number of positions.
        initializer: of ``p[0]``; see `kexue.nn.initializers.make`.
    """

    def __init__(self, max_length: int, initializer: float | dict[str, int] = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if max_length < 1:
            raise ConfigError(f"max_length must be at least 1. Received: max_length={max_length}")
        self.max_length, self.initializer = max_length, initializer

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "UnrolledPosition":
        return cls(**{"max_length": sizes.max_length, "initializer": sizes.initializer} | options)

    @property
    def limit(self) -> int | None:
        """Longest sequence, or None."""
        return self.max_length

    def weight(self, name: str, shape: tuple[int, ...], initializer: Any) -> Any:
        """A float32 weight that Keras does not cast to the compute dtype."""
        return self.add_weight(shape=shape, initializer=initializer, dtype="float32", autocast=False, name=name)

    def build(self, x_shape: Any = None, *_: Any, **__: Any) -> None:
        width = x_shape[-1]
        self.first = self.weight("first", (1, width), self.start)
        self.build_step(width)
        self.built = True

    def start(self, shape: Any, dtype: Any = None) -> Any:
        """Initial value of ``p[0]``."""
        return initializers.make(self.initializer)(shape, dtype=dtype)

    def build_step(self, width: int) -> None:
        """Make the weights of `advance`."""
        raise NotImplementedError

    def advance(self, row: Any, k: Any) -> Any:
        """``p[k]`` ``(1, width)`` to ``p[k + 1]``; ``k`` is a float32 scalar."""
        raise NotImplementedError

    def rows(self) -> Any:
        """All positions ``(max_length, width)``, float32."""

        def step(row: Any, k: Any) -> tuple[Any, Any]:
            return self.advance(row, k), row

        counts = ops.arange(self.max_length, dtype="float32")
        _, rows = ops.scan(step, ops.convert_to_tensor(self.first), counts)
        return rows[:, 0]

    def embed(self, x: Any, position_ids: Any, **facts: Any) -> Any:
        return x + ops.cast(ops.take(self.rows(), ops.cast(position_ids, "int32"), axis=0), x.dtype)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"max_length": self.max_length, "initializer": self.initializer}
