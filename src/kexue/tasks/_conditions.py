"""The vector that conditions the norms of a text's encoder: checked, and paired with the text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.text.data.records import check_condition

__all__ = ["condition_batch", "condition_of", "texts_with_conditions"]


def condition_of(value: Any, size: int | None, where: str) -> np.ndarray | None:
    """``(size,)`` float32, or None where the model takes no condition.

    Args:
        value: what a record holds; None: nothing.
        size: of the conditions of the model; None: it takes none.
        where: names the record in messages.

    Raises:
        DataError: a condition that is missing, not wanted, not of numbers or of another length.
    """
    if value is None:
        if size is None:
            return None
        raise DataError(
            f"{where}: it has no condition, and the model takes one of condition_size={size} with every text. "
            f"Give 'condition': [{size} numbers]."
        )
    if size is None:
        raise DataError(
            f"{where}: it has a condition, and the model takes none. Leave 'condition' out, or build the model with "
            "condition_size."
        )
    try:
        numbers = check_condition(value)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if len(numbers) != size:
        raise DataError(
            f"{where}: the condition must have {size} numbers (the model's condition_size). Received: {len(numbers)}"
        )
    return np.asarray(numbers, np.float32)


def texts_with_conditions(texts: Any, conditions: Any, size: int | None) -> tuple[list[str], list[np.ndarray | None]]:
    """Texts and the condition of each.

    Args:
        texts: strings, or records ``{"text": str, "condition": [...]}``.
        conditions: one vector a text, ``(n, size)``; None: the records have them.
        size: see `condition_of`.

    Raises:
        DataError: names the text by its index.
        ConfigError: conditions for a model that takes none.
    """
    texts = list(texts)
    given: list[Any] = [None] * len(texts)
    if conditions is not None:
        if size is None:
            raise ConfigError(
                "conditions were given, and the model takes none. Leave them out, or build it with condition_size."
            )
        if isinstance(conditions, (str, Mapping)) or not np.iterable(conditions):
            raise DataError(f"conditions must be an array of shape (texts, {size}). Received: {conditions!r:.80}")
        given = list(conditions)
        if len(given) != len(texts):
            raise DataError(
                f"conditions must be one a text, of shape ({len(texts)}, {size}). Received: {len(given)} of them"
            )
    plain: list[str] = []
    vectors: list[np.ndarray | None] = []
    for index, (text, condition) in enumerate(zip(texts, given, strict=True)):
        where = f"text {index}"
        if isinstance(text, Mapping):
            own = text.get("condition")
            if own is not None and conditions is not None:
                raise DataError(
                    f"{where}: its record has a condition, and conditions= gives another. Give one of them."
                )
            text, condition = text.get("text"), own if conditions is None else condition  # noqa: PLW2901
        if not isinstance(text, str):
            raise DataError(
                f"{where}: expected a string or a record {{'text': str, ...}}. Received: {type(text).__name__}"
            )
        plain.append(text)
        vectors.append(condition_of(condition, size, where))
    return plain, vectors


def condition_batch(conditions: Sequence[np.ndarray | None], rows: int) -> dict[str, np.ndarray]:
    """The input ``condition`` ``(rows, condition_size)`` of a batch, zero in empty rows; {} where there is none."""
    first = conditions[0]
    if first is None:
        return {}
    batch = np.zeros((rows, len(first)), np.float32)
    batch[: len(conditions)] = conditions
    return {"condition": batch}
