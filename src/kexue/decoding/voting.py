"""One text from several prompts at once: at each step the prompts vote on the next token.

Each question has rows, its passages with the question. The rows of some questions are one batch of the cached engine,
questions x passages, and a question's beams are shared by all its rows: reordering them and taking a token are the same
for each row. What the rows say of the next token is put together by `combine`, and the searches of
`kexue.decoding.strategies` go on from there as usual.

Source: kexue.fm 7115.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kexue.decoding import loop as loops
from kexue.decoding.choosing import HIDDEN, RUNNING, Plan, choose
from kexue.decoding.constraints.spans import SpanOfSource
from kexue.decoding.engine import Engine, make
from kexue.decoding.generation import CHUNK, Generated, read_sequences, search_data
from kexue.decoding.prompts import Row, batch, bucket, read
from kexue.decoding.strategies import Beam, Greedy, Search
from kexue.errors import ConfigError, DataError

__all__ = ["VOTES", "Asked", "Voted", "check_vote", "combine", "vote_generate"]

VOTES = ("confidence", "mean", "log_mean", "product")


def check_vote(vote: str) -> None:
    """Whether there is such a vote.

    Raises:
        ConfigError: there is none.
    """
    if vote not in VOTES:
        raise ConfigError(f"vote must be one of {', '.join(VOTES)}. Received: vote={vote!r}")


def combine(log_p: Any, counts: Any, vote: str = "confidence") -> Any:
    """The logarithm of a token's score from its log probabilities under several prompts.

    With p_j over the n prompts that count:

        confidence   sum_j p_j^2 / (sum_j p_j + 1)
        mean         sum_j p_j / n
        log_mean     exp(sum_j log p_j / n)
        product      exp(sum_j log p_j)

    Confidence weighs each vote with itself: two sure prompts beat three that waver. One prompt gives p^2 / (p + 1),
    which grows with p, so that it keeps the order of tokens.

    Args:
        log_p: ``(questions, prompts, ...)``.
        counts: ``(questions, prompts)`` booleans, the prompts that vote.
        vote: see above.

    Returns:
        ``(questions, ...)``; about -1e30 where no prompt votes.

    Source: kexue.fm 7115.
    """
    check_vote(vote)
    counts = ops.reshape(counts, (*counts.shape, *[1] * (len(log_p.shape) - 2)))
    if vote in ("confidence", "mean"):
        power = 2.0 if vote == "confidence" else 1.0
        total = ops.logsumexp(ops.where(counts, power * log_p, HIDDEN), axis=1)
        if vote == "confidence":
            return total - ops.log1p(ops.sum(ops.where(counts, ops.exp(log_p), 0.0), axis=1))
    else:
        total = ops.sum(ops.where(counts, log_p, 0.0), axis=1)
        total = ops.where(ops.any(counts, axis=1), total, HIDDEN)
        if vote == "product":
            return total
    number = ops.maximum(ops.sum(ops.cast(counts, "float32"), axis=1), 1.0)
    return total - ops.log(number) if vote == "mean" else total / number


@dataclass(frozen=True)
class Asked:
    """A question.

    Attributes:
        rows: token ids of its prompts, at least one.
        spans: of each row the half-open range of tokens from which an answer may be copied; None: it may be anything.
    """

    rows: Sequence[Any]
    spans: Sequence[tuple[int, int]] | None = None


@dataclass(frozen=True)
class Voted:
    """A text that was voted on.

    Attributes:
        tokens: its ids, without the stop token; none: no answer.
        score: sum of log scores, the stop token's among them. Where all prompts stop at once, the mean of the log
            probabilities with which they do.
        reason: as in `Generated`.
        support: for each prompt the log probability of the tokens given that prompt alone, without the stop token (of
            the stop token, where there are no others); None: it did not vote.
    """

    tokens: list[int]
    score: float
    reason: str
    support: list[float | None]


def vote_generate(
    model: Any,
    questions: Sequence[Asked],
    search: Search | None = None,
    *,
    stop: int,
    vote: str = "confidence",
    max_tokens: int = 32,
    must_answer: bool = False,
    batch_size: int = 8,
    cached: bool = True,
    progress: Callable[[int], Any] | None = None,
) -> list[list[Voted]]:
    """Texts on which the prompts of each question agree.

    Prompts whose most probable first token is the stop token do not vote; if none is left the text is empty. Neither
    the order of a question's prompts nor padding nor other questions of the batch change a result (save the last digits
    of floating-point sums).

    Args:
        model: as in `kexue.decoding.generate`.
        questions: the prompts of each, with the same kind of spans for all.
        search: `Greedy` (default) or `Beam`, with temperature 1.
        stop: id of the token that ends a text.
        vote: see `combine`.
        max_tokens: most tokens to generate, the stop token among them.
        must_answer: where no prompt is left all vote, and the first token is not the stop token.
        batch_size: questions at once. They are sorted by their number of prompts and by length; both are rounded up to
            powers of two where each shape is compiled.
        cached: run each token once; False runs the whole sequence at each step.
        progress: called with the number of questions that were done together.

    Returns:
        For each question as many texts as the search gives, best first; at least one.

    Raises:
        ConfigError: arguments or a model that cannot work.
        DataError: a question without prompts, or a prompt that cannot be used.
    """
    check_vote(vote)
    search = Greedy() if search is None else search
    if not isinstance(search, Greedy | Beam) or getattr(search, "temperature", 1.0) != 1.0:
        raise ConfigError(f"a vote needs Greedy() or Beam(...) with temperature 1. Received: search={search!r}")
    if batch_size < 1 or max_tokens < 1:
        raise ConfigError(
            f"batch_size and max_tokens must be at least 1. Received: batch_size={batch_size}, max_tokens={max_tokens}"
        )
    engine = make(model, cached)
    prompts = [_prompts(engine, asked, n) for n, asked in enumerate(questions)]
    copies = {asked.spans is not None for asked in questions}
    if len(copies) > 1:
        raise ConfigError("either all questions have spans to copy from or none.")
    constraint = SpanOfSource() if copies == {True} else None
    plan = Plan(search, engine.vocabulary_size, constraint=constraint, scores=True)
    exact = keras.backend.backend() == "torch"
    widths = [len(rows) if exact else _power(len(rows)) for rows in prompts]
    order = sorted(range(len(questions)), key=lambda n: (widths[n], max(len(row.tokens) for row in prompts[n])))
    size = min(batch_size, _power(len(questions)))
    found: list[list[Voted]] = [[] for _ in questions]
    first = 0
    while first < len(order):
        # Where nothing is compiled a batch may hold questions with different numbers of prompts.
        width = widths[order[min(first + size, len(order)) - 1]] if exact else widths[order[first]]
        places = [n for n in order[first : first + size] if widths[n] <= width]
        job = _Job(engine, plan, vote, width, max_tokens, stop, must_answer)
        results = job.run([questions[n] for n in places], [prompts[n] for n in places], len(places) if exact else size)
        for n, texts in zip(places, results, strict=True):
            found[n] = texts
        first += len(places)
        if progress is not None:
            progress(len(places))
    return found


def _prompts(engine: Engine, asked: Asked, number: int) -> list[Row]:
    if not len(asked.rows):
        raise DataError(f"question {number} has no prompts.")
    if asked.spans is not None and len(asked.spans) != len(asked.rows):
        raise ConfigError(f"question {number} has {len(asked.rows)} prompts and {len(asked.spans)} spans.")
    try:
        return read(engine, list(asked.rows))
    except DataError as error:
        raise DataError(f"question {number}: {error}") from None


def _power(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


class _Loop:
    """`kexue.decoding.loop.Loop` for questions with ``prompts`` rows each."""

    def __init__(self, engine: Engine, plan: Plan, room: int, prompts: int, vote: str) -> None:
        self.engine, self.plan, self.room, self.prompts, self.vote = engine, plan, room, prompts, vote
        compiled = loops.compiler()
        self.begin = compiled(engine.model, self._begin)
        self.go = compiled(engine.model, self._go)

    def _begin(self, inputs: dict[str, Any], data: dict[str, Any]) -> tuple[Any, Any]:
        branches, number = self.plan.search.branches, data["idle"].shape[0]
        logits, memory, state = self.engine.start(inputs, branches, self.room)
        log_p = self._log_p(logits)  # (questions, prompts, vocabulary)
        silence = ops.take(log_p, data["stops"][0], axis=-1)
        voters = ops.logical_and(data["prompts"], silence < ops.max(log_p, axis=-1))
        silent = ops.logical_not(ops.any(voters, axis=1))
        voters = ops.where(ops.logical_and(silent, data["min_tokens"] > 0)[:, None], data["prompts"], voters)
        silent = ops.logical_and(silent, ops.equal(data["min_tokens"], 0))
        tables = data.get("tables")
        if tables is not None:
            may = ops.take_along_axis(voters, data["owner"], axis=1)
            tables = tables | {"source": ops.where(may, tables["source"], -1)}
        memory = {"engine": memory, "tables": tables, "voters": voters}
        history = ops.zeros((number, branches, self.room), dtype="int32")
        idle = ops.logical_or(data["idle"], silent)
        carry = loops.first_carry(self.plan, history, ops.zeros((number,), dtype="int32"), idle, data.get("rule"))
        carry["path"] = {
            "parents": ops.zeros((number, self.room, branches), dtype="int32"),
            "tokens": ops.zeros((number, self.room, branches), dtype="int32"),
            "own": ops.zeros((number, self.prompts, self.room, branches), dtype="float32"),
        }
        shape = (number, self.prompts, branches, log_p.shape[-1])
        carry = self._choose(memory, carry, data, ops.broadcast_to(log_p[:, :, None], shape))
        return memory, carry | {"state": state, "silence": silence, "silent": silent, "voters": voters}

    def _log_p(self, logits: Any) -> Any:
        log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        return ops.reshape(log_p, (log_p.shape[0] // self.prompts, self.prompts, *log_p.shape[1:]))

    def _choose(self, memory: dict[str, Any], carry: dict[str, Any], data: dict[str, Any], log_p: Any) -> Any:
        """The carry with the next tokens; ``log_p`` is (questions, prompts, branches, vocabulary)."""
        path, t = carry["path"], carry["t"]
        if memory["tables"] is not None:
            data = data | {"tables": memory["tables"]}
        scores = combine(log_p, memory["voters"], self.vote)
        carry = choose(self.plan, {n: v for n, v in carry.items() if n != "path"}, data, scores)
        number, _, branches, vocabulary = log_p.shape
        tokens = carry["tokens"]
        parents = carry.get("parents")
        if parents is None:
            parents = ops.broadcast_to(ops.arange(branches, dtype="int32")[None], (number, branches))
        flat = ops.reshape(log_p, (number, self.prompts, branches * vocabulary))
        at = ops.broadcast_to((parents * vocabulary + tokens)[:, None], (number, self.prompts, branches))
        own = ops.take_along_axis(flat, at, axis=2)
        now = ops.equal(ops.arange(self.room, dtype="int32"), t)[:, None]
        path = {
            "parents": ops.where(now, parents[:, None], path["parents"]),
            "tokens": ops.where(now, tokens[:, None], path["tokens"]),
            "own": ops.where(now, own[:, :, None], path["own"]),
        }
        return carry | {"path": path}

    def _go(self, memory: dict[str, Any], carry: dict[str, Any], data: dict[str, Any], until: Any) -> dict[str, Any]:
        def runs(carry: dict[str, Any]) -> Any:
            return ops.logical_and(carry["t"] < until, ops.any(ops.equal(carry["reason"], RUNNING)))

        def step(carry: dict[str, Any]) -> dict[str, Any]:
            kept = {n: carry[n] for n in ("state", "silence", "silent", "voters")}
            state = carry["state"]
            if "parents" in carry:
                state = self.engine.reorder(state, ops.repeat(carry["parents"], self.prompts, axis=0))
            tokens = ops.repeat(carry["tokens"], self.prompts, axis=0)
            logits, state = self.engine.step(memory["engine"], state, tokens)
            carry = {n: v for n, v in carry.items() if n not in kept}
            return self._choose(memory, carry, data, self._log_p(logits)) | kept | {"state": state}

        if keras.backend.backend() == "torch":
            while bool(runs(carry)):
                carry = step(carry)
            return carry
        return ops.while_loop(runs, lambda carry: (step(carry),), (carry,))[0]


class _Job:
    """One batch of questions."""

    def __init__(
        self, engine: Engine, plan: Plan, vote: str, prompts: int, max_tokens: int, stop: int, must_answer: bool
    ) -> None:
        self.engine, self.plan, self.vote, self.prompts = engine, plan, vote, prompts
        self.max_tokens, self.stop, self.must_answer = max_tokens, stop, must_answer

    def run(self, questions: Sequence[Asked], rows: Sequence[Sequence[Row]], size: int) -> list[list[Voted]]:
        """The texts of the questions; ``rows`` are their prompts."""
        engine, plan, width = self.engine, self.plan, self.prompts
        grid = [row for own in rows for row in (*own, *[own[-1]] * (width - len(own)))]
        inputs = batch(engine, grid, size * width)
        idle = np.arange(size) >= len(questions)
        room = np.full(size, self.max_tokens, "int32")
        real = np.zeros((size, width), bool)
        for n, own in enumerate(rows):
            real[n, : len(own)] = True
            if engine.limit is not None:
                room[n] = min(self.max_tokens, engine.limit - max(len(row.tokens) for row in own))
        least = int(self.must_answer)
        data = search_data(plan.search, engine.vocabulary_size, [self.stop], room=room, idle=idle, min_tokens=least)
        data["prompts"] = real
        if plan.constraint is not None:
            data |= _sources(questions, size, width * (inputs[f"{engine.side}token_ids"].shape[1] + 1))
        slots = bucket(self.max_tokens, engine.limit)
        loop = loops.cached(
            engine, ("vote", plan.key, slots, width, self.vote), lambda: _Loop(engine, plan, slots, width, self.vote)
        )
        inputs = {name: ops.convert_to_tensor(value) for name, value in inputs.items()}
        data = tree.map_structure(ops.convert_to_tensor, data)
        memory, carry = loop.begin(inputs, data)
        reason = ops.convert_to_numpy(carry["reason"])
        while (np.asarray(reason) == RUNNING).any():
            until = ops.convert_to_tensor(int(carry["t"]) + CHUNK, dtype="int32")
            carry = loop.go(memory, carry, data, until)
            reason = ops.convert_to_numpy(carry["reason"])
        return self._results(carry, [len(own) for own in rows])

    def _results(self, carry: dict[str, Any], prompts: Sequence[int]) -> list[list[Voted]]:
        sequences = read_sequences(carry, self.plan.search, [0] * len(prompts), [self.stop])
        path = {name: np.asarray(ops.convert_to_numpy(value)) for name, value in carry["path"].items()}
        silence, silent, voters = (
            np.asarray(ops.convert_to_numpy(carry[name])) for name in ("silence", "silent", "voters")
        )
        found = []
        for n, count in enumerate(prompts):
            if silent[n]:
                score = float(silence[n, :count].mean())
                found.append([Voted([], score, "stop", [None] * count)])
                continue
            texts = []
            for one in sequences[n]:
                own = _own(path, n, one) if one.tokens else silence[n]
                support = [float(own[p]) if voters[n, p] else None for p in range(count)]
                texts.append(Voted(one.tokens, one.score, one.reason, support))
            found.append(texts)
        return found


def _own(path: dict[str, np.ndarray], n: int, one: Generated) -> np.ndarray:
    """``(prompts,)`` log probabilities of a text under each prompt, off the way that the beams went."""
    size = len(one.tokens)
    for branch in range(path["tokens"].shape[2]):
        at, total, same = branch, np.zeros(path["own"].shape[1]), True
        for t in reversed(range(size)):
            same = same and int(path["tokens"][n, t, at]) == one.tokens[t]
            total = total + path["own"][n, :, t, at]
            at = int(path["parents"][n, t, at])
        if same:
            return total
    raise AssertionError(f"no beam wrote {one.tokens}")  # a defect of the search, not of its arguments


def _sources(questions: Sequence[Asked], size: int, room: int) -> dict[str, Any]:
    """Tables of `SpanOfSource` over the passages of each question, one after the other with a gap, and whose each place
    is. ``room`` depends on the shape of the batch alone, so that there are no more shapes than of that."""
    parts = [
        [np.asarray(row)[start:end] for row, (start, end) in zip(asked.rows, asked.spans or (), strict=True)]
        for asked in questions
    ]
    width = room + 1
    ids, owner = np.full((size, width), -1, "int32"), np.zeros((size, width), "int32")
    for n, own in enumerate(parts):
        at = 0
        for p, part in enumerate(own):
            ids[n, at : at + len(part)] = part
            owner[n, at : at + len(part)] = p
            at += len(part) + 1
    tables = {"source": ids, "empty": np.bool_(True)}
    return {"tables": tables, "owner": owner, "rule": np.ones((size, width + 1), bool)}
