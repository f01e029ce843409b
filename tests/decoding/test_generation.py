"""Searches against plain ones that run the whole model for each sequence, one at a time."""

import functools
import itertools
from typing import Any

import keras
import numpy as np
import pytest
from tests.models import tiny

from kexue.decoding import Beam, Generation, Greedy, Sample, generate, stream
from kexue.decoding.constraints import Contains, SpanOfSource, Trie
from kexue.decoding.engine import make
from kexue.decoding.loop import compilations
from kexue.errors import ConfigError, DataError

STOP = 2
PROMPTS = [[4, 5, 6], [3, 4, 5, 4, 3], [6]]
TOY = {"vocabulary_size": 7, "num_layers": 1}
EAGER = tiny.BACKEND == "torch"
many = pytest.mark.skipif(not EAGER, reason="many programs to compile; the searches are the same on all backends")
KINDS = ["lm", "unilm", "t5"]


@functools.cache
def toy(kind: str = "lm") -> Any:
    """A language model, a UniLM, or one with a decoder, of seven tokens."""
    name, mask, more = {
        "lm": ("gpt2", None, TOY), "unilm": ("bert", "prefix", TOY), "t5": ("t5", None, TOY | {"decoder_layers": 1}),
    }[kind]  # fmt: skip
    model = tiny.build(name, head="lm", mask=mask, **more)
    model.get_layer("token_embedding").table.assign(2.0 * model.get_layer("token_embedding").table)
    return model


@functools.cache
def log_p(kind: str, prompt: tuple[int, ...], text: tuple[int, ...]) -> np.ndarray:
    """Log probabilities of the token after ``text``, by the model as a whole."""
    model, n = toy(kind), len(prompt)
    ids = prompt if kind == "t5" else prompt + text

    def padded(row: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:  # one shape: JAX compiles once
        return np.array([row + (0,) * (16 - len(row))], "int32"), np.arange(16)[None] < len(row)

    batch = dict(zip(("token_ids", "padding_mask"), padded(ids), strict=True))
    last = len(ids)
    if kind == "unilm":
        batch["segment_ids"] = ((np.arange(16) >= n) & (np.arange(16) < len(ids))).astype("int32")[None]
    if kind == "t5":
        last = 1 + len(text)
        batch |= dict(zip(("decoder_token_ids", "decoder_padding_mask"), padded((0, *text)), strict=True))
    logits = tiny.run(model, batch)["logits"][0, last - 1].astype("float64")
    return logits - np.log(np.exp(logits).sum())


def texts(found: Generation) -> list[list[tuple[list[int], str]]]:
    return [[(one.tokens, one.reason) for one in row] for row in found.sequences]


def greedy(kind: str, prompt: Any, room: int) -> tuple[list[int], str]:
    text: list[int] = []
    while len(text) < room:
        token = int(np.argmax(log_p(kind, tuple(prompt), tuple(text))))
        if token == STOP:
            return text, "stop"
        text.append(token)
    return text, "length"


@pytest.mark.parametrize("kind", KINDS if EAGER else ["t5"])
def test_greedy(kind: str) -> None:
    found = generate(toy(kind), PROMPTS, max_tokens=6, stop=STOP)
    assert texts(found) == [[greedy(kind, prompt, 6)] for prompt in PROMPTS]
    for prompt, row in zip(PROMPTS, found.sequences, strict=True):
        text = [*row[0].tokens, *([STOP] if row[0].reason == "stop" else [])]
        expected = sum(log_p(kind, tuple(prompt), tuple(text[:n]))[t] for n, t in enumerate(text))
        assert row[0].score == pytest.approx(expected, abs=1e-4)


@many
@pytest.mark.parametrize(
    "search",
    [Sample(1.3, top_k=5, top_p=0.9, min_p=0.01, n=2, seed=[5, 6, 7]), Beam(3, n_best=3, length_penalty=1.0)],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("kind", ["unilm", "t5"])
def test_ragged_equals_one_by_one(kind: str, search: Any) -> None:
    """Other rows, padding, idle rows and the cache change nothing."""
    model, options = toy(kind), {"max_tokens": 5, "stop": STOP, "repetition_penalty": 1.3, "no_repeat_ngram": 3}
    together = texts(generate(model, PROMPTS, search, **options))
    seeds = getattr(search, "seed", None)
    for n, prompt in enumerate(PROMPTS):
        one = search if seeds is None else Sample(1.3, top_k=5, top_p=0.9, min_p=0.01, n=2, seed=[seeds[n]])
        assert texts(generate(model, [prompt], one, **options)) == [together[n]]
    assert texts(generate(model, PROMPTS, search, **options, cached=False)) == together
    assert texts(generate(model, PROMPTS, search, **options, batch_size=2)) == together


SEARCHES = {
    "greedy": Greedy(),
    "temperature": Sample(1.7, n=2, seed=1),
    "top k": Sample(top_k=3, seed=2),
    "top p": Sample(1.5, top_p=0.7, n=2, seed=3),
    "min p": Sample(2.0, min_p=0.2, seed=4),
    "beam": Beam(3, n_best=2, length_penalty=0.6),
    "diverse beams": Beam(4, n_best=4, groups=2, diversity=0.5),
    "bert4keras": Beam(3, rule="bert4keras"),
}


@pytest.mark.parametrize("name", [n if EAGER else pytest.param(n, marks=pytest.mark.slow) for n in SEARCHES])
def test_each_search_with_and_without_a_cache(name: str) -> None:
    """Every search, with penalties, limits and a constraint, gives the same with a cache and without."""
    options: dict[str, Any] = {"max_tokens": 6, "stop": STOP}
    kinds = KINDS if EAGER else ["unilm"]
    more = [
        {"min_tokens": 3, "repetition_penalty": 1.4},
        {"no_repeat_ngram": 2, "count_prompt": True, "constraint": Contains([[3]]), "forbidden": [5]},
    ]
    for kind in kinds:
        for extra in more if EAGER else more[1:]:
            found = [generate(toy(kind), PROMPTS, SEARCHES[name], **options, **extra, cached=c) for c in (True, False)]
            assert texts(found[0]) == texts(found[1])
            for a, b in zip(found[0].sequences, found[1].sequences, strict=True):
                np.testing.assert_allclose([x.score for x in a], [x.score for x in b], atol=1e-4)


def every(kind: str, prompt: Any, room: int) -> list[tuple[tuple[int, ...], float, bool]]:
    """All results with sums of log probabilities, and whether they end with the stop token."""
    out = []
    tokens = [t for t in range(TOY["vocabulary_size"]) if t != STOP]
    for n in range(room + 1):
        for text in itertools.product(tokens, repeat=n):
            score = sum(log_p(kind, tuple(prompt), text[:i])[t] for i, t in enumerate(text))
            if n == room:
                out.append((text, score, False))
            else:
                out.append((text, score + log_p(kind, tuple(prompt), text)[STOP], True))
    return out


@many
@pytest.mark.parametrize("penalty", [0.0, 1.0, -1.0])
def test_beam_is_exhaustive(penalty: float) -> None:
    """Beams as wide as there are sequences find the best of all, in order."""
    room, kind = 3, "lm"
    found = generate(toy(kind), PROMPTS[:2], Beam(36, n_best=10, length_penalty=penalty), max_tokens=room, stop=STOP)
    for prompt, row in zip(PROMPTS, found.sequences, strict=False):
        ranked = sorted(every(kind, prompt, room), key=lambda e: -e[1] / (len(e[0]) + e[2]) ** penalty)[:10]
        assert [(tuple(one.tokens), one.reason == "stop") for one in row] == [(t, ended) for t, _, ended in ranked]
        np.testing.assert_allclose([one.score for one in row], [score for _, score, _ in ranked], atol=1e-4)


def pool_search(kind: str, prompt: Any, width: int, room: int, penalty: float) -> list[tuple[int, ...]]:
    """`Beam` written with lists."""
    beam: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    pool: list[tuple[float, tuple[int, ...]]] = []
    for t in range(1, room + 1):
        ways = [(text, s, log_p(kind, tuple(prompt), text)) for text, s in beam]
        pool += [((s + p[STOP]) / t**penalty, text) for text, s, p in ways]
        going = [((*text, n), s + p[n]) for text, s, p in ways for n in range(len(p)) if n != STOP]
        beam = sorted(going, key=lambda e: -e[1])[:width]
        pool += [(s / t**penalty, text) for text, s in beam] if t == room else []
        pool = sorted(pool, key=lambda e: -e[0])[:width]
    return [text for _, text in pool]


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_narrow_beam(penalty: float) -> None:
    """Stopping early loses nothing."""
    found = generate(toy("unilm"), PROMPTS, Beam(3, n_best=3, length_penalty=penalty), max_tokens=6, stop=STOP)
    for prompt, row in zip(PROMPTS, found.sequences, strict=True):
        assert [tuple(one.tokens) for one in row] == pool_search("unilm", prompt, 3, 6, penalty)


def plain_bert4keras(kind: str, prompt: Any, width: int, room: int, least: int) -> list[int]:
    """The rule of the spec's section 4 with lists."""
    beam: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for t in range(1, room + 1):
        going = [((*x, n), s + p) for x, s in beam for n, p in enumerate(log_p(kind, tuple(prompt), x))]
        beam = sorted(going, key=lambda e: -e[1])[:width]
        if t >= least:
            if STOP in beam[0][0]:
                break
            if t < room:
                beam = [(x, s) for x, s in beam if STOP not in x]
                width = len(beam)
    text = list(beam[0][0])
    return text[:-1] if text[-1] == STOP else text


@many
@pytest.mark.parametrize("least", [0, 3])
def test_bert4keras_rule(least: int) -> None:
    for kind in ("lm", "unilm"):
        found = generate(toy(kind), PROMPTS, Beam(4, rule="bert4keras"), max_tokens=6, min_tokens=least, stop=STOP)
        assert found.best == [plain_bert4keras(kind, prompt, 4, 6, least) for prompt in PROMPTS]


@many
def test_groups() -> None:
    """One group is plain beam search; groups that cost enough begin with different tokens."""
    model, options = toy("lm"), {"max_tokens": 4, "stop": STOP, "min_tokens": 4}
    plain = texts(generate(model, PROMPTS, Beam(2, n_best=2), **options))
    halves = texts(generate(model, PROMPTS, Beam(4, n_best=4, groups=2), **options))
    for a, b in zip(plain, halves, strict=True):  # without a cost both groups find the same
        assert sorted(b) == sorted(a + a)
    apart = generate(model, PROMPTS, Beam(4, n_best=4, groups=4, diversity=1e6), **options)
    for row in apart.sequences:
        assert len({one.tokens[0] for one in row}) == 4


@many
def test_limits() -> None:
    """Minimum, forbidden tokens, several stop tokens, the end of the positions."""
    model = toy("lm")
    for search in (Greedy(), Sample(3.0, n=3), Beam(2)):
        for row in generate(model, PROMPTS, search, max_tokens=6, min_tokens=3, stop=[STOP, 5]).sequences:
            assert all(len(one.tokens) >= 3 for one in row)
            assert all(not {STOP, 5} & set(one.tokens) for one in row)
        for row in generate(model, PROMPTS, search, max_tokens=6, stop=STOP, forbidden=[3, 4]).sequences:
            assert all(not {3, 4} & set(one.tokens) for one in row)
    near = [3, 4] * 11  # positions end at 24
    found = generate(model, [near, [3]], max_tokens=9, min_tokens=9, stop=STOP)
    assert [len(tokens) for tokens in found.best] == [2, 9]


@many
def test_seeds() -> None:
    """The seed decides; a row's numbers do not depend on its place when it has its own seed."""
    model = toy("lm")
    a, b, c = (texts(generate(model, PROMPTS, Sample(2.0, seed=s), max_tokens=8)) for s in (1, 1, 2))
    assert a == b
    assert a != c
    moved = texts(generate(model, PROMPTS[::-1], Sample(2.0, seed=[3, 2, 1]), max_tokens=8))
    assert moved[::-1] == a


@pytest.mark.skipif(EAGER, reason="each part has its test")
def test_compiled() -> None:
    """A loop with all that a loop can have: filters, penalties, constraints."""
    search = Sample(1.3, top_k=5, top_p=0.9, min_p=0.01, n=2, seed=[5, 6, 7, 8])
    options = {"max_tokens": 5, "stop": STOP, "repetition_penalty": 1.3, "no_repeat_ngram": 3}
    prompts = [[4, 3, 5, 6], PROMPTS[1], [3]]
    rules = Contains([[3]]) & SpanOfSource() & Trie([[n] for n in range(7)] + [list(p) for p in prompts])
    found = texts(generate(toy("unilm"), prompts, search, constraint=rules, **options))
    assert "stop" in {reason for row in found for _, reason in row}
    for prompt, row in zip(prompts, found, strict=True):
        for tokens, reason in row:  # a span that begins behind the 3 is a dead end
            assert reason in ("stop", "dead end")
            if reason == "stop":
                assert tokens in ([3], prompt)


@many
def test_constraints() -> None:
    words = [[3, 4, 5], [3, 4], [6, 6, 6, 6]]
    for search in (Greedy(), Sample(2.0, n=3), Beam(3, n_best=2), Beam(3, rule="bert4keras")):
        found = generate(toy("lm"), PROMPTS, search, max_tokens=5, stop=STOP, constraint=Trie(words))
        for row in found.sequences:
            assert all(one.reason == "stop" and one.tokens in words for one in row), search
        found = generate(toy("unilm"), PROMPTS, search, max_tokens=4, stop=STOP, constraint=SpanOfSource([3]))
        for prompt, row in zip(PROMPTS, found.sequences, strict=True):
            text = "".join(map(str, prompt)).split("3")
            for one in row:
                assert any("".join(map(str, one.tokens)) in part for part in text), search
    dead = generate(toy("lm"), PROMPTS, max_tokens=3, stop=STOP, constraint=Trie([[3]]) & Trie([[4]]))
    assert [row[0].reason for row in dead.sequences] == ["dead end"] * 3


@many
def test_processors() -> None:
    """A function of one's own changes logits."""

    def only_five(logits: Any, carry: dict[str, Any]) -> Any:
        return logits + 1e4 * keras.ops.one_hot(keras.ops.full((1, 1), 5, "int32"), logits.shape[-1])

    assert generate(toy("lm"), PROMPTS, max_tokens=3, processors=[only_five]).best == [[5, 5, 5]] * 3


def test_stream() -> None:
    model = toy("lm")
    for search in (Greedy(), Sample(2.0, seed=4)) if EAGER else (Greedy(),):
        whole = generate(model, PROMPTS[:1], search, max_tokens=7, stop=STOP, min_tokens=3).best[0]
        assert list(stream(model, PROMPTS[0], search, max_tokens=7, stop=STOP, min_tokens=3)) == whole
    with pytest.raises(ConfigError, match="stream"):
        stream(model, PROMPTS[0], Beam(2))


@many
def test_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C gives what is there."""
    model, calls = toy("lm"), []
    whole = generate(model, PROMPTS, max_tokens=40, min_tokens=20, stop=STOP, forbidden=[0])
    from kexue.decoding import generation

    advance = generation._Run.advance

    def stopped(self: Any, steps: int) -> bool:
        calls.append(steps)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return advance(self, 4)

    monkeypatch.setattr(generation._Run, "advance", stopped)
    found = generate(model, PROMPTS, max_tokens=40, min_tokens=20, stop=STOP, forbidden=[0], batch_size=2)
    assert found.interrupted
    assert found.best[2] == whole.best[2][:8]  # the shortest prompts run first
    assert found.best[0] == whole.best[0][:8]
    assert found.sequences[1] == []


@pytest.mark.skipif(tiny.BACKEND == "torch", reason="PyTorch compiles nothing")
def test_compilations() -> None:
    """Lengths, temperatures and limits of many requests share a few programs."""
    model = toy("lm")
    before = compilations(make(model))
    rng = np.random.default_rng(0)
    for _ in range(8):
        prompt = rng.integers(3, 7, rng.integers(1, 12)).tolist()
        generate(model, [prompt], max_tokens=int(rng.integers(1, 10)), repetition_penalty=float(rng.uniform(1.1, 2)))
    assert compilations(make(model)) - before <= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": [[]]}, "empty"),
        ({"prompts": [[1], []]}, "prompt 1 is empty"),
        ({"prompts": ["text"]}, "lists of token ids"),
        ({"prompts": [3]}, "lists of token ids"),
        ({"prompts": [[7]]}, "between 0 and 6"),
        ({"prompts": [[3] * 24]}, "leave room"),
        ({"prompts": {"token_ids": [[3]], "position_ids": [[0]]}}, "counts positions itself"),
        ({"prompts": {"token_ids": [[3]], "colour": [0]}}, "unknown input 'colour'"),
        ({"search": "greedy"}, "search must be"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"min_tokens": 9, "max_tokens": 3}, "min_tokens"),
        ({"stop": 7}, "stop must hold"),
        ({"forbidden": [-1]}, "forbidden must hold"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"batch_size": 0}, "batch_size"),
        ({"constraint": Trie([[3]])}, "needs a stop token"),
        ({"constraint": "a+", "stop": 2}, "kexue.decoding.constraints"),
        ({"search": Sample(seed=[1]), "prompts": [[3], [4]]}, "one for each prompt"),
    ],
)
def test_errors(change: dict[str, Any], message: str) -> None:
    arguments = {"prompts": [[3]], "search": None} | change
    with pytest.raises((ConfigError, DataError), match=message):
        generate(toy("lm"), arguments.pop("prompts"), arguments.pop("search"), **arguments)


def test_settings_are_checked() -> None:
    for wrong in ({"temperature": 0}, {"top_k": -1}, {"top_p": 0}, {"min_p": 2}, {"n": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Sample(**wrong)
    for wrong in ({"width": 0}, {"n_best": 9}, {"groups": 3}, {"rule": "x"}, {"temperature": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Beam(**wrong)
    with pytest.raises(ConfigError, match="head='lm'"):
        generate(tiny.build("gpt2"), [[3]])
