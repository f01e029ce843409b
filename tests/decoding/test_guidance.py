"""Classifier-free guidance against log probabilities of the whole model, mixed by hand."""

import functools
import itertools
from typing import Any

import numpy as np
import pytest
from tests.models import tiny

from kexue.decoding import Beam, Generation, Greedy, Guidance, Sample, generate, stream
from kexue.decoding.constraints import Trie
from kexue.decoding.engine import make
from kexue.decoding.loop import compilations
from kexue.errors import ConfigError, DataError

STOP = 2
PROMPTS = [[4, 5, 6], [3, 4, 5, 4, 3], [6]]
CONDITIONS = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
NULL = np.zeros((1, 4), "float32")
EAGER = tiny.BACKEND == "torch"
many = pytest.mark.skipif(not EAGER, reason="many programs to compile; guidance is the same on all backends")


@functools.cache
def toy(name: str = "gpt2") -> Any:
    """A causal model of seven tokens that listens to its condition."""
    more = {"mask": "prefix"} if name == "bert" else {}
    model = tiny.build(name, head="lm", vocabulary_size=7, num_layers=1, condition_size=4, **more)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        if weight.path.endswith(("gain_kernel", "bias_kernel")):
            weight.assign(rng.normal(0, 0.5, weight.shape))
    model.get_layer("token_embedding").table.assign(2.0 * model.get_layer("token_embedding").table)
    return model


@functools.cache
def plain(prompt: tuple[int, ...], text: tuple[int, ...], row: int | None) -> np.ndarray:
    """Log probabilities of the token after ``text`` under a condition, by the model as a whole."""
    ids = prompt + text
    batch = {"token_ids": np.array([ids + (0,) * (16 - len(ids))], "int32")}
    batch["padding_mask"] = np.arange(16)[None] < len(ids)
    batch["condition"] = NULL if row is None else CONDITIONS[row : row + 1]
    logits = tiny.run(toy(), batch)["logits"][0, len(ids) - 1].astype("float64")
    return logits - np.log(np.exp(logits).sum())


def guided(prompt: Any, text: tuple[int, ...], row: int, weight: float) -> np.ndarray:
    c, u = plain(tuple(prompt), text, row), plain(tuple(prompt), text, None)
    mixed = u + weight * (c - u)
    return mixed - np.log(np.exp(mixed).sum())


def batch(rows: slice = slice(None)) -> dict[str, Any]:
    prompts = PROMPTS[rows]
    ids = np.zeros((len(prompts), 5), "int32")
    for n, prompt in enumerate(prompts):
        ids[n, : len(prompt)] = prompt
    real = np.arange(5)[None] < np.array([len(prompt) for prompt in prompts])[:, None]
    return {"token_ids": ids, "padding_mask": real, "condition": CONDITIONS[rows]}


def texts(found: Generation) -> list[list[tuple[list[int], str]]]:
    return [[(one.tokens, one.reason) for one in row] for row in found.sequences]


def run(search: Any, weight: Any, rows: slice = slice(None), **options: Any) -> Generation:
    guidance = None if weight is None else Guidance(weight, {"condition": NULL})
    return generate(toy(), batch(rows), search, guidance=guidance, **({"max_tokens": 6, "stop": STOP} | options))


def test_greedy_by_hand() -> None:
    """Each prompt with a weight of its own; scores are those of the mixed distribution."""
    weights = [3.0, 0.5, -1.0]
    found = run(Greedy(), weights)
    for row, (prompt, weight) in enumerate(zip(PROMPTS, weights, strict=True)):
        text: tuple[int, ...] = ()
        score = 0.0
        while len(text) < 6:
            law = guided(prompt, text, row, weight)
            token = int(law.argmax())
            score += law[token]
            if token == STOP:
                break
            text = (*text, token)
        assert found.best[row] == list(text)
        assert found.sequences[row][0].score == pytest.approx(score, abs=1e-4)


def test_weights_one_and_zero() -> None:
    """1 is the model under its condition, 0 the model under the null condition; no new program for either."""
    search = Sample(1.5, seed=7)
    own = run(search, None)
    one = run(search, 1.0)
    before = compilations(make(toy(), guided=True))
    zero = run(search, 0.0)
    assert compilations(make(toy(), guided=True)) == before
    null = generate(toy(), batch() | {"condition": np.repeat(NULL, 3, 0)}, search, max_tokens=6, stop=STOP)
    for found, expected in ((one, own), (zero, null)):
        assert texts(found) == texts(expected)
        scores = [[row[0].score for row in x.sequences] for x in (found, expected)]
        np.testing.assert_allclose(*scores, atol=1e-4)
    assert texts(own) != texts(null)


@many
def test_beams_find_the_best_of_all() -> None:
    found = run(Beam(36, n_best=10), 2.5, slice(0, 2), max_tokens=3)
    others = [t for t in range(7) if t != STOP]
    for row, sequences in enumerate(found.sequences):
        ways = []
        for n in range(4):
            for text in itertools.product(others, repeat=n):
                whole = text if n == 3 else (*text, STOP)
                score = sum(guided(PROMPTS[row], whole[:i], row, 2.5)[t] for i, t in enumerate(whole))
                ways.append((score, text))
        ways = sorted(ways, reverse=True)[:10]
        assert [tuple(one.tokens) for one in sequences] == [text for _, text in ways]
        np.testing.assert_allclose([one.score for one in sequences], [score for score, _ in ways], atol=1e-4)


@many
@pytest.mark.parametrize(
    "search", [Sample(1.3, top_p=0.9, n=2, seed=[5, 6, 7]), Beam(3, n_best=3), Beam(3, rule="bert4keras")],
    ids=["sample", "beam", "bert4keras"],
)  # fmt: skip
def test_rows_are_alone(search: Any) -> None:
    """Other rows, padding and the cache change nothing."""
    weights = [2.0, 0.3, 4.0]
    options = {"repetition_penalty": 1.3, "no_repeat_ngram": 3}
    together = texts(run(search, weights, **options))
    assert texts(run(search, weights, **options, cached=False)) == together
    assert texts(run(search, weights, **options, batch_size=2)) == together
    for n in range(3):
        one = Sample(1.3, top_p=0.9, n=2, seed=[search.seed[n]]) if isinstance(search, Sample) else search
        assert texts(run(one, weights[n], slice(n, n + 1), **options)) == [together[n]]


@many
def test_constraints_and_streams() -> None:
    words = [[3, 4, 5], [6, 6]]
    found = run(Sample(2.0, n=3), 3.0, constraint=Trie(words))
    assert all(one.reason == "stop" and one.tokens in words for row in found.sequences for one in row)
    guidance = Guidance(3.0, {"condition": NULL})
    whole = run(Greedy(), 3.0, slice(0, 1)).best[0]
    assert list(stream(toy(), batch(slice(0, 1)), max_tokens=6, stop=STOP, guidance=guidance)) == whole


@many
@pytest.mark.parametrize("name", ["gpt2", "bert", "t5"])
def test_other_prompts(name: str) -> None:
    """Prompts of other lengths in the second row, with any kind of model: 0 writes what follows these."""
    more = {"decoder_layers": 1} if name == "t5" else {}
    more |= {"mask": "prefix"} if name == "bert" else {}
    model = tiny.build(name, head="lm", vocabulary_size=7, num_layers=1, **more)
    options = {"max_tokens": 6, "stop": STOP}
    for other in ([3], [4] * 18):
        expected = generate(model, [other], **options).best[0]
        found = generate(model, PROMPTS, guidance=Guidance(0.0, {"token_ids": [other]}), **options)
        assert [row[: len(expected)] for row in found.best] == [expected] * 3
        same = generate(model, PROMPTS, guidance=Guidance(1.0, {"token_ids": [other]}), **options)
        assert [
            a[: len(b)] for a, b in zip(generate(model, PROMPTS, **options).best, same.best, strict=True)
        ] == same.best


@pytest.mark.parametrize(
    ("guidance", "message"),
    [
        (2.0, "guidance must be Guidance"),
        (Guidance(float("nan"), {"condition": NULL}), "finite number"),
        (Guidance("big", {"condition": NULL}), "finite number"),
        (Guidance([1.0, 2.0], {"condition": NULL}), "each of the 3 prompts"),
        (Guidance(2.0, {}), "must name the inputs"),
        (Guidance(2.0, {"condition": NULL.repeat(2, 0)}), "one row or 3"),
        (Guidance(2.0, {"colour": NULL}), "unknown input 'colour'"),
        (Guidance(2.0, {"token_ids": [[3] * 24]}), "leave room"),
    ],
)
def test_errors(guidance: Any, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        generate(toy(), batch(), max_tokens=3, guidance=guidance)
