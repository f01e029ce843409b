"""Prompts as rows, and rows as batches of few shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kexue.decoding.arguments import ids_of
from kexue.decoding.guidance import PREFIX, Guidance
from kexue.decoding.interface import Engine
from kexue.errors import ConfigError, DataError
from kexue.models.surgery.graph import Graph
from kexue.nn.embeddings import SegmentEmbedding
from kexue.nn.positions.base import PositionEncoding

__all__ = ["ROOM", "Row", "batch", "bucket", "read"]

SMALLEST = 16
ROOM = 64
"""Slots for generated tokens at least: they cost little, and each other number of them is a compilation."""


def bucket(n: int, limit: int | None = None, smallest: int = SMALLEST) -> int:
    """The least of 16, 32, 64 ... (or from ``smallest`` on) that is at least ``n``; ``limit`` at most."""
    size = max(smallest, 1 << (n - 1).bit_length())
    return size if limit is None else max(n, min(size, limit))


@dataclass
class Row:
    """One prompt without padding.

    Attributes:
        tokens: what the generated ones follow; of the decoder where the model has one.
        segments: of these, or None.
        target_segment: of generated tokens, or None.
        source: tokens of the encoder, or None.
        more: inputs of one row that have no length, such as ``condition``.
        twin: the row without the condition, and ``weight``, how much the difference counts; None without guidance.
    """

    tokens: np.ndarray
    segments: np.ndarray | None = None
    target_segment: int | None = None
    source: dict[str, np.ndarray] | None = None
    more: dict[str, np.ndarray] = field(default_factory=dict)
    twin: "Row | None" = None
    weight: float = 1.0

    @property
    def longest(self) -> int:
        """Tokens of the prompt, of the twin's if that is longer."""
        return len(self.tokens) if self.twin is None else max(len(self.tokens), len(self.twin.tokens))

    @property
    def size(self) -> tuple[int, int]:
        """What rows are sorted by, so that few shapes occur."""
        return (0 if self.source is None else len(self.source["token_ids"])), self.longest


def read(
    engine: Engine, prompts: Any, decoder_start: Sequence[int] | None = None, guidance: Guidance | None = None
) -> list[Row]:
    """Rows of prompts, with their twins under guidance; see `_rows` for the arguments."""
    data = prompts if isinstance(prompts, Mapping) else _padded(prompts)
    rows = _rows(engine, data, decoder_start)
    if guidance is not None and rows:
        twins = _rows(engine, guidance.inputs(data), decoder_start)
        for row, twin, weight in zip(rows, twins, guidance.weights(len(rows)).tolist(), strict=True):
            row.twin, row.weight = twin, weight
    return rows


def _rows(engine: Engine, data: Mapping[str, Any], decoder_start: Sequence[int] | None) -> list[Row]:
    """Rows of a batch.

    Args:
        engine: of the model.
        data: the batch of a model: ``token_ids`` (batch, length) with ``padding_mask`` and whatever else it takes.
        decoder_start: with a decoder, the tokens that it begins with; the padding token's id when None, as in T5.

    Raises:
        DataError: an empty prompt, ids outside the vocabulary, a prompt that leaves no room.
        ConfigError: inputs that generation cannot use.
    """
    known = Graph(engine.model).inputs
    for name in data:
        if name not in known:
            raise ConfigError(f"unknown input {name!r}. The model takes: {', '.join(known)}.")
        if name.endswith(("document_ids", "position_ids")) or name in ("order", "target_positions"):
            raise ConfigError(f"generation counts positions itself and takes one document a row. Received: {name}")
    ids, real = _tokens(data, "")
    lengths = {"token_ids", "padding_mask", "segment_ids", "decoder_token_ids", "decoder_padding_mask"}
    two = bool(engine.side)
    if decoder_start is not None and not two:
        raise ConfigError("decoder_start is for a model with a decoder, and this one has none.")
    config = getattr(engine.model, "config", None)
    if two:
        start = [getattr(config, "pad_id", 0)] if decoder_start is None else decoder_start
        start = ids_of(start, "decoder_start", engine.vocabulary_size, once=False)
        theirs, theirs_real = _tokens({"decoder_token_ids": np.tile(start, (len(ids), 1))} | dict(data), "decoder_")
    segment = _segment(engine) if not two and "segment_ids" in known else None
    rows = []
    for n in range(len(ids)):
        row = Row(ids[n, real[n]])
        if not len(row.tokens):
            raise DataError(f"prompt {n} is empty: a model needs at least one token to go on from, such as [CLS].")
        if two:
            row.source = {"token_ids": row.tokens}
            if "segment_ids" in data:
                row.source["segment_ids"] = np.asarray(data["segment_ids"])[n, real[n]].astype("int32")
            row.tokens = theirs[n, theirs_real[n]]
            if not len(row.tokens):
                raise DataError(f"prompt {n} has no token of the decoder's to go on from.")
        elif segment is not None:
            row.segments = np.zeros(len(row.tokens), "int32")
            if "segment_ids" in data:
                row.segments = np.asarray(data["segment_ids"])[n, real[n]].astype("int32")
            row.target_segment = segment if segment >= 0 else int(row.segments[-1])
        elif "segment_ids" in data:
            raise ConfigError("the model has no segments. Received: segment_ids")
        row.more = {name: np.asarray(value)[n] for name, value in data.items() if name not in lengths}
        for tokens in (row.tokens, *([] if row.source is None else [row.source["token_ids"]])):
            if tokens.min() < 0 or tokens.max() >= engine.vocabulary_size:
                raise DataError(
                    f"token ids must lie between 0 and {engine.vocabulary_size - 1}. Received: {tokens.min()} to "
                    f"{tokens.max()} in prompt {n}. Do tokenizer and model belong together?"
                )
        row.tokens = row.tokens.astype("int32")
        if row.source is not None:
            row.source["token_ids"] = row.source["token_ids"].astype("int32")
        if engine.limit is not None and len(row.tokens) >= engine.limit:
            raise DataError(
                f"prompt {n} has {len(row.tokens)} tokens, and the model's positions end at {engine.limit}: shorten it "
                "to leave room for the text to generate."
            )
        rows.append(row)
    return rows


def _integers(value: Any, axes: int) -> np.ndarray | None:
    """Token ids as they are, or None where it is something else."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return None
    if array.ndim != axes or (array.size and array.dtype.kind not in "iu"):
        return None
    return array.astype("int64")


def _tokens(data: Mapping[str, Any], side: str) -> tuple[np.ndarray, np.ndarray]:
    """Token ids and which are real, ``(batch, length)``."""
    ids = _integers(data.get(f"{side}token_ids"), 2)
    if ids is None:
        raise DataError(
            f"{side}token_ids must be an array of integers (batch, length). Received: "
            f"{data.get(f'{side}token_ids')!r:.80}"
        )
    real = np.asarray(data.get(f"{side}padding_mask", np.ones(ids.shape)))
    if real.shape != ids.shape:
        raise DataError(f"{side}padding_mask must be of the shape of the ids, {ids.shape}. Received: {real.shape}")
    return ids, real.astype(bool)


def _padded(prompts: Any) -> dict[str, np.ndarray]:
    given = [] if prompts is None or not np.iterable(prompts) else list(prompts)
    found = [None if isinstance(row, str) else _integers(row, 1) for row in given]
    rows = [row for row in found if row is not None]
    if len(rows) < len(found) or not np.iterable(prompts):
        wrong = next((row for row, ids in zip(given, found, strict=True) if ids is None), prompts)
        raise DataError(
            "prompts must be lists of token ids, one list a prompt; encode texts with the tokenizer first. Received: "
            f"{wrong!r:.80}"
        )
    width = max((len(row) for row in rows), default=0)
    ids = np.zeros((len(rows), width), "int64")
    real = np.zeros((len(rows), width), bool)
    for n, row in enumerate(rows):
        ids[n, : len(row)] = row
        real[n, : len(row)] = True
    return {"token_ids": ids, "padding_mask": real}


def _segment(engine: Engine) -> int | None:
    """Segment of generated tokens: 1 where the mask tells source and target by it, -1 as the last one of the prompt,
    None where the model has no segments."""
    graph = Graph(engine.model)
    operations = [call.operation for call in graph.calls]
    counts = [o.segments for o in operations if isinstance(o, SegmentEmbedding)]
    blocks = any("block" in getattr(getattr(o, "mask", None), "needs", ()) for o in operations)
    related = any(
        isinstance(p, PositionEncoding) and p.uses_segments for p in (getattr(o, "positions", None) for o in operations)
    )
    if blocks:
        if counts and min(counts) < 2:
            raise ConfigError("the mask tells source and target by segments, and the model has only one segment.")
        return 1
    return -1 if counts or related else None


def batch(engine: Engine, rows: Sequence[Row], size: int) -> dict[str, np.ndarray]:
    """Inputs of `Engine.start` for ``rows``, filled up to ``size`` rows with copies of the last one."""
    rows = [*rows, *[rows[-1]] * (size - len(rows))]
    out = {}
    width = bucket(max(len(row.tokens) for row in rows), engine.limit)
    out[f"{engine.side}token_ids"], out[f"{engine.side}padding_mask"] = _pad([row.tokens for row in rows], width)
    if rows[0].segments is not None:
        out["segment_ids"] = _pad([row.segments for row in rows], width)[0]
    if rows[0].target_segment is not None:
        out["target_segments"] = np.array([row.target_segment for row in rows], "int32")
    if rows[0].source is not None:
        sources = [row.source or {} for row in rows]
        limit = getattr(engine.model, "max_tokens", None)
        wide = bucket(max(len(source["token_ids"]) for source in sources), limit)
        out["token_ids"], out["padding_mask"] = _pad([source["token_ids"] for source in sources], wide)
        if "segment_ids" in sources[0]:
            out["segment_ids"] = _pad([source["segment_ids"] for source in sources], wide)[0]
    for name in rows[0].more:
        out[name] = np.stack([row.more[name] for row in rows])
    if rows[0].twin is not None:
        twins = batch(engine, [row.twin for row in rows if row.twin is not None], size)
        out |= {f"{PREFIX}{name}": value for name, value in twins.items()}
        out["guidance"] = np.array([row.weight for row in rows], "float32")
    return out


def _pad(rows: Sequence[Any], width: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.zeros((len(rows), width), "int32")
    real = np.zeros((len(rows), width), bool)
    for n, row in enumerate(rows):
        ids[n, : len(row)], real[n, : len(row)] = row, True
    return ids, real
