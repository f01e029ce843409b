"""Pictures of attention masks: text for a terminal, matplotlib for a page."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.masks import Mask

__all__ = ["draw", "show"]


def _matrix(mask: Mask, length: int | None, row: int, facts: dict[str, Any]) -> np.ndarray:
    visible = ops.convert_to_numpy(mask.dense(length, **facts))[:, 0]
    if not 0 <= row < len(visible):
        raise ConfigError(f"row must be between 0 and {len(visible) - 1}, the rows of the batch. Received: row={row}")
    return visible[row]


def _check_labels(labels: Sequence[str] | None, count: int, side: str) -> None:
    if labels is not None and len(labels) != count:
        raise ConfigError(f"one label a {side} is needed: {count}. Received: {len(labels)} labels")


def show(
    mask: Mask, length: int | None = None, *, labels: Sequence[str] | None = None, row: int = 0, **facts: Any
) -> str:
    """The mask as text: one line a query, one column a key, ``■`` where the query may see the key.

    Args:
        mask: the rule.
        length: number of tokens; taken from the facts when left out.
        labels: a name for each token, printed before its line.
        row: which row of the batch.
        **facts: ``segment_ids``, ``document_ids``, ``order``, ``padding_mask`` ... as `Mask.dense` takes them.

    Example:
        >>> print(show(Causal(), 3))
        ■ · ·
        ■ ■ ·
        ■ ■ ■
    """
    visible = _matrix(mask, length, row, facts)
    names = [""] * len(visible) if labels is None else [f"{label}\t" for label in labels]
    _check_labels(labels, len(visible), "query")
    return "\n".join(
        name + " ".join("■" if seen else "·" for seen in line) for name, line in zip(names, visible, strict=True)
    )


def draw(
    mask: Mask,
    length: int | None = None,
    *,
    ax: Any = None,
    labels: Sequence[str] | None = None,
    row: int = 0,
    **facts: Any,
) -> Any:
    """Draw the mask on a matplotlib axis and return the axis; arguments as in `show`. Needs ``kexue[plot]``.

    ``labels`` name the keys; the queries have the labels of their places.
    """
    import matplotlib.pyplot as plt

    visible = _matrix(mask, length, row, facts)
    _check_labels(labels, visible.shape[1], "key")
    first = facts.get("query_offset", 0)
    queries = None if labels is None else list(labels)[first : first + len(visible)]
    if ax is None:
        _, ax = plt.subplots(figsize=(4, 4))
    ax.imshow(visible, cmap="Blues", vmin=0, vmax=1.4, interpolation="nearest")
    ax.set_xticks(np.arange(visible.shape[1]), labels=labels)
    ax.set_yticks(np.arange(visible.shape[0]), labels=queries)
    ax.set_xticks(np.arange(visible.shape[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(visible.shape[0] + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=1)
    ax.tick_params(which="minor", length=0)
    ax.set_xlabel("key")
    ax.set_ylabel("query")
    ax.set_title(repr(mask), fontsize=9)
    return ax
