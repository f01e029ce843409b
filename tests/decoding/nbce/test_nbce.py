"""NBCE: the naive Bayes posterior exactly, pooling, the loop, transformers models, parallel windows."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from kexue.decoding.nbce import (
    NBCE,
    KexueRows,
    NaiveBayesLM,
    ParallelContexts,
    ParallelWindows,
    combine,
    entropy,
    exact_naive_bayes,
    keep_top_p,
    window_layout,
)
from kexue.decoding.nbce.pooling import NEVER, normalised
from kexue.errors import ConfigError, DataError
from kexue.models import Transformer


def tables(contexts=4, size=7, seed=0):
    """A prior, observed contexts' likelihoods, and the rows [log p(T), log p(T | S_k) ...]."""
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.ones(size))
    likelihoods = [rng.dirichlet(np.ones(5), size=size)[:, rng.integers(5)] for _ in range(contexts)]
    rows = [prior, *(prior * one / (prior * one).sum() for one in likelihoods)]
    return prior, likelihoods, np.log(rows)


@pytest.mark.parametrize("contexts", [1, 2, 4, 9])
def test_exact_naive_bayes_is_the_posterior(contexts):
    prior, likelihoods, rows = tables(contexts)
    posterior = prior * np.prod(likelihoods, axis=0)
    posterior /= posterior.sum()
    np.testing.assert_allclose(np.exp(exact_naive_bayes(rows)), posterior, atol=1e-12, rtol=0)
    mean = combine(rows, beta=contexts - 1.0, pooling="mean", top_p=1.0).log_scores
    np.testing.assert_allclose(np.exp(normalised(mean)), posterior, atol=1e-12, rtol=0)


def test_one_context_without_beta_is_ordinary_decoding():
    rows = tables(1)[2]
    for pooling in ("min_entropy", "mean", "max"):
        np.testing.assert_array_equal(combine(rows, beta=0, pooling=pooling, top_p=1.0).log_scores, rows[1])


@pytest.mark.parametrize("pooling", ["min_entropy", "mean", "max", lambda c: c[..., 0, :] * 0 + c.min(-2)])
def test_order_and_repetition_of_contexts(pooling):
    rows = tables(5)[2]
    order = np.array([0, 3, 1, 5, 2, 4])
    a, b = combine(rows, pooling=pooling), combine(rows[order], pooling=pooling)
    np.testing.assert_allclose(a.log_scores, b.log_scores, rtol=1e-12)
    assert order[1:][int(b.context)] - 1 == int(a.context)
    twice = combine(np.concatenate([rows, rows[1:]]), beta=0, pooling=pooling)
    np.testing.assert_allclose(twice.log_scores, combine(rows, beta=0, pooling=pooling).log_scores, rtol=1e-12)


def test_by_hand():
    """Two contexts over three tokens, every rule once."""
    rows = np.log([[0.5, 0.46, 0.04], [0.6, 0.3, 0.1], [0.02, 0.9, 0.08]])
    found = combine(rows, beta=0.25, top_p=0.95)
    assert int(found.context) == 1
    np.testing.assert_allclose(found.entropy[0], -sum(p * np.log(p) for p in (0.6, 0.3, 0.1)))
    # The nucleus of context 1 is tokens 1 and 2, that of the row without context tokens 0 and 1.
    expected = [NEVER, 1.25 * np.log(0.9) - 0.25 * np.log(0.46), np.log(0.08)]
    np.testing.assert_allclose(found.log_scores, expected)
    np.testing.assert_allclose(combine(rows, beta=1, pooling="mean", top_p=1.0).log_scores, rows[1] + rows[2] - rows[0])
    np.testing.assert_allclose(
        combine(rows, beta=1, pooling="max", top_p=1.0).log_scores, 2 * rows[1:].max(0) - rows[0]
    )


def test_stickiness():
    even = np.log([[0.5, 0.5], [0.6, 0.4], [0.62, 0.38]])
    assert int(combine(even).context) == 1
    assert int(combine(even, previous=0).context) == 0
    assert int(combine(even, previous=0, eta=0.0).context) == 1
    batch = combine(np.stack([even, even]), previous=np.array([0, 1]))
    assert batch.context.tolist() == [0, 1]


def test_top_p_and_entropy():
    logs = np.log([[0.5, 0.3, 0.15, 0.05], [0.97, 0.01, 0.01, 0.01]])
    kept = keep_top_p(logs, 0.9)
    assert (kept > NEVER / 2).tolist() == [[True, True, True, False], [True, False, False, False]]
    assert keep_top_p(logs, 1e-9).max() > NEVER / 2
    certain = np.array([0.0, NEVER])
    assert entropy(certain) == 0
    assert np.isfinite(combine(np.stack([certain, certain, certain[::-1]])).log_scores).all()
    impossible = normalised(np.array([0.0, -np.inf]))
    np.testing.assert_array_equal(impossible, [0, NEVER])


@pytest.mark.parametrize("options", [{}, {"pooling": "mean"}, {"pooling": "max", "previous": 2}, {"top_p": 0.3}])
def test_tensors_of_the_backend(options):
    rows = tables(4)[2].astype("float32")
    want, got = combine(rows, **options), combine(keras.ops.convert_to_tensor(rows), **options)
    for a, b in zip(want, got, strict=True):
        b = keras.ops.convert_to_numpy(b)  # noqa: PLW2901
        np.testing.assert_allclose(np.maximum(a, -1e29), np.maximum(b, -1e29), rtol=1e-5, atol=1e-5)


class Copier:
    """A language model that goes on with what followed the last token before, where it has seen it; 0 else."""

    def __init__(self, size=12):
        self.size = size

    def start(self, rows):
        self.rows = [list(row) for row in rows]
        logits = np.zeros((len(rows), self.size))
        for logit, row in zip(logits, self.rows, strict=True):
            for a, b in pairwise(row):
                if a == row[-1]:
                    logit[b] = 9.0
        return logits

    def extend(self, token):
        return self.start([[*row, token] for row in self.rows])


def test_the_context_that_knows_speaks():
    contexts = [[3, 4, 3, 5], [7, 8, 9, 10, 1], [4, 6, 4]]
    seen = []
    answer = NBCE(Copier(), temperature=0).generate(contexts, [7], max_tokens=8, stop=[1], progress=seen.append)
    assert answer.tokens == [8, 9, 10]
    assert answer.contexts == [1, 1, 1]
    assert answer.stopped
    assert [use.token for use in seen] == answer.tokens
    use = answer.used[0]
    assert use.log_probs.shape == use.entropy.shape == (3,)
    assert use.log_probs.argmax() == 1
    assert use.without == pytest.approx(-np.log(12))
    exact = NBCE(Copier(), temperature=0, beta="exact").generate(contexts, [7], max_tokens=3)
    assert exact.tokens == [8, 9, 10]
    assert not exact.stopped
    assert NBCE(Copier(), beta=lambda step: 0.1 * step).generate(contexts, [7], max_tokens=2, seed=0).tokens == [8, 9]


CONFIG = {
    "vocabulary_size": 30, "hidden_size": 8, "num_layers": 2, "num_heads": 2, "intermediate_size": 12,
    "max_length": 32, "num_segments": 0, "position": "rotary",
}  # fmt: skip


def network(mask, **more):
    net = Transformer(CONFIG | more, mask=mask, head="lm")
    rng = np.random.default_rng(1)
    for weight in net.trainable_weights:
        weight.assign(rng.normal(size=weight.shape).astype("float32") * 0.5)
    return net


@pytest.fixture(scope="module")
def causal():
    return network("causal")


def alone(model, row):
    logits = keras.ops.convert_to_numpy(model({"token_ids": np.asarray([row], "int32")})["logits"])[0, -1]
    return normalised(logits.astype("float64"))


CONTEXTS, PROMPT = [[9, 8, 7, 11], [20, 21]], [5, 6]


COMMON = [2, 3, 4, *range(5, 19)]
"""Long enough to be read once for all rows."""


@pytest.mark.parametrize("start", [[2], COMMON], ids=["", "common"])
@pytest.mark.parametrize("mask", ["causal", "prefix"] if keras.backend.backend() == "torch" else ["causal"])
def test_kexue_rows(causal, mask, start):
    """The cache, with the beginning that rows share or without, and with more slots when they are full, gives what the
    rows give when they are read anew, and what each gives alone."""
    model = causal if mask == "causal" else network("prefix", num_segments=2)
    first = [[*start, *PROMPT], [*start, *CONTEXTS[0], *PROMPT], [*start, *CONTEXTS[1], *PROMPT]]
    cached, anew = KexueRows(model), KexueRows(model, cached=False)
    np.testing.assert_allclose(normalised(cached.start(first)), anew.start(first), atol=2e-5)
    if mask == "causal":
        np.testing.assert_allclose(anew.start(first), [alone(model, row) for row in first], atol=2e-5)
    token = 13
    for _ in range(6):
        got, want = normalised(cached.extend(token)), anew.extend(token)
        np.testing.assert_allclose(got, want, atol=2e-5)
        token = int(want[0].argmax())


def test_rows_grow_and_end(causal, monkeypatch):
    """More slots when they are full; an error where the positions end."""
    from kexue.decoding.nbce import rows_cached

    monkeypatch.setattr(rows_cached, "ROOM", 2)
    rows, anew = KexueRows(causal), KexueRows(causal, cached=False)
    first = [[2, 5], [2, *CONTEXTS[0], 5]]
    rows.start(first)
    anew.start(first)
    for token in (9, 8, 7, 6, 5):
        got = rows.extend(token)
        want = anew.extend(token)
    np.testing.assert_allclose(normalised(got), want, atol=2e-5)
    rows = KexueRows(network("causal", position="learned"))
    rows.start([[2] * 31])
    rows.extend(3)
    with pytest.raises(ConfigError, match="end at 32"):
        rows.extend(3)
    with pytest.raises(ConfigError, match="start"):
        KexueRows(causal).extend(3)
    with pytest.raises(ConfigError, match="start"):
        KexueRows(causal, cached=False).extend(3)


@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "mean"}, {"pooling": "max"}, {"pooling": lambda c: c.min(-2)}, {"beta": "exact"}],
    ids=["default", "mean", "max", "callable", "exact"],
)
def test_cached_answers(causal, options):
    """The same tokens and contexts with the cache and without; the order of contexts does not matter."""
    answers = [
        NBCE(KexueRows(causal, cached=cached), start=COMMON, temperature=0, **options).generate(
            contexts, PROMPT, max_tokens=5
        )
        for cached, contexts in ((True, CONTEXTS), (False, CONTEXTS), (True, CONTEXTS[::-1]))
    ]
    assert answers[0].tokens == answers[1].tokens == answers[2].tokens
    assert answers[0].contexts == answers[1].contexts == [1 - n for n in answers[2].contexts]


class StepByStep:
    """The same rows without their compiled loop."""

    def __init__(self, model):
        rows = KexueRows(model)
        self.start, self.extend = rows.start, rows.extend


LAWS = {
    "default": {"temperature": 0},
    "sticky": {"temperature": 0, "eta": 5.0, "top_p": 0.5},
    "mean": {"pooling": "mean", "temperature": 0.8},
    "max": {"pooling": "max", "temperature": 0, "top_p": 1.0},
    "exact": {"beta": "exact", "temperature": 1.5},
    "step": {"beta": lambda t: 0.2 * t, "temperature": 1.0},
}


@pytest.mark.parametrize("options", LAWS.values(), ids=LAWS)
def test_compiled_loop(causal, options):
    """One program writes what the loop in Python writes, with the same reports, and a stop token ends both."""
    contexts = [*CONTEXTS, [3, 3, 4], [11, 12]]
    whole = NBCE(KexueRows(causal), start=[2], **options)
    steps = NBCE(StepByStep(causal), start=[2], **options)
    got, want = (one.generate(contexts, PROMPT, max_tokens=20, seed=3) for one in (whole, steps))
    assert got.tokens == want.tokens
    assert got.contexts == want.contexts
    for name in ("entropy", "log_probs", "without"):
        np.testing.assert_allclose(
            [getattr(use, name) for use in got.used], [getattr(use, name) for use in want.used], atol=2e-4
        )
    last = want.tokens[-1]
    seen = []
    got = whole.generate(contexts, PROMPT, max_tokens=20, seed=3, stop=[last], progress=seen.append)
    assert got.tokens == want.tokens[: want.tokens.index(last)]
    assert got.stopped
    assert [use.token for use in seen] == got.tokens


def test_compiled_loop_ends_with_the_positions():
    rows = KexueRows(network("causal", position="learned"))
    nbce = NBCE(rows, start=[2], temperature=0)
    answer = nbce.generate([[3] * 24], [5, 6], max_tokens=20)
    assert len(answer.tokens) == 32 - 27 + 1  # the last one is not read
    assert not answer.stopped
    with pytest.raises(ConfigError, match="start"):
        rows.extend(3)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="counts the programs of JAX")
def test_programs():
    """Numbers, contexts and their count are data."""
    from kexue.decoding.engine import make
    from kexue.decoding.loop import compilations

    model = network("causal")
    counts = []
    for n, contexts in enumerate([[[3, 4], [5], [6, 7]], [[3], [4, 5, 6, 7]], [[9, 8], [7]], [[1, 2], [3], [4]]]):
        nbce = NBCE(KexueRows(model), start=[2], beta=0.1 * n, eta=0.2 * n, top_p=0.9 - 0.1 * n, temperature=1.0 + n)
        nbce.generate(contexts, PROMPT, max_tokens=3 + n, stop=[n], seed=n)
        counts.append(compilations(make(model)))
    assert len(set(counts)) == 1
    assert counts[0] > 0


def test_one_context_is_greedy_decoding(causal):
    """n = 1 and beta = 0, nothing cut off: the model's own words."""
    from kexue.decoding import generate

    nbce = NBCE(KexueRows(causal), start=[2], temperature=0, beta=0.0, top_p=1.0, eta=0.0)
    written = nbce.generate(CONTEXTS[:1], PROMPT, max_tokens=6).tokens
    assert written == generate(causal, [[2, *CONTEXTS[0], *PROMPT]], max_tokens=6).best[0]
    twice = NBCE(KexueRows(causal), start=[2], temperature=0, beta=0.0, pooling="mean", top_p=1.0)
    repeated = twice.generate(CONTEXTS + CONTEXTS, PROMPT, max_tokens=5)
    assert repeated.tokens == twice.generate(CONTEXTS, PROMPT, max_tokens=5).tokens


def test_generation_step_by_step(causal):
    answer = NBCE(KexueRows(causal), start=[2], temperature=0).generate(CONTEXTS, PROMPT, max_tokens=4)
    previous = None
    for step, use in enumerate(answer.used):
        rows = [[2, *context, *PROMPT, *answer.tokens[:step]] for context in ([], *CONTEXTS)]
        found = combine(np.stack([alone(causal, row) for row in rows]), previous=previous)
        assert use.token == found.log_scores.argmax()
        assert use.context == previous or previous is None or use.context == int(found.context)
        previous = int(found.context)
    repeated = [NBCE(KexueRows(causal), temperature=1.0).generate(CONTEXTS, PROMPT, max_tokens=5, seed=s).tokens
                for s in (0, 0, 1, 2)]  # fmt: skip
    assert repeated[0] == repeated[1]
    assert len(set(map(tuple, repeated))) > 1


# Parallel context windows.


def test_window_layout():
    layout = window_layout([[1, 2, 3], [4]], [5, 6])
    assert layout.tokens.tolist() == [1, 2, 3, 4, 5, 6]
    assert layout.positions.tolist() == [0, 1, 2, 2, 3, 4]
    assert layout.dense().astype(int).tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [1, 1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1, 1],
    ]
    dense = ParallelWindows().dense(6, order=layout.windows)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(dense)[0, 0], layout.dense())


def test_parallel_windows(causal):
    windows = ParallelContexts(network(ParallelWindows()))
    one = windows.next(CONTEXTS[:1], PROMPT)
    np.testing.assert_allclose(one, alone(causal, [*CONTEXTS[0], *PROMPT]), atol=1e-4)
    both = windows.next(CONTEXTS, PROMPT)
    np.testing.assert_allclose(both, windows.next(CONTEXTS[::-1], PROMPT), atol=1e-4)
    assert np.abs(both - one).max() > 1e-3
    assert windows.generate(CONTEXTS, PROMPT, max_tokens=2)[0] == both.argmax()
    with pytest.raises(ConfigError, match="ParallelWindows"):
        ParallelContexts(causal)


# The demonstration model.


@pytest.mark.parametrize("residual", [False, True])
def test_attention_is_naive_bayes(residual):
    rng = np.random.default_rng(0)
    texts = [rng.integers(9, size=12) for _ in range(6)]
    model = NaiveBayesLM.from_texts(texts, 9, residual=residual)
    ids = rng.integers(9, size=11)
    np.testing.assert_allclose(model.weighted(ids), model.attention(ids), atol=1e-6)
    np.testing.assert_allclose(np.exp(model.table).sum(1), 1)
    if not residual:
        from kexue.nn.attention.kernels import attend

        q, k, v = (a[ids][None, :, None].astype("float32") for a in (model.query, model.key, model.value))
        layer = keras.ops.convert_to_numpy(attend(*map(keras.ops.convert_to_tensor, (q, k, v)), scale=1.0, causal=True))
        np.testing.assert_allclose(layer[0, :, 0] @ model.output.T, model.weighted(ids), atol=1e-3)


def test_equal_weights_are_naive_bayes():
    """On a law where the tokens before are independent given the next one, the posterior is exact."""
    rng = np.random.default_rng(0)
    size = 5
    likelihood = rng.dirichlet(np.ones(size), size=size)  # p(x_j | x_t), row x_t
    prior = rng.dirichlet(np.ones(size))
    joint = likelihood * prior[:, None]
    table = np.log(joint / joint.sum(0)).T  # log p(x_t | x_j), row x_j
    u, s, vt = np.linalg.svd(table)
    model = NaiveBayesLM(np.zeros((size, 2)), np.zeros((size, 2)), u * s, vt.T, prior=np.log(prior))
    ids = [0, 3, 3, 1]
    posterior = prior * np.prod(likelihood[:, ids], axis=1)
    np.testing.assert_allclose(np.exp(model.naive_bayes(ids)), posterior / posterior.sum(), atol=1e-12)
    mean = model.attention(ids)[-1]  # queries of zero: all weights 1/4
    logits = 4 * mean - 3 * np.log(prior)
    np.testing.assert_allclose(logits - np.logaddexp.reduce(logits), model.naive_bayes(ids), atol=1e-10)


@pytest.mark.parametrize(
    "call",
    [
        lambda: combine(np.zeros((1, 4))),
        lambda: combine(np.zeros(4)),
        lambda: combine(np.zeros((3, 4)), beta=-2),
        lambda: combine(np.zeros((3, 4)), pooling="median"),
        lambda: combine(np.zeros((3, 4)), top_p=0),
        lambda: NBCE(Copier(), beta=-2),
        lambda: NBCE(Copier(), pooling="median"),
        lambda: NBCE(Copier(), top_p=2),
        lambda: NBCE(Copier(), beta=lambda step: -2.0 * step).generate([[1]], [1]),
        lambda: NBCE(Copier(), temperature=-1),
        lambda: NBCE(Copier(), beta="all"),
        lambda: NBCE(Copier()).generate([], [1]),
        lambda: NBCE(Copier()).generate([[1]], []),
        lambda: KexueRows(Transformer(CONFIG, head="lm")),
        lambda: KexueRows(network("causal")).start([[1] * 3, []]),
        lambda: KexueRows(network("causal")).start([[99]]),
        lambda: KexueRows(network("causal")).start([]),
        lambda: KexueRows(network("causal"), cached=False).start([[1] * 3, []]),
        lambda: window_layout([], [1]),
        lambda: window_layout([[1]], []),
        lambda: NaiveBayesLM(np.zeros((3, 2)), np.zeros((3, 1)), np.zeros((3, 2)), np.zeros((3, 2))),
        lambda: NaiveBayesLM.from_texts([[0, 9]], 3),
    ],
)
def test_mistakes(call):
    with pytest.raises((ConfigError, DataError)):
        call()
