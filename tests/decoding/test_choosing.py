"""One step of the searches: filters, draws and penalties against their definitions."""

from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from kexue.decoding.choosing import HIDDEN, Plan, _repeated, choose, log_probabilities
from kexue.decoding.filters import nucleus
from kexue.decoding.strategies import Sample
from kexue.decoding.tokens import mark

SIZE, DRAWS = 8, 40000
LOGITS = np.array([1.2, 0.3, -0.5, 2.0, 0.3, -3.0, 1.1, 0.0])


def filtered(search: Sample) -> np.ndarray:
    """The distribution by the definition, step by step."""
    p = np.exp(LOGITS / search.temperature)
    order = np.argsort(-p, kind="stable")
    keep = list(order[: search.top_k or SIZE])
    total = p[keep].sum()
    likelier = [sum(p[i] for i in keep if p[i] > p[token]) for token in keep]
    nucleus = [token for token, mass in zip(keep, likelier, strict=True) if mass / total < search.top_p]
    final = [t for t in nucleus if p[t] >= search.min_p * p[nucleus].max()]
    out = np.zeros(SIZE)
    out[final] = p[final] / p[final].sum()
    return out


@pytest.mark.parametrize(
    "search",
    [
        Sample(), Sample(0.5), Sample(top_k=3), Sample(2.0, top_k=1), Sample(top_p=0.6), Sample(top_p=1e-6),
        Sample(min_p=0.3), Sample(1.5, top_k=6, top_p=0.8, min_p=0.2),
    ],
)  # fmt: skip
def test_distribution(search: Sample) -> None:
    """Total variation between many draws and the closed form; nothing that is filtered is ever drawn."""
    numbers = np.random.default_rng(0).random((1, DRAWS, 1)).astype("float32")
    carry: dict[str, Any] = {
        "history": np.zeros((1, DRAWS, 2), "int32"), "start": np.array([1], "int32"), "t": np.int32(0),
        "tokens": np.zeros((1, DRAWS), "int32"), "length": np.zeros((1, DRAWS), "int32"),
        "score": np.zeros((1, DRAWS), "float32"), "reason": np.zeros((1, DRAWS), "int32"),
    }  # fmt: skip
    data: dict[str, Any] = {
        "stop": np.zeros(SIZE, bool), "forbidden": np.zeros(SIZE, bool), "room": np.array([1], "int32"),
        "min_tokens": np.int32(0), "temperature": np.float32(search.temperature), "pad": np.int32(0),
        "top_k": np.int32(search.top_k or SIZE), "top_p": np.float32(search.top_p),
        "min_p": np.float32(search.min_p), "uniform": numbers,
    }  # fmt: skip
    carry, data = (keras.tree.map_structure(ops.convert_to_tensor, x) for x in (carry, data))
    logits = ops.convert_to_tensor(np.tile(LOGITS.astype("float32"), (1, DRAWS, 1)))
    after = choose(Plan(search, SIZE), carry, data, logits)
    counts = np.bincount(ops.convert_to_numpy(after["tokens"])[0], minlength=SIZE) / DRAWS
    expected = filtered(search)
    assert 0.5 * np.abs(counts - expected).sum() < 0.012
    assert not counts[expected == 0].any()
    tokens = ops.convert_to_numpy(after["tokens"])[0]
    log_p = LOGITS / search.temperature - np.log(np.exp(LOGITS / search.temperature).sum())
    np.testing.assert_allclose(ops.convert_to_numpy(after["score"])[0], log_p[tokens], atol=1e-5)


@given(
    hnp.arrays("int32", (3, 50), elements=st.integers(-320, 320)).map(lambda n: n.astype("float32") / 16),
    st.floats(0.01, 0.999),
    st.sampled_from([0.0, -1e30]),
)
@settings(max_examples=60)
def test_nucleus(logits: np.ndarray, p: float, last: float) -> None:
    """Against the definition in float64; where the mass before a token is within rounding of ``p``, either is right."""
    logits[:, -1] += np.float32(last)
    found = ops.convert_to_numpy(nucleus(ops.convert_to_tensor(logits), np.float32(p)))
    masses = np.exp(logits.astype("float64") - logits.max(1, keepdims=True))
    masses /= masses.sum(1, keepdims=True)
    likelier = np.array([[row[x > x[i]].sum() for i in range(50)] for x, row in zip(logits, masses, strict=True)])
    clear = np.abs(likelier - p) > 1e-5
    np.testing.assert_array_equal(found[clear], (likelier < p)[clear])
    assert found.any(1).all()


@pytest.mark.parametrize("of_prompt", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_ngrams(n: int, of_prompt: bool) -> None:
    rng = np.random.default_rng(n)
    history = rng.integers(0, 3, (4, 2, 11)).astype("int32")
    start, t = np.array([1, 3, 4, 2], "int32"), 6
    carry = {"history": history, "start": start, "t": np.int32(t)}
    carry = keras.tree.map_structure(ops.convert_to_tensor, carry)
    found = ops.convert_to_numpy(_repeated(Plan(Sample(), 4, ngram=n, of_prompt=of_prompt), carry))
    for row in range(4):
        for branch in range(2):
            text = list(history[row, branch, 0 if of_prompt else start[row] : start[row] + t])
            grams = {tuple(text[i : i + n]) for i in range(len(text) - n + 1)}
            expected = [tuple([*text, token][-n:]) in grams for token in range(4)]
            assert found[row, branch].tolist() == expected


@pytest.mark.parametrize("of_prompt", [False, True])
def test_penalty(of_prompt: bool) -> None:
    rng = np.random.default_rng(0)
    history = rng.integers(0, SIZE, (2, 3, 7)).astype("int32")
    start, t, by = np.array([1, 3], "int32"), 3, 1.7
    logits = rng.normal(size=(2, 3, SIZE)).astype("float32")
    carry = {"history": history, "start": start, "t": np.int32(t)}
    carry = keras.tree.map_structure(ops.convert_to_tensor, carry)
    data = {"penalty": np.float32(by), "temperature": np.float32(1)}
    data = keras.tree.map_structure(ops.convert_to_tensor, data)
    plan = Plan(Sample(), SIZE, penalty=True, of_prompt=of_prompt)
    found = ops.convert_to_numpy(log_probabilities(plan, carry, data, ops.convert_to_tensor(logits)))
    for row in range(2):
        for branch in range(3):
            x = logits[row, branch].copy()
            for token in set(history[row, branch, 0 if of_prompt else start[row] : start[row] + t].tolist()):
                x[token] = x[token] / by if x[token] > 0 else x[token] * by
            np.testing.assert_allclose(found[row, branch], x - np.log(np.exp(x).sum()), atol=1e-5)


def test_mark() -> None:
    rng = np.random.default_rng(0)
    tokens, counts = rng.integers(0, 5, (2, 3, 4)), rng.random((2, 3, 4)) < 0.5
    found = ops.convert_to_numpy(mark(ops.convert_to_tensor(tokens.astype("int32")), ops.convert_to_tensor(counts), 5))
    for row in range(2):
        for branch in range(3):
            expected = set(tokens[row, branch][counts[row, branch]].tolist())
            assert set(np.flatnonzero(found[row, branch]).tolist()) == expected
    assert HIDDEN < -1e29
