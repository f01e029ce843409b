"""``kexue generate`` with a saved `ConditionalLM`."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kexue.cli._common import die
from kexue.decoding import Sample
from kexue.errors import ConfigError, DataError

__all__ = ["conditions_of", "records_of"]


def conditions_of(task: Any, labels: Sequence[str], conditions: Sequence[str]) -> list[tuple[dict[str, Any], Any]]:
    """What each record says of its condition, and the condition; all labels where none was named.

    Raises:
        ConfigError: labels for a task without, or nothing to condition on.
        DataError: an unknown label, or something that is no condition.
    """
    if task.labels is None:
        if labels:
            raise ConfigError("--label: this task has no labels; it takes --condition.")
        if not conditions:
            raise ConfigError(
                "this task needs --condition: a JSON list of numbers, or a .npy file with an array of shape "
                f"{task.source.row[0]}."
            )
        return [({"condition": text}, _array(text)) for text in conditions]
    if conditions:
        raise ConfigError(f"--condition: this task takes --label, one of {', '.join(map(repr, task.labels))}.")
    unknown = [label for label in labels if label not in task.labels]
    if unknown:
        raise DataError(f"--label: unknown label {unknown[0]!r}. Expected: {', '.join(map(repr, task.labels))}")
    return [({"label": label}, label) for label in labels or task.labels]


def _array(text: str) -> Any:
    if text.endswith(".npy"):
        try:
            return np.load(Path(text), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DataError(f"--condition: {text} is no array of NumPy ({error}).") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"--condition: expected a JSON list of numbers or a .npy file. Received: {text:.60}") from None
    if not isinstance(value, list):
        raise DataError(f"--condition: expected a JSON list of numbers. Received: {text:.60}")
    return value


def records_of(
    task: Any,
    wanted: Sequence[tuple[dict[str, Any], Any]],
    prompts: Sequence[str],
    search: Any,
    best: int,
    guidance: float,
    options: dict[str, Any],
) -> Iterator[tuple[dict[str, Any], bool]]:
    """A record for each condition and prompt, and whether it is the last because of Ctrl-C.

    Each has numbers of its own to draw from, whatever was asked for before it.
    """
    done = 0
    for named, condition in wanted:
        for prompt in prompts:
            this, count = search, 1
            if isinstance(search, Sample):
                this, count = replace(search, n=1, seed=int(search.seed) + done), best
            done += count
            found = task.generate([condition], this, n=count, guidance=guidance, prompt=prompt, **options)
            begun = task.tokenizer.encode(prompt)
            own = begun.token_ids[~begun.special].tolist()
            results = [
                {"text": task.tokenizer.decode(own + one.tokens), "score": round(one.score, 4), "reason": one.reason}
                for row in found.sequences
                for one in row
                if one.reason != "interrupted"
            ]
            if found.interrupted and not results:
                die("interrupted.", 130)
            yield named | ({"prompt": prompt} if prompt else {}) | {"results": results}, found.interrupted
            if found.interrupted:
                return
