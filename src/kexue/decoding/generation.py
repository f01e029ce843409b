"""`generate` and `stream`: tokens after prompts."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops, tree

from kexue.decoding import loop as loops
from kexue.decoding.arguments import EXTREME, amount, ids_of, whole
from kexue.decoding.choosing import HIDDEN, LENGTH, RUNNING, STOP, Plan
from kexue.decoding.constraints.base import Constraint, Source, check_stop
from kexue.decoding.engine import Engine, make
from kexue.decoding.guidance import Guidance
from kexue.decoding.prompts import ROOM, Row, batch, bucket, read
from kexue.decoding.strategies import Beam, Greedy, Sample, Search
from kexue.errors import ConfigError

__all__ = ["Generated", "Generation", "generate", "stream"]

CHUNK = 16
"""Steps between two looks at Ctrl-C."""


@dataclasses.dataclass(frozen=True)
class Generated:
    """One sequence.

    Attributes:
        tokens: generated ids, without prompt and stop token.
        score: sum of log probabilities, after penalties and temperature and before filters, the stop token's among
            them. What constraints forbid is not made up for.
        reason: ``"stop"``, a stop token; ``"length"``, no room; ``"dead end"``, no token was allowed;
            ``"interrupted"``, Ctrl-C.
    """

    tokens: list[int]
    score: float
    reason: str


@dataclasses.dataclass(frozen=True)
class Generation:
    """What `generate` gives.

    Attributes:
        sequences: for each prompt its `Generated`, best first (`Beam`) or in the order of their draws.
        interrupted: Ctrl-C came before the end.
        compilations: programs compiled so far for this model, over all calls.
    """

    sequences: list[list[Generated]]
    interrupted: bool = False
    compilations: int = 0

    @property
    def best(self) -> list[list[int]]:
        """Tokens of the first sequence of each prompt; none where there is no sequence."""
        return [row[0].tokens if row else [] for row in self.sequences]


def generate(
    model: Any,
    prompts: Any,
    search: Search | None = None,
    *,
    max_tokens: int = 64,
    min_tokens: int = 0,
    stop: int | Sequence[int] = (),
    forbidden: Sequence[int] = (),
    repetition_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    count_prompt: bool = False,
    constraint: Constraint | None = None,
    processors: Sequence[Callable[[Any, dict[str, Any]], Any]] = (),
    guidance: Guidance | None = None,
    decoder_start: Sequence[int] | None = None,
    batch_size: int = 8,
    cached: bool = True,
) -> Generation:
    """Generate tokens after each prompt.

    Each row is computed as if it were alone: neither the other rows of a batch nor padding change it (save the last
    digits of floating-point sums).

    Args:
        model: with ``head="lm"`` and a mask that generates: ``"causal"``, ``"prefix"`` (UniLM: the prompt is the source
            and the result the target), or a model with a decoder.
        prompts: lists of token ids, or a batch as the model takes it. With a decoder they are the encoder's.
        search: `Greedy` (default), `Sample` or `Beam`.
        max_tokens: most tokens to generate, the stop token among them; fewer where positions end.
        min_tokens: no stop token before so many tokens.
        stop: ids that end a sequence, such as that of [SEP].
        forbidden: ids that are never generated; a stop token among them does not stop.
        repetition_penalty: positive logits of tokens that occur already are divided by it, negative ones multiplied.
        no_repeat_ngram: no sequence of so many tokens occurs twice; 0 for no such rule.
        count_prompt: the last two look at the prompt (the decoder's, where there is one) too.
        constraint: what may be generated, see `kexue.decoding.constraints`.
        processors: functions ``(logits (batch, branches, vocabulary), carry) -> logits`` written with ``keras.ops``;
            ``carry["history"]`` (batch, branches, width) holds prompt and result, ``carry["start"]`` (batch,) the
            length of the prompt, ``carry["t"]`` the number of generated tokens. Each new function is a compilation.
        guidance: classifier-free guidance, see `kexue.decoding.guidance`; each step costs twice as much.
        decoder_start: see `kexue.decoding.prompts.read`.
        batch_size: prompts that run at once. Prompts are sorted by length, lengths are rounded up to powers of two.
        cached: run each token once; False runs the whole sequence at each step, for models that need it.

    Raises:
        ConfigError: arguments or a model that cannot work.
        DataError: a prompt that cannot be used.

    Source: repetition penalty, CTRL, arXiv 1909.05858.
    """
    job = _Job(
        model, search, max_tokens, min_tokens, stop, forbidden, repetition_penalty, no_repeat_ngram, count_prompt,
        constraint, processors, cached, guidance,
    )  # fmt: skip
    rows = read(job.engine, prompts, decoder_start, guidance)
    batch_size = whole(batch_size, "batch_size")
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1. Received: {batch_size}")
    order = sorted(range(len(rows)), key=lambda n: rows[n].size)
    results: list[list[Generated]] = [[] for _ in rows]
    interrupted = False
    for first in range(0, len(order), batch_size):
        places = order[first : first + batch_size]
        run = _Run(job, [rows[n] for n in places], places, min(batch_size, _power(len(rows))))
        try:
            while run.advance(CHUNK):
                pass
        except KeyboardInterrupt:
            interrupted = True
        for n, sequences in zip(places, run.results(interrupted), strict=True):
            results[n] = sequences
        if interrupted:
            break
    return Generation(results, interrupted, loops.compilations(job.engine))


def stream(
    model: Any,
    prompt: Any,
    search: Search | None = None,
    *,
    decoder_start: Sequence[int] | None = None,
    cached: bool = True,
    max_tokens: int = 64,
    min_tokens: int = 0,
    stop: int | Sequence[int] = (),
    forbidden: Sequence[int] = (),
    repetition_penalty: float = 1.0,
    no_repeat_ngram: int = 0,
    count_prompt: bool = False,
    constraint: Constraint | None = None,
    processors: Sequence[Callable[[Any, dict[str, Any]], Any]] = (),
    guidance: Guidance | None = None,
) -> Iterator[int]:
    """The tokens after one prompt as they are generated; arguments as in `generate`.

    Args:
        model: as in `generate`, and so on.
        prompt: a list of token ids, or a batch with one row.
        search: `Greedy` or `Sample` with ``n=1``: a beam knows its result at the end only.

    Raises:
        ConfigError: a search that cannot stream, more than one prompt, or as `generate`.
    """
    job = _Job(
        model, search, max_tokens, min_tokens, stop, forbidden, repetition_penalty, no_repeat_ngram, count_prompt,
        constraint, processors, cached, guidance,
    )  # fmt: skip
    if job.search.branches != 1 or isinstance(job.search, Beam):
        raise ConfigError(f"a stream needs Greedy() or Sample(n=1). Received: {job.search!r}")
    rows = read(job.engine, prompt if hasattr(prompt, "keys") else [prompt], decoder_start, guidance)
    if len(rows) != 1:
        raise ConfigError(f"a stream goes on from one prompt. Received: {len(rows)} prompts")
    return _pieces(_Run(job, rows, [0], 1))


def _pieces(run: "_Run") -> Iterator[int]:
    given = 0
    more = True
    while more:
        more = run.advance(1)
        tokens = run.results(False)[0][0].tokens
        yield from tokens[given:]
        given = len(tokens)


class _Job:
    """Arguments, checked, and what all batches share."""

    def __init__(
        self, model: Any, search: Search | None, max_tokens: int, min_tokens: int, stop: Any, forbidden: Any,
        penalty: float, ngram: int, of_prompt: bool, constraint: Any, processors: Any, cached: bool,
        guidance: Any,
    ) -> None:  # fmt: skip
        if guidance is not None and not isinstance(guidance, Guidance):
            raise ConfigError(f"guidance must be Guidance(weight, unconditional). Received: {guidance!r:.80}")
        self.engine: Engine = make(model, cached, guided=guidance is not None)
        self.search = Greedy() if search is None else search
        if not isinstance(self.search, Search):
            raise ConfigError(f"search must be Greedy(), Sample(...) or Beam(...). Received: {search!r}")
        max_tokens, min_tokens = whole(max_tokens, "max_tokens"), whole(min_tokens, "min_tokens")
        ngram = whole(ngram, "no_repeat_ngram")
        if max_tokens < 1 or not 0 <= min_tokens <= max_tokens:
            raise ConfigError(
                "max_tokens must be at least 1 and min_tokens from 0 to max_tokens. Received: "
                f"max_tokens={max_tokens}, min_tokens={min_tokens}"
            )
        penalty = amount(penalty, "repetition_penalty", 1 / EXTREME, EXTREME)
        if ngram < 0:
            raise ConfigError(f"no_repeat_ngram must be at least 0. Received: no_repeat_ngram={ngram}")
        size = self.engine.vocabulary_size
        self.forbidden = ids_of(forbidden, "forbidden", size)
        self.stop = [n for n in ids_of(stop, "stop", size) if n not in self.forbidden]
        if constraint is not None:
            check_stop(constraint, self.stop)
        self.max_tokens, self.min_tokens, self.penalty, self.constraint = max_tokens, min_tokens, penalty, constraint
        for processor in processors:
            if not callable(processor):
                raise ConfigError(f"processors must be functions of logits and carry. Received: {processor!r:.80}")
        self.plan = Plan(self.search, size, penalty != 1.0, ngram, of_prompt, constraint, tuple(processors))


class _Run:
    """One batch on its way."""

    def __init__(self, job: _Job, rows: Sequence[Row], places: Sequence[int], size: int) -> None:
        self.job, self.rows, self.count = job, rows, len(rows)
        engine, search, size_of = job.engine, job.search, job.engine.vocabulary_size
        inputs = batch(engine, rows, size)
        width = inputs[f"{engine.side}token_ids"].shape[1]
        self.slots = bucket(job.max_tokens, smallest=ROOM)
        if engine.limit is not None:
            self.slots = min(self.slots, engine.limit)
        rooms = [job.max_tokens if engine.limit is None else engine.limit - row.longest for row in rows]
        self.room = np.array([min(n, job.max_tokens) for n in rooms] + [1] * (size - len(rows)), "int32")
        data = search_data(
            search, size_of, job.stop, room=self.room, idle=np.arange(size) >= len(rows), min_tokens=job.min_tokens
        )
        data["forbidden"][job.forbidden] = True
        data["penalty"] = np.float32(job.penalty)
        if isinstance(search, Sample):
            data |= {"top_k": np.int32(min(search.top_k or size_of, size_of)), "top_p": np.float32(search.top_p)}
            data |= {"min_p": np.float32(search.min_p), "uniform": _uniform(search, places, size, self.slots)}
        if job.constraint is not None:
            source = [Source(row.tokens, None if row.source is None else row.source["token_ids"]) for row in rows]
            source += [source[-1]] * (size - len(source))
            data["tables"], data["rule"] = job.constraint.prepare(source, size_of)
        self.loop = loops.make(engine, job.plan, self.slots)
        self.inputs = {name: ops.convert_to_tensor(value) for name, value in inputs.items()}
        self.data = tree.map_structure(ops.convert_to_tensor, data)
        self.width = width
        self.memory: Any = None
        self.carry: Any = None

    def advance(self, steps: int) -> bool:
        """Go on for so many tokens; whether there is more to come."""
        if self.carry is None:
            self.memory, self.carry = self.loop.begin(self.inputs, self.data)
            steps -= 1
        if steps > 0:
            t = int(self.carry["t"])
            until = ops.convert_to_tensor(t + steps, dtype="int32")
            self.carry = self.loop.go(self.memory, self.carry, self.data, until)
        reason = np.asarray(ops.convert_to_numpy(self.carry["reason"]))
        return bool((reason == RUNNING).any())

    def results(self, interrupted: bool) -> list[list[Generated]]:
        """The sequences of the rows as they are now."""
        if self.carry is None:
            return [[] for _ in self.rows]
        starts = [len(row.tokens) for row in self.rows]
        return read_sequences(self.carry, self.job.search, starts, self.job.stop, interrupted)


def search_data(
    search: Search, vocabulary: int, stop: Sequence[int], *, room: np.ndarray, idle: np.ndarray, min_tokens: int
) -> dict[str, Any]:
    """What every loop is given: tables and numbers that may change without a new compilation.

    Args:
        search: of the plan.
        vocabulary: columns of the logits.
        stop: ids that end a sequence.
        room: ``(batch,)`` tokens that a row may get.
        idle: ``(batch,)`` rows that get none.
        min_tokens: no stop token before so many.
    """
    ends = np.zeros(vocabulary, bool)
    ends[list(stop)] = True
    stops = np.zeros(max(1, _power(len(stop))), "int32")
    stops[: len(stop)] = stop
    data: dict[str, Any] = {
        "stop": ends,
        "stops": stops,
        "stops_real": np.arange(len(stops)) < len(stop),
        "forbidden": np.zeros(vocabulary, bool),
        "room": room,
        "idle": idle,
        "min_tokens": np.int32(min_tokens),
        "penalty": np.float32(1.0),
        "temperature": np.float32(getattr(search, "temperature", 1.0)),
        "pad": np.int32(0),
    }
    if isinstance(search, Beam):
        data |= {"length_penalty": np.float32(search.length_penalty), "diversity": np.float32(search.diversity)}
    return data


def read_sequences(
    carry: dict[str, Any], search: Search, starts: Sequence[int], stop: Sequence[int], interrupted: bool = False
) -> list[list[Generated]]:
    """The sequences of the first rows of a loop as they are now.

    Args:
        carry: of the loop.
        search: of its plan.
        starts: lengths of the rows' prompts.
        stop: ids that end a sequence.
        interrupted: the loop was left before its end.
    """
    if np.isnan(np.asarray(ops.convert_to_numpy(carry["score"]))[: len(starts)]).any():
        raise ConfigError("the model gives logits that are not numbers (NaN). Look at its weights and processors.")
    names = {RUNNING: "interrupted" if interrupted else "length", STOP: "stop", LENGTH: "length"}
    pool = carry.get("pool")
    parts = carry if pool is None else pool
    history, score, length, reason = (
        np.asarray(ops.convert_to_numpy(parts[n])) for n in ("history", "score", "length", "reason")
    )
    ranking = None if pool is None else np.asarray(ops.convert_to_numpy(pool["ranking"]))
    found: list[list[Generated]] = []
    for n, start in enumerate(starts):
        order = list(range(search.branches))
        if ranking is not None:
            order = [int(j) for j in np.argsort(-ranking[n], kind="stable") if ranking[n, j] > HIDDEN / 2]
        sequences = []
        for j in order[: search.results]:
            tokens = [int(i) for i in history[n, j, start : start + length[n, j]]]
            if reason[n, j] == STOP and tokens and tokens[-1] in stop:
                tokens.pop()
            sequences.append(Generated(tokens, float(score[n, j]), names.get(int(reason[n, j]), "dead end")))
        found.append(sequences or _unfinished(carry, n, start, interrupted))
    return found


def _unfinished(carry: dict[str, Any], n: int, start: int, interrupted: bool) -> list[Generated]:
    """The best beam where none has finished: Ctrl-C, or nothing that is allowed."""
    if not interrupted:
        return [Generated([], float("-inf"), "dead end")]
    scores = np.asarray(ops.convert_to_numpy(carry["score"]))[n]
    best = int(np.argmax(scores))
    history = np.asarray(ops.convert_to_numpy(carry["history"]))[n, best]
    tokens = [int(i) for i in history[start : start + int(carry["t"])]]
    return [Generated(tokens, float(scores[best]), "interrupted")]


def _power(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def _uniform(search: Sample, places: Sequence[int], size: int, steps: int) -> np.ndarray:
    """Numbers in [0, 1) for each row, sample and step; those of a row depend on its seed and on the step alone."""
    if not isinstance(search.seed, int | np.integer) and len(search.seed) <= max(places):
        raise ConfigError(
            f"seed must be an integer or one for each prompt. Received: {len(search.seed)} seeds for more prompts"
        )
    out = np.zeros((size, search.n, steps), "float32")
    for row, place in enumerate(places):
        seed = search.seed + place if isinstance(search.seed, int | np.integer) else search.seed[place]
        numbers = np.random.Generator(np.random.Philox(key=int(seed) % 2**64)).random((steps, search.n))
        out[row] = numbers.T
    return np.minimum(out, np.float32(1 - 2**-22))
