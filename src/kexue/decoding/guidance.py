"""Classifier-free guidance: what a condition adds to a model's log probabilities, taken more or less than once.

Each prompt runs as a pair of rows of one batch, as it is and with other inputs, such as a null condition. With the log
probabilities c of the first and u of the second at a step, the next token is chosen from the logits

    u + w (c - u) = c + (w - 1) (c - u),

by any search and under any constraint. w = 1 is the model as it is, w = 0 the model without the condition; above 1,
tokens that the condition makes more likely gain: the samples are those of p(x) p(condition | x)^w, token by token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from kexue.decoding.interface import Engine, State
from kexue.errors import ConfigError

__all__ = ["PREFIX", "Guidance", "Guided", "guided_logits"]

PREFIX = "unconditional_"
"""What the names of the second row's inputs begin with."""
_LENGTHS = ("token_ids", "padding_mask", "segment_ids", "decoder_token_ids", "decoder_padding_mask")


@dataclass(frozen=True)
class Guidance:
    """Guide each prompt by the difference that its condition makes.

    Args:
        weight: w, one for all prompts or one each. A value of one's own needs no new compilation.
        unconditional: inputs of the second row, by name, instead of those of the prompts: of one row for all prompts,
            or of as many as there are. ``{"condition": null}`` for a conditional model; ``{"token_ids": [...]}`` for
            other prompts, such as an empty source, of any length.

    Source: Ho and Salimans, arXiv 2207.12598; on language models, Sanchez et al., arXiv 2306.17806.
    """

    weight: float | Sequence[float]
    unconditional: Mapping[str, Any]

    def weights(self, rows: int) -> np.ndarray:
        """``(rows,)`` float32.

        Raises:
            ConfigError: not a number, or not one for each row.
        """
        try:
            weights = np.asarray(self.weight, "float32")
        except (TypeError, ValueError):
            weights = np.asarray(np.nan, "float32")
        if weights.shape not in ((), (rows,)) or not np.isfinite(weights).all():
            raise ConfigError(
                f"the weight of a guidance must be a finite number, or one for each of the {rows} prompts. Received: "
                f"{self.weight!r:.80}"
            )
        return np.broadcast_to(weights, (rows,))

    def inputs(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs of the second rows: ``data``, those of the first ones, with the replacements.

        Raises:
            ConfigError: nothing is replaced, or by inputs of another number of rows.
        """
        if not isinstance(self.unconditional, Mapping) or not self.unconditional:
            raise ConfigError(
                "unconditional must name the inputs that are other without the condition, such as {'condition': null}. "
                f"Received: {self.unconditional!r:.80}"
            )
        rows = len(np.asarray(data["token_ids"]))
        gone = set()
        for side in ("", "decoder_"):  # what was said of the tokens that are replaced
            if f"{side}token_ids" in self.unconditional:
                gone |= {f"{side}padding_mask", *(() if side else ("segment_ids",))}
        out = {name: value for name, value in data.items() if name not in gone}
        for name, value in self.unconditional.items():
            array = np.asarray(value)
            if not array.ndim or len(array) not in (1, rows):
                raise ConfigError(
                    f"unconditional {name} must have one row or {rows}, as many as there are prompts. Received: shape "
                    f"{array.shape}"
                )
            out[name] = np.broadcast_to(array, (rows, *array.shape[1:]))
        return out


def guided_logits(conditional: Any, unconditional: Any, weight: Any) -> Any:
    """``c + (w - 1) (c - u)`` of log probabilities, from logits ``(batch, ..., vocabulary)`` and w ``(batch,)``."""
    c, u = (ops.log_softmax(ops.cast(x, "float32"), axis=-1) for x in (conditional, unconditional))
    weight = ops.reshape(weight, (-1, *[1] * (len(c.shape) - 1)))
    return c + (weight - 1.0) * (c - u)


class Guided(Engine):
    """An engine whose rows are pairs of rows of another one.

    `start` takes, beside the inputs of the first rows, those of the second ones with the prefix `PREFIX` and
    ``guidance`` (batch,), their weights.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.model, self.side, self.limit = engine.model, engine.side, engine.limit
        self.vocabulary_size = engine.vocabulary_size

    def start(self, inputs: Mapping[str, Any], branches: int, room: int) -> tuple[Any, dict[str, Any], State]:
        first = {name: value for name, value in inputs.items() if name != "guidance" and not name.startswith(PREFIX)}
        pairs = {name: _stacked(value, inputs[f"{PREFIX}{name}"], name) for name, value in first.items()}
        logits, memory, state = self.engine.start(pairs, branches, room)
        memory = memory | {"guidance": inputs["guidance"]}
        return self._mixed(memory, logits), memory, state

    def step(self, memory: dict[str, Any], state: State, tokens: Any) -> tuple[Any, State]:
        logits, state = self.engine.step(memory, state, ops.concatenate([tokens, tokens], axis=0))
        return self._mixed(memory, logits), state

    def reorder(self, state: State, parents: Any) -> State:
        return self.engine.reorder(state, ops.concatenate([parents, parents], axis=0))

    def _mixed(self, memory: dict[str, Any], logits: Any) -> Any:
        rows = logits.shape[0] // 2
        return guided_logits(logits[:rows], logits[rows:], memory["guidance"])


def _stacked(first: Any, second: Any, name: str) -> Any:
    """The rows of both, padded to the same length."""
    if name in _LENGTHS and first.shape[1] != second.shape[1]:
        wide = max(first.shape[1], second.shape[1])
        first, second = (_wider(x, wide) for x in (first, second))
    return ops.concatenate([first, second], axis=0)


def _wider(x: Any, width: int) -> Any:
    return ops.concatenate([x, ops.zeros((x.shape[0], width - x.shape[1]), dtype=x.dtype)], axis=1)
