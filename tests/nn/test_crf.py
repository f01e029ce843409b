"""CRF against enumeration of all tag sequences, pytorch-crf, and itself under masks and multipliers."""

import functools
import itertools

import keras
import numpy as np
import pytest
from keras import ops
from tests.nn.harness import as_numpy, check_layer, gradient, jit

from kexue.errors import ConfigError
from kexue.nn.heads import CRF, CRFLoss, tag_constraints, viterbi_decode

K, N = 3, 5
MASKS = {
    "full": [1, 1, 1, 1, 1],
    "right padding": [1, 1, 1, 0, 0],
    "gaps": [0, 1, 0, 1, 1],
    "one token": [0, 0, 1, 0, 0],
    "no token": [0, 0, 0, 0, 0],
}
MASK = np.array(list(MASKS.values()), bool)


def run(method, *arguments):
    """Compiled, as NumPy."""
    return as_numpy(jit(method)(*arguments))


ALLOWED = np.array([[1, 1, 0], [0, 1, 1], [1, 0, 1]], bool)
START, END = np.array([1, 1, 0], bool), np.array([0, 1, 1], bool)


def make_crf(seed=0, **options):
    crf = CRF(K, project=False, **options)
    crf.build((None, None, K))
    rng = np.random.default_rng(seed)
    crf.set_weights([rng.normal(size=w.shape) / crf.lr_multiplier for w in crf.weights])
    return crf


def emissions(seed=1, scale=1.0):
    e = (scale * np.random.default_rng(seed).normal(size=(len(MASK), N, K))).astype("float32")
    return np.where(MASK[:, :, None], e, np.nan).astype("float32")  # nothing under the mask may leak


def enumerate_paths(crf, e, mask, constrained):
    """(path, score) of every tag sequence of one example, by the definition."""
    transitions, start, end = (np.asarray(p, float) for p in as_numpy(crf.potentials(constrained)))
    e = e[mask].astype(float)
    for path in itertools.product(range(K), repeat=len(e)):
        score = sum(e[t, y] for t, y in enumerate(path)) + sum(transitions[a, b] for a, b in itertools.pairwise(path))
        yield path, (score + start[path[0]] + end[path[-1]] if path else 0.0)


@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_equals_enumeration(constrained, scale):
    crf = make_crf(allowed=ALLOWED, allowed_start=START, allowed_end=END, constrain_training=constrained)
    e = emissions(scale=scale)
    log_z = run(crf.log_partition, e, MASK)
    marginals = run(crf.marginals, e, MASK)
    best, score = run(crf.viterbi, e, MASK)
    host = crf.decode(e, MASK)
    np.testing.assert_array_equal(host[0], best)
    np.testing.assert_array_equal(host[1], score)
    assert best.dtype == host[0].dtype == np.int32
    slope = gradient(lambda x: ops.sum(crf.log_partition(x, MASK)), e)
    np.testing.assert_allclose(slope, marginals, atol=1e-4)  # d log Z / d e = marginals
    for b, mask in enumerate(MASK):
        paths = list(enumerate_paths(crf, e[b], mask, constrained))
        scores = np.array([s for _, s in paths])
        p = np.exp(scores - scores.max())
        p /= p.sum()
        assert log_z[b] == pytest.approx(scores.max() + np.log(np.exp(scores - scores.max()).sum()), rel=1e-5, abs=1e-5)
        want = np.zeros((N, K))
        for (path, _), weight in zip(paths, p, strict=True):
            want[np.flatnonzero(mask), list(path)] += weight
        np.testing.assert_allclose(marginals[b], want, atol=1e-4)
        legal = [
            (s, y)
            for y, s in enumerate_paths(crf, e[b], mask, False)
            if not y or (START[y[0]] and END[y[-1]] and all(ALLOWED[i, j] for i, j in itertools.pairwise(y)))
        ]
        if legal:
            assert tuple(best[b][mask]) == max(legal)[1]
            assert score[b] == pytest.approx(max(legal)[0], rel=1e-5, abs=1e-4)
        assert (best[b][~mask] == -1).all()


def test_likelihood_sums_to_one_and_gaps_equal_compressed_rows():
    crf = make_crf()
    e = emissions()
    rows = np.repeat(e[2:3], K**3, axis=0)
    tags = np.full((K**3, N), -1)
    tags[:, MASK[2]] = list(itertools.product(range(K), repeat=3))
    by_tags = run(crf.log_likelihood, rows, tags)
    assert np.exp(by_tags).sum() == pytest.approx(1, rel=1e-5)
    tags_under_mask = np.where(tags < 0, 1, tags)  # whatever stands under an explicit mask
    by_mask = run(crf.log_likelihood, rows, tags_under_mask, np.repeat(MASK[2:3], K**3, axis=0))
    np.testing.assert_allclose(by_mask, by_tags, atol=1e-6)
    short = run(crf.log_likelihood, rows[:, MASK[2]], tags[:, MASK[2]])
    np.testing.assert_allclose(short, by_tags, atol=1e-5)
    scores = run(crf.score, rows, tags)
    np.testing.assert_allclose(scores, [s for _, s in enumerate_paths(crf, e[2], MASK[2], False)], atol=1e-5)


def test_empty_rows_and_extreme_emissions():
    crf = make_crf(allowed=ALLOWED)
    nothing = np.zeros((2, N), bool)
    e = np.full((2, N, K), 1e4, "float32") * np.array([1, -1, 0.5], "float32")
    tags = np.ones((2, N), "int32")
    for value in (
        run(crf.log_likelihood, e, tags, nothing),
        run(crf.log_partition, e, nothing),
        run(crf.marginals, e, nothing),
        run(crf.viterbi, e, nothing)[1],
    ):
        assert (value == 0).all()
    for mask in (nothing, ~nothing):
        slope = gradient(lambda x, m=mask: ops.sum(crf.log_likelihood(x, tags, m)), e)
        assert np.isfinite(slope).all()
    # label 0 throughout is better than label 1 by 2e4 a token
    assert run(crf.log_likelihood, e, tags) == pytest.approx(-2e4 * N, rel=1e-3)


def test_gradient_equals_finite_differences():
    crf = make_crf()
    e = np.nan_to_num(emissions())
    tags = np.where(MASK, np.random.default_rng(3).integers(0, K, MASK.shape), -1)
    slope = gradient(lambda x: ops.sum(crf.log_likelihood(x, tags)), emissions())
    assert (slope[~MASK] == 0).all()

    def exact(x):
        total = 0.0
        for b, mask in enumerate(MASK):
            paths = dict(enumerate_paths(crf, x[b].astype(float), mask, False))
            total += paths[tuple(tags[b][mask])] - np.logaddexp.reduce(list(paths.values()))
        return total

    for place in [(0, 0, 0), (0, 4, 2), (1, 2, 1), (1, 3, 1), (2, 3, 0), (3, 2, 2), (4, 1, 1)]:
        step = np.zeros(e.shape)
        step[place] = 1e-5
        assert slope[place] == pytest.approx((exact(e + step) - exact(e - step)) / 2e-5, abs=1e-4)


@pytest.mark.peer
def test_equals_pytorch_crf():
    torch = pytest.importorskip("torch")
    torchcrf = pytest.importorskip("torchcrf")
    crf = make_crf()
    peer = torchcrf.CRF(K, batch_first=True)
    with torch.no_grad():
        for ours, theirs in (
            (crf.transitions_weight, peer.transitions),
            (crf.start_weight, peer.start_transitions),
            (crf.end_weight, peer.end_transitions),
        ):
            theirs.copy_(torch.tensor(np.array(as_numpy(ours.value))))
    rng = np.random.default_rng(0)
    e = rng.normal(size=(6, 9, K)).astype("float32")
    mask = np.arange(9) < rng.integers(1, 10, (6, 1))
    tags = rng.integers(0, K, (6, 9))
    want = peer(torch.tensor(e), torch.tensor(tags), mask=torch.tensor(mask), reduction="none").detach().numpy()
    np.testing.assert_allclose(run(crf.log_likelihood, e, tags, mask), want, rtol=1e-5, atol=1e-5)
    paths = peer.decode(torch.tensor(e), mask=torch.tensor(mask))
    best, _ = run(crf.viterbi, e, mask)
    assert [row[row >= 0].tolist() for row in best] == paths
    loss = run(CRFLoss(crf), np.where(mask, tags, -1), e)
    assert loss == pytest.approx(-want.mean(), rel=1e-5)


def test_numpy_viterbi_equals_device_on_ties_and_long_rows():
    rng = np.random.default_rng(0)
    crf = make_crf()
    crf.set_weights([rng.integers(-1, 2, w.shape) for w in crf.weights])
    e = rng.integers(-1, 2, (20, 30, K)).astype("float32")  # integers: many exact ties
    mask = rng.random((20, 30)) < 0.7
    device, host = run(crf.viterbi, e, mask), crf.decode(e, mask)
    np.testing.assert_array_equal(device[0], host[0])
    np.testing.assert_array_equal(device[1], host[1])
    tags, score = viterbi_decode(e, np.zeros((K, K)))
    np.testing.assert_array_equal(tags, e.argmax(-1))
    np.testing.assert_allclose(score, e.max(-1).sum(-1))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_lr_multiplier_is_a_larger_learning_rate(optimizer):
    """A multiplier k equals k times the rate with Adam (epsilon 0), k squared with gradient descent, on the chain."""
    k, rate = 4.0, 0.01
    e, tags = np.nan_to_num(emissions()), np.where(MASK, 1, -1)

    def train(multiplier, rate):
        inputs = keras.Input((None, K))
        crf = make_crf(lr_multiplier=multiplier)
        model = keras.Model(inputs, crf(inputs))
        make = {"sgd": keras.optimizers.SGD, "adam": lambda r: keras.optimizers.Adam(r, epsilon=1e-20)}[optimizer]
        model.compile(make(rate), CRFLoss(crf))
        model.fit(e, tags, epochs=3, batch_size=8, shuffle=False, verbose=0)
        return as_numpy(crf.potentials())

    before = as_numpy(make_crf().potentials())
    for a, b in zip(before, as_numpy(make_crf(lr_multiplier=k).potentials()), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    slow = train(1.0, rate)
    fast = train(k, rate)
    plain = train(1.0, rate * (k if optimizer == "adam" else k * k))
    for a, b, c, d in zip(fast, plain, slow, before, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert np.abs(a - d).max() > 2 * np.abs(c - d).max() > 0


def test_multiplier_scales_the_first_values_too():
    crf = CRF(20, lr_multiplier=1000.0, chain_initializer=keras.initializers.RandomUniform(-0.1, 0.1, seed=0))
    crf.build((None, None, 4))
    values = as_numpy(crf.potentials()[0])
    assert 0.09 < np.abs(values).max() <= 0.1


@pytest.mark.parametrize("project", [True, False])
def test_layer_contract(project, tmp_path):
    make = functools.partial(
        CRF, 3, project=project, lr_multiplier=10.0, allowed=ALLOWED, allowed_end=END, constrain_training=True
    )
    x = np.random.default_rng(0).normal(size=(2, 6, 8 if project else 3)).astype("float32")
    layer = check_layer(make, {"x": x}, tmp_path, output_dtype="float32")
    assert layer.get_config()["allowed"] == ALLOWED.tolist()


def test_trains_saves_and_binds_again(tmp_path):
    """The tag of a token depends on its left neighbour's tag: only the chain can know."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    tags = (rng.integers(0, 2, (64, 1)) + np.arange(9)) % 2  # strictly alternating
    ids = np.where(rng.random((64, 9)) < 0.5, tags + 1, 0)  # half of the tokens say nothing
    inputs = keras.Input((None,), dtype="int32")
    crf = CRF(2, lr_multiplier=5.0, name="chain")
    model = keras.Model(inputs, crf(keras.layers.Embedding(3, 8)(inputs)))
    model.compile(keras.optimizers.Adam(0.02), CRFLoss(crf))
    tags[:, 7:] = -1
    first = model.evaluate(ids, tags, verbose=0)
    model.fit(ids, tags, epochs=12, batch_size=16, verbose=0)
    assert model.evaluate(ids, tags, verbose=0) < 0.2 * first
    found, _ = crf.decode(model.predict(ids, verbose=0), tags >= 0)
    informed = (ids[:, :7] > 0).any(1)
    assert (found[informed] == tags[informed]).mean() > 0.97

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    chain = loaded.get_layer("chain")
    e = loaded.predict(ids, verbose=0)
    np.testing.assert_array_equal(chain.decode(e, tags >= 0)[0], found)
    with pytest.raises(ConfigError, match="bind"):
        loaded.loss(tags, e)
    assert as_numpy(loaded.loss.bind(loaded)(tags, e)) == pytest.approx(run(CRFLoss(crf), tags, e), rel=1e-5)


def test_loss_leaves_empty_rows_out():
    crf = make_crf()
    e = np.nan_to_num(emissions())
    tags = np.where(MASK, 2, -1)
    each = -run(crf.log_likelihood, e, tags)
    assert each[-1] == 0
    assert run(CRFLoss(crf), tags, e) == pytest.approx(each[:-1].mean(), rel=1e-5)
    np.testing.assert_allclose(as_numpy(CRFLoss(crf, reduction="none")(tags, e)), each, rtol=1e-5)
    assert run(CRFLoss(crf), np.full((2, N), -1), e[:2]) == 0


def legal(tags):
    """The grammar of BMES or BIO, by reading the sequence."""
    closed = {"B-x", "I-x", "E-x", "S-x"} <= set(TAGS_IN_USE)
    open_type = None
    for tag in tags:
        prefix, _, kind = tag.partition("-")
        if prefix in {"I", "M", "E"}:
            if open_type != kind:
                return False
        elif closed and open_type is not None:
            return False
        open_type = kind if prefix in {"B", "I", "M"} else None
    return not (closed and open_type is not None)


TAGS_IN_USE: list[str] = []


@pytest.mark.parametrize("scheme", [["O", "B-x", "I-x", "B-y", "I-y"], ["O", "B-x", "I-x", "E-x", "S-x", "B-y", "E-y"]])
def test_tag_constraints_are_the_grammar(scheme):
    TAGS_IN_USE[:] = scheme
    allowed, start, end = tag_constraints(scheme)
    for path in itertools.product(range(len(scheme)), repeat=3):
        by_matrix = start[path[0]] and end[path[-1]] and all(allowed[a, b] for a, b in itertools.pairwise(path))
        assert by_matrix == legal([scheme[i] for i in path]), [scheme[i] for i in path]
    for bad in ("PER", "X-PER", "B-", "B"):
        with pytest.raises(ConfigError, match="tag"):
            tag_constraints(["O", bad])


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="lr_multiplier"):
        CRF(3, lr_multiplier=0)
    with pytest.raises(ConfigError, match="allowed_start"):
        CRF(3, allowed_start=[True])
    with pytest.raises(ConfigError, match="project=False"):
        CRF(3, project=False).build((None, None, 4))
