"""Causal models of the library ``transformers`` (PyTorch), with their own cache; the library itself is not imported."""

import inspect
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch

from kexue.decoding.nbce.pooling import normalised
from kexue.decoding.nbce.windows import window_layout, write_greedily
from kexue.errors import ConfigError, DataError

__all__ = ["TransformersRows", "TransformersWindows"]


def _checked(model: Any) -> Any:
    if not callable(model) or not hasattr(model, "config") or not isinstance(model, torch.nn.Module):
        raise ConfigError(f"expected a causal model of transformers (PyTorch). Received: {type(model).__name__}")
    return model.eval()


def _takes(model: Any, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters


def _check_ids(model: Any, rows: Sequence[Sequence[int]]) -> None:
    size = getattr(model.config, "vocab_size", None)
    ids = [token for row in rows for token in row]
    if isinstance(size, int) and ids and not 0 <= min(ids) <= max(ids) < size:
        raise DataError(
            f"token ids must lie between 0 and {size - 1}. Received: {min(ids)} to {max(ids)}. Do tokenizer and model "
            "belong together?"
        )


def _check_length(model: Any, length: int) -> None:
    limit = getattr(model.config, "max_position_embeddings", None)
    if isinstance(limit, int) and length > limit:
        raise ConfigError(f"a row has {length} tokens, the model's positions end at {limit}. Shorten the contexts.")


class TransformersRows:
    """Rows of NBCE on a causal model of transformers: padded on the left, one cache for all of them.

    Args:
        model: GPT-2, LLaMA, Qwen and their kin (``AutoModelForCausalLM``).
        pad_id: an id that exists; what stands there is never seen.
    """

    def __init__(self, model: Any, *, pad_id: int = 0) -> None:
        self.model, self.pad_id = _checked(model), pad_id
        self._mask: Any = None
        self._cache: Any = None
        self._lengths: Any = None

    def start(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits (rows, V) of the token after each row."""
        if not rows or not all(len(row) for row in rows):
            raise ConfigError("every row needs a token at least.")
        _check_ids(self.model, rows)
        device = next(self.model.parameters()).device
        longest = max(len(row) for row in rows)
        _check_length(self.model, longest)
        ids = torch.full((len(rows), longest), self.pad_id, dtype=torch.long)
        self._mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, longest - len(row) :] = torch.as_tensor(list(row))
            self._mask[i, longest - len(row) :] = 1
        self._mask = self._mask.to(device)
        self._lengths = self._mask.sum(-1, keepdim=True)
        self._cache = None
        return self._run(ids.to(device), (self._mask.cumsum(-1) - 1).clamp(min=0))

    def extend(self, token: int) -> np.ndarray:
        """Append a token to every row: logits (rows, V) of the one after."""
        if self._cache is None:
            raise ConfigError("extend() continues rows that start() has read.")
        _check_length(self.model, int(self._lengths.max()) + 1)
        ids = torch.full_like(self._lengths, token)
        self._mask = torch.cat([self._mask, torch.ones_like(self._lengths)], -1)
        self._lengths = self._lengths + 1
        return self._run(ids, self._lengths - 1)

    def _run(self, ids: Any, positions: Any) -> np.ndarray:
        options: dict[str, Any] = {"position_ids": positions} if _takes(self.model, "position_ids") else {}
        with torch.no_grad():
            out = self.model(
                input_ids=ids, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, **options
            )
        self._cache = out.past_key_values
        return out.logits[:, -1].float().cpu().numpy()


class TransformersWindows:
    """Parallel context windows on a causal model of transformers that takes ``position_ids``; no cache.

    Args:
        model: ``AutoModelForCausalLM`` with eager or SDPA attention.
    """

    def __init__(self, model: Any) -> None:
        self.model = _checked(model)
        if not _takes(model, "position_ids"):
            raise ConfigError(f"{type(model).__name__} takes no position_ids, which parallel windows need.")

    def next(self, contexts: Sequence[Sequence[int]], task: Sequence[int]) -> np.ndarray:
        """Log-probabilities (V,) of the token after the task."""
        layout = window_layout(contexts, task)
        _check_ids(self.model, [layout.tokens.tolist()])
        _check_length(self.model, int(layout.positions.max()) + 1)
        parameter = next(self.model.parameters())
        seen = torch.as_tensor(layout.dense(), device=parameter.device)[None, None]
        bias = torch.zeros(seen.shape, dtype=parameter.dtype, device=parameter.device)
        bias = bias.masked_fill(~seen, torch.finfo(parameter.dtype).min)
        ids, positions = (
            torch.as_tensor(a.astype("int64"), device=parameter.device)[None] for a in (layout.tokens, layout.positions)
        )
        with torch.no_grad():
            out = self.model(input_ids=ids, position_ids=positions, attention_mask=bias, use_cache=False)
        return normalised(out.logits[0, -1].double().cpu().numpy())

    def generate(
        self,
        contexts: Sequence[Sequence[int]],
        task: Sequence[int],
        *,
        max_tokens: int = 64,
        stop: int | Collection[int] = (),
    ) -> list[int]:
        """The likeliest token, again and again."""
        return write_greedily(self.next, contexts, task, max_tokens, stop)
