"""Language models behind the samplers: scores by hand, Gibbs sampling, keywords, paraphrases."""

import keras
import numpy as np
import pytest

from kexue.decoding import search
from kexue.decoding.search import CausalScores, KeywordWriter, MaskedGibbs, MaskedScores, Paraphraser
from kexue.decoding.search.likeness import SoftMatch, shared_pairs
from kexue.errors import ConfigError, DataError
from kexue.models import Transformer
from kexue.text import Tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天地玄黄宇宙洪荒日月"]
SIZE = len(WORDS)
CONFIG = {
    "vocabulary_size": SIZE, "hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 12,
    "max_length": 16, "num_segments": 2, "position": "rotary",
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    net = Transformer(CONFIG, mask="prefix", head="lm")
    rng = np.random.default_rng(0)
    for weight in net.trainable_weights:
        weight.assign(rng.normal(size=weight.shape).astype("float32") * 0.5)
    return net


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_vocab(WORDS)


@pytest.fixture(scope="module")
def masked(model, tokenizer):
    return MaskedScores.of(model, tokenizer, batch_size=8)


@pytest.fixture(scope="module")
def causal(model):
    return CausalScores(model, start=2, end=3, batch_size=8)


def log_softmax(model, ids, segment):
    """One row, no padding, float64."""
    row = np.asarray([ids], "int32")
    logits = keras.ops.convert_to_numpy(model({"token_ids": row, "segment_ids": np.full_like(row, segment)})["logits"])
    logits = logits[0].astype("float64")
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


SENTENCES = [[5, 6, 7], [8], [9, 9, 10, 11, 5, 6]]


def test_causal_scores(model, causal):
    scores = causal(SENTENCES)
    for sentence, score in zip(SENTENCES, scores, strict=True):
        row = [2, *sentence, 3]
        logs = log_softmax(model, row, 1)
        assert score == pytest.approx(sum(logs[t, row[t + 1]] for t in range(len(row) - 1)), abs=1e-4)
    laws = causal.next([[], [5, 6]])
    np.testing.assert_allclose(laws[1], log_softmax(model, [2, 5, 6], 1)[-1], atol=1e-4)
    assert causal.perplexity([[8]])[0] == pytest.approx(np.exp(-scores[1] / 2), rel=1e-5)


def test_pseudo_log_likelihood(model, masked):
    scores = masked(SENTENCES)
    for sentence, score in zip(SENTENCES, scores, strict=True):
        total = 0.0
        for i, token in enumerate(sentence):
            row = [2, *sentence[:i], 4, *sentence[i + 1 :], 3]
            total += log_softmax(model, row, 0)[i + 1, token]
        assert score == pytest.approx(total, abs=1e-4)


def test_a_model_that_sees_ahead_gives_no_log_p(tokenizer):
    with pytest.raises(ConfigError, match="mask='causal'"):
        CausalScores(Transformer(CONFIG, head="lm"), start=2)
    with pytest.raises(ConfigError, match="both sides"):
        MaskedScores.of(Transformer(CONFIG, mask="causal", head="lm"), tokenizer)
    with pytest.raises(ConfigError, match="head='lm'"):
        MaskedScores.of(Transformer(CONFIG), tokenizer)


class Tabulated(MaskedScores):
    """A masked language model that knows a joint law over two letters and three places, for MaskedGibbs to find."""

    def __init__(self, table):
        self.mask_id, self.start, self.end = 2, [], []
        self.forward, self.table, self.longest = self, table, None

    def at(self, rows, places):
        laws = np.full((len(rows), 1, 3), -np.inf)
        for i, (row, (place,)) in enumerate(zip(rows, places, strict=True)):
            index = [slice(None) if j == place else value for j, value in enumerate(row)]
            laws[i, 0, :2] = np.log(self.table[tuple(index)])
        return laws


@pytest.mark.parametrize("scan", ["random", "permutation"])
def test_gibbs_draws_from_consistent_conditionals(scan):
    table = np.random.default_rng(0).dirichlet(np.ones(8)).reshape(2, 2, 2)
    sampler = MaskedGibbs(Tabulated(table), scan=scan)
    run = sampler.sample([[0, 0, 0]] * 400, 60, burn_in=20, seed=0)
    law = search.empirical_law(state for step in run.samples for state in step)
    assert search.total_variation(law, {tuple(map(int, i)): p for i, p in np.ndenumerate(table)}) < 0.02


def test_gibbs_on_a_transformer(masked, tokenizer):
    forbidden = search.special_tokens(tokenizer)
    assert forbidden == [0, 1, 2, 3, 4]
    sampler = MaskedGibbs(masked, forbidden=[*forbidden, 5])
    start = [[6, 7, 8, 9], [4] * 6, [1, 4, 10]]
    frozen = [[False, True, False, True], [False] * 6, [True, False, True]]
    run = sampler.sample(start, 24, frozen=frozen, burn_in=4, thin=6, seed=3)
    assert run.steps == [10, 16, 22, 28]
    assert len(run.samples) == 4
    assert run.samples[-1] != run.samples[0]
    assert [len(text) for text in run.last] == [4, 6, 3]
    assert (run.last[0][1], run.last[0][3], run.last[2][0], run.last[2][2]) == (7, 9, 1, 10)
    assert 4 not in run.last[1]
    assert not {0, 2, 3, 5} & {t for step in run.samples for text in step for t in text}
    again = sampler.sample(start, 24, frozen=frozen, burn_in=4, thin=6, seed=3)
    assert again.samples == run.samples
    assert sampler.sample(start, 24, frozen=frozen, burn_in=4, thin=6, seed=4).samples != run.samples
    # A chain does not depend on what runs beside it.
    assert sampler.sample(start[:1], 24, frozen=frozen[:1], burn_in=4, thin=6, seed=3).last[0] == run.last[0]


def test_blocks_top_k_and_temperature(masked):
    cold = MaskedGibbs(masked, forbidden=range(5), temperature=1e-3, block=2, scan="systematic")
    likeliest = MaskedGibbs(masked, forbidden=range(5), top_k=1, block=2, scan="systematic")
    start = [[6, 7, 8, 9, 10]] * 2
    assert cold.sample(start, 6, seed=0).last == likeliest.sample(start, 6, seed=1).last
    falling = MaskedGibbs(masked, forbidden=range(5), temperature=lambda step: 2.0 / (step + 1))
    assert len(falling.sample(start, 5, seed=0).samples) == 5


def test_fill(model, masked):
    places, laws = MaskedGibbs(masked, forbidden=[7]).fill([5, 4, 6, 4])
    assert places == [1, 3]
    np.testing.assert_allclose(laws.sum(1), 1)
    assert (laws[:, 7] == 0).all()
    logs = log_softmax(model, [2, 5, 4, 6, 4, 3], 0)[[2, 4]]
    logs[:, 7] = -np.inf
    np.testing.assert_allclose(laws, np.exp(logs) / np.exp(logs).sum(1, keepdims=True), atol=1e-5)


def test_keyword_writer(causal, masked, tokenizer):
    writer = KeywordWriter(causal, tokenizer, slots=masked.slots, shortest=5, longest=9)
    seen = []
    found = writer.write(
        ["天地", "月"], chains=3, steps=12, seed=0, progress=lambda n, best: seen.append(best[0].score)
    )
    assert len(found) == 3
    for one in found:
        assert "天地" in one.text
        assert "月" in one.text
        assert 5 <= len(one.tokens) <= 9
        assert one.score == pytest.approx(0.8 * causal([one.tokens])[0], abs=1e-4)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert seen == sorted(seen)  # best so far
    assert seen[-1] == found[0].score
    with pytest.raises(DataError, match="囍"):
        writer.write(["天囍"])
    with pytest.raises(DataError, match="MASK"):
        writer.write(["天[MASK]"])
    with pytest.raises(DataError, match="no token"):
        writer.write([" "])
    with pytest.raises(ConfigError, match="longest"):
        writer.write(["天地玄黄宇宙洪荒日月"])


def test_likeness(model):
    match = SoftMatch(model, start=[2], end=[3], segment=0)
    values = match([[5, 6, 7], [5, 6, 8], [9, 10, 11], []], [5, 6, 7])
    assert values[0] == pytest.approx(1, abs=1e-5)
    assert values[3] == 0
    assert (values[1:3] < values[0]).all()
    assert shared_pairs([[5, 6, 7], [6, 5], [5, 6, 9], [5]], [5, 6, 7]).tolist() == [1, 0, 0.5, 0]


def test_paraphraser(causal, masked, tokenizer, model):
    search_ = Paraphraser(
        causal, tokenizer, SoftMatch(model, start=[2], end=[3], segment=0), slots=masked.slots, slack=1
    )
    source = "天地玄黄宇宙"
    ids = [5, 6, 7, 8, 9, 10]
    found = search_.paraphrase(source, keep=["玄黄"], chains=3, steps=25, seed=0)
    for one in found:
        assert "玄黄" in one.text
        assert 5 <= len(one.tokens) <= 7
        assert one.score >= search_.score([ids], ids)[0] - 1e-4
        assert one.score == pytest.approx(search_.score([one.tokens], ids)[0], abs=1e-3)
    assert any(one.text != source for one in found)
    with pytest.raises(DataError, match="lacks"):
        search_.paraphrase(source, keep=["日月"])


@pytest.mark.parametrize(
    "call",
    [
        lambda m: MaskedGibbs(m, block=0),
        lambda m: MaskedGibbs(m, scan="zigzag"),
        lambda m: MaskedGibbs(m).sample([], 3),
        lambda m: MaskedGibbs(m).sample([[]], 3),
        lambda m: MaskedGibbs(m).sample([[5]], 0),
        lambda m: MaskedGibbs(m).sample([[5]], 3, frozen=[[True]]),
        lambda m: MaskedGibbs(m).sample([[5]], 3, frozen=[[True, False]]),
        lambda m: MaskedGibbs(m, forbidden=range(SIZE)).sample([[5]], 3),
        lambda m: MaskedGibbs(m, forbidden=[SIZE]).sample([[5]], 3),
        lambda m: MaskedGibbs(m, temperature=0).sample([[5]], 3),
        lambda m: m.forward.at([[]], [[0]]),
    ],
)
def test_mistakes(call, masked):
    with pytest.raises(ConfigError):
        call(masked)
