"""Mask rules as PyTorch FlexAttention wants them."""

from collections.abc import Callable
from typing import Any

from keras import ops

from kexue.nn import masks

__all__ = ["mask_mod"]


def mask_mod(mask: masks.Mask, length: int, **facts: Any) -> Callable[[Any, Any, Any, Any], Any]:
    """``mask_mod(batch, head, query, key)`` for ``torch.nn.attention.flex_attention.create_block_mask``.

    Args:
        mask: the rule.
        length: number of queries and keys.
        **facts: ``segment_ids``, ``document_ids``, ``order`` and ``padding_mask`` as `Mask.dense` takes them; tensors.
    """
    padding = facts.pop("padding_mask", None)
    padding = None if padding is None else ops.cast(padding, "bool")
    if facts.get("document_ids") is not None:
        mask = mask & masks.SameDocument()
    query, key = masks.tokens(mask, length, **facts)

    def pick(side: masks.Tokens, batch: Any, place: Any) -> masks.Tokens:
        values: dict[str, Any] = {"index": place}
        for name in masks.Tokens.FIELDS[1:]:
            value = getattr(side, name)
            if value is not None:
                values[name] = value[batch if value.shape[0] > 1 else 0, place]
        return masks.Tokens(**values)

    def visible(batch: Any, head: Any, q: Any, k: Any) -> Any:
        seen = mask.rule(pick(query, batch, q), pick(key, batch, k))
        return seen if padding is None else seen & padding[batch, k]

    return visible
