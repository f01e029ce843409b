"""Rows that begin alike, read with a cache, and one token for all of them at each step."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from kexue.decoding import loop as loops
from kexue.decoding.engine import Cached, make
from kexue.decoding.nbce.law import Law, Step, Used
from kexue.decoding.nbce.loop import Loop
from kexue.decoding.prompts import batch, bucket, read
from kexue.errors import ConfigError

__all__ = ["CachedRows"]

WORTH = 16
"""Tokens in common from which on reading them once saves more than a program more costs."""
ROOM = 32
"""Slots for written tokens; as many again when they are full."""


class CachedRows:
    """The cache of `KexueRows`.

    Args:
        model: with a mask that generates.
        segment: of all tokens, or None.
        pad_id: id of padding.
    """

    def __init__(self, model: Any, segment: int | None, pad_id: int) -> None:
        engine = make(model)
        if not isinstance(engine, Cached) or engine.side:
            raise ConfigError("NBCE needs a language model: one stack of layers, without an encoder.")
        self._engine, self._segment, self._pad = engine, segment, pad_id
        self._memory: Any = None
        self._state: Any = None
        self._lengths: list[int] = []

    def start(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Logits (rows, V) of the token after each row."""
        return self._numpy(self._start(rows, ROOM))

    def write(self, rows: Sequence[Sequence[int]], law: Law, chunk: int) -> Iterator[Used]:
        """The tokens after the rows with their reports, a stop token's among them.

        Args:
            rows: row 0 without context.
            law: see `Law`.
            chunk: tokens between two looks at the loop.
        """
        engine, asked = self._engine, len(law.betas)
        steps = bucket(asked, smallest=ROOM)
        logits = self._start(rows, steps)
        memory, state = self._memory, self._state
        self._memory = self._state = None  # these rows are written here: there is nothing for `extend` to go on from
        if engine.limit is not None:  # the last token has no need of a position: it is not read
            asked = min(asked, engine.limit - max(self._lengths) + 1)
        data: dict[str, Any] = {name: np.float32(getattr(law, name)) for name in ("eta", "top_p", "temperature")}
        data["betas"] = np.resize(law.betas, steps).astype("float32")
        data["numbers"] = np.resize(np.minimum(law.numbers, 1 - 2**-22), steps).astype("float32")
        data["stop"] = np.isin(np.arange(engine.vocabulary_size), list(law.stop))
        data["count"] = np.float32(len(rows) - 1)
        tensors = {name: ops.convert_to_tensor(value) for name, value in data.items()}
        loop = loops.cached(engine, ("nbce", law.key, steps), lambda: Loop(engine, law, steps))
        carry = loop.begin(logits, tensors)
        given = 0
        while True:
            report = {name: np.asarray(ops.convert_to_numpy(carry[name])) for name in Step._fields}
            for t in range(given, int(carry["t"])):
                yield Used(
                    int(report["token"][t]), int(report["context"][t]), report["entropy"][t, : len(rows) - 1],
                    report["log_probs"][t, : len(rows) - 1], float(report["without"][t]),
                )  # fmt: skip
            given = int(carry["t"])
            if given >= asked or bool(carry["ended"]):
                return
            until = ops.convert_to_tensor(min(given + chunk, asked), dtype="int32")
            state, carry = loop.go(memory, state, carry, tensors, until)

    def _start(self, rows: Sequence[Sequence[int]], room: int) -> Any:
        """Logits (a power of two, V) after the rows; `extend` may then run ``room`` tokens."""
        if not rows:
            raise ConfigError("NBCE needs rows to read. Received: none")
        texts = [list(row) for row in rows]
        read(self._engine, texts)  # every row is checked
        self._lengths = [len(row) for row in texts]
        self._left = room
        common = self._common(texts)
        size = 1 << (len(texts) - 1).bit_length()  # one program for each power of two
        texts += [texts[-1]] * (size - len(texts))
        if not common:
            logits, self._memory, self._state = self._read(texts, room)
            return logits
        width = bucket(max(len(row) for row in texts) - common)
        _, memory, state = self._read([texts[0][:common]], width + room)
        self._memory, state = self._engine.spread(memory, state, size)
        ids = np.full((size, width), self._pad, "int32")
        real = np.zeros((size, width), bool)
        for n, row in enumerate(texts):
            ids[n, : len(row) - common], real[n, : len(row) - common] = row[common:], True
        tensors = (ops.convert_to_tensor(ids), ops.convert_to_tensor(real))
        logits, self._state = self._programs(width + room).append(self._memory, state, *tensors)
        return logits

    def extend(self, token: int) -> np.ndarray:
        """Append a token to every row: logits (rows, V) of the one after."""
        if self._state is None:
            raise ConfigError("extend() continues rows that start() has read.")
        engine = self._engine
        if not 0 <= token < engine.vocabulary_size:
            raise ConfigError(f"a token must lie between 0 and {engine.vocabulary_size - 1}. Received: {token}")
        if engine.limit is not None and max(self._lengths) >= engine.limit:
            raise ConfigError(
                f"a row has {max(self._lengths)} tokens, and the model's positions end at {engine.limit}. Shorten the "
                "contexts."
            )
        if not self._left:
            self._state, self._left = engine.grown(self._state, ROOM), ROOM
        self._left -= 1
        self._lengths = [n + 1 for n in self._lengths]
        tokens = np.full((self._state["count"].shape[0], 1), token, "int32")
        logits, self._state = self._programs(0).go(self._memory, self._state, ops.convert_to_tensor(tokens))
        return self._numpy(logits[:, 0])

    def _common(self, rows: list[list[int]]) -> int:
        """Tokens that all rows begin with and that are read once; none where it is not worth it, and none where a
        recurrent state would see padding."""
        shortest = min(rows, key=len)
        common = 0
        while common < len(shortest) - 1 and all(row[common] == shortest[common] for row in rows):
            common += 1
        return common if common >= WORTH and len(rows) > 1 and not self._engine.recurrent else 0

    def _read(self, rows: list[list[int]], room: int) -> tuple[Any, Any, Any]:
        """Logits, memory and state after rows, by the engine."""
        engine = self._engine
        prompts: Any = rows
        if self._segment is not None:
            width = max(len(row) for row in rows)
            ids = np.full((len(rows), width), self._pad, "int32")
            real = np.arange(width) < np.array([len(row) for row in rows])[:, None]
            ids[real] = np.concatenate(rows)
            prompts = {"token_ids": ids, "padding_mask": real, "segment_ids": np.full_like(ids, self._segment)}
        found = read(engine, prompts)
        for row in found:
            row.target_segment = None if row.target_segment is None else (self._segment or 0)
        inputs = batch(engine, found, len(found))
        return self._programs(room).begin({name: ops.convert_to_tensor(value) for name, value in inputs.items()})

    def _programs(self, room: int) -> "_Programs":
        return loops.cached(self._engine, ("rows", room), lambda: _Programs(self._engine, room))

    def _numpy(self, logits: Any) -> np.ndarray:
        return np.asarray(ops.convert_to_numpy(logits), "float32")[: len(self._lengths)]


class _Programs:
    """What is compiled of an engine: reading with so much room, texts after that, a token."""

    def __init__(self, engine: Cached, room: int) -> None:
        compiled = loops.compiler()
        self.begin = compiled(engine.model, lambda inputs: engine.start(inputs, 1, room))
        self.append = compiled(engine.model, engine.append)
        self.go = compiled(engine.model, engine.step)
