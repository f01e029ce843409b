"""Multiplicative absolute positions: ``x * p[position]``, p trained from 1.

Source: kexue.fm article 8130 (and 7946 on why a product may serve as well as a sum).
"""

from typing import Any

import keras
from keras import ops

from kexue.nn.positions.base import Sizes
from kexue.nn.positions.learned import LearnedPosition

__all__ = ["MultiplicativePosition"]


@keras.saving.register_keras_serializable(package="kexue")
class MultiplicativePosition(LearnedPosition):
    """``x * p[position + offset]``; p starts at 1, so that a model without positions is reproduced at first.

    Args:
        max_length: rows of the table, those before ``offset`` included.
        offset: added to each position.
    """

    def __init__(self, max_length: int, offset: int = 0, **kwargs: Any) -> None:
        super().__init__(max_length, offset, **kwargs)

    @classmethod
    def from_sizes(cls, sizes: Sizes, **options: Any) -> "MultiplicativePosition":
        return cls(**{"max_length": sizes.max_length, "offset": sizes.offset} | options)

    def start(self, shape: Any, dtype: Any = None) -> Any:
        return ops.ones(shape, dtype=dtype)

    def embed(self, x: Any, position_ids: Any, **facts: Any) -> Any:
        return x * ops.cast(self.lookup(ops.cast(position_ids, "int32") + self.offset), x.dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["initializer"], config["mode"]
        return config
