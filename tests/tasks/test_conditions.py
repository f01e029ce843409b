"""`NER` with a condition that comes with every text."""

import random

import numpy as np
import pytest
from tests.tasks.conftest import FILLER, LABELS, TOKENS, new, sentences

from kexue.errors import ConfigError, DataError
from kexue.tasks import NER, _fit
from kexue.tasks import ner as ner_module
from kexue.text import Tokenizer

PICK = np.eye(2, dtype="float32")


def conditioned(count, seed):
    """Places whose label only the condition tells; every text stands there twice, once with each condition."""
    rng = random.Random(seed)
    found = []
    for _ in range(count // 2):
        text = "".join(rng.choices(FILLER, k=rng.randint(2, 5)))
        entity = {"start": len(text), "end": len(text) + 3}
        text += "".join(rng.sample("青阳临河江", 2)) + "市" + rng.choice(FILLER)
        for kind, label in enumerate(LABELS):
            found.append({"text": text, "entities": [entity | {"label": label}], "condition": PICK[kind].tolist()})
    return found


def stirred(ner, seed=0):
    """Weights of the condition as after a training, so that it matters."""
    rng = np.random.default_rng(seed)
    kernels = [v for v in ner.model.weights if v.path.endswith(("gain_kernel", "bias_kernel"))]
    assert kernels
    for kernel in kernels:
        assert not np.any(np.asarray(kernel))  # zero at first
        kernel.assign(rng.normal(size=kernel.shape))
    return ner


def same(one, other, **tolerance):
    assert [[(e["start"], e["end"], e["label"]) for e in found] for found in one] == [
        [(e["start"], e["end"], e["label"]) for e in found] for found in other
    ]
    scores = [[e["score"] for found in answer for e in found] for answer in (one, other)]
    np.testing.assert_allclose(*scores, **{"rtol": 1e-5, "atol": 1e-5} | tolerance)


@pytest.fixture(scope="module")
def told():
    """A recogniser that has learnt to go by the condition."""
    ner = new(condition_size=2)
    ner.fit(conditioned(64, 1), epochs=10, batch_size=16, learning_rate=2e-2, verbose=0)
    return ner


def test_the_condition_alone_decides_the_label(told, tmp_path):
    unseen = conditioned(40, 2)
    assert told.evaluate(unseen).f1 > 0.95
    texts = [e["text"] for e in unseen[::2]]
    for kind, label in enumerate(LABELS):
        found = told.predict(texts, conditions=np.tile(PICK[kind], (len(texts), 1)))
        assert [[e["label"] for e in entities] for entities in found] == [[label]] * len(texts)
    swapped = [{**e, "condition": e["condition"][::-1]} for e in unseen]
    assert told.evaluate(swapped).f1 < 0.05

    told.save(tmp_path / "ner")
    again = NER.load(tmp_path / "ner")
    assert again.condition_size == 2
    same(again.predict(unseen), told.predict(unseen))


@pytest.mark.parametrize("head", ["global_pointer", "crf"])
def test_at_first_the_condition_changes_nothing(head, tmp_path):
    plain = new(head)
    plain.save(tmp_path / "ner")
    ner = NER.from_pretrained(tmp_path / "ner", LABELS, head, max_length=32, head_size=16, condition_size=3)
    for ours, theirs in zip(ner._head.layer.weights, plain._head.layer.weights, strict=True):
        ours.assign(theirs)
    texts = [e["text"] for e in sentences(8, 3)]
    wide = {"threshold": -1e6}
    expected = plain.predict(texts, **wide)
    assert sum(map(len, expected)) > 10
    conditions = np.random.default_rng(0).normal(0, 10, (len(texts), 3))
    same(ner.predict(texts, conditions=conditions, **wide), expected)
    stirred(ner)
    with pytest.raises(AssertionError):
        same(ner.predict(texts, conditions=conditions, **wide), expected)


def long_and_short():
    """Texts of one character each, by which its windows can be told, in no order of length."""
    texts = [char * size for char, size in zip(FILLER, (3, 40, 9, 100, 1, 17, 64, 5, 30, 2), strict=False)]
    conditions = np.random.default_rng(1).normal(size=(len(texts), 2)).astype("float32")
    return texts, conditions


def check_batch(batch, expected):
    """Each row has the condition of its text, empty rows zeros; gives the texts."""
    assert batch["condition"].dtype == np.float32
    seen = []
    for ids, live, condition in zip(batch["token_ids"], batch["padding_mask"], batch["condition"], strict=True):
        char = TOKENS[ids[1]] if live.any() else None
        np.testing.assert_array_equal(condition, expected[char] if char else np.zeros(2, "float32"))
        seen += [char] if char else []
    return seen


def test_every_window_gets_the_condition_of_its_text(monkeypatch):
    ner = stirred(new(condition_size=2, max_length=16))
    texts, conditions = long_and_short()
    expected = {text[0]: condition for text, condition in zip(texts, conditions, strict=True)}
    forward, windows = ner._forward, []

    def watched(batch):
        windows.extend(check_batch(batch, expected))
        return forward(batch)

    ner._forward = watched
    monkeypatch.setattr(ner_module, "_CHUNK", 4)  # of texts that are encoded together
    wide = {"threshold": -1e6}
    together = ner.predict(texts, conditions=conditions, batch_size=3, **wide)
    assert windows.count(texts[3][0]) == 12  # 100 tokens, 14 at once, 8 on
    alone = [ner.predict(text, conditions=c, **wide) for text, c in zip(texts, conditions, strict=True)]
    same(together, alone, atol=1e-3)
    records = [{"text": text, "condition": c.tolist()} for text, c in zip(texts, conditions, strict=True)]
    same(ner.predict(records, batch_size=3, **wide), together, atol=1e-3)
    same([ner.predict(records[1], **wide)], alone[1:2])
    ner._forward = forward
    other = ner.predict(texts[1], conditions=conditions[2], **wide)
    assert [e["score"] for e in other] != pytest.approx([e["score"] for e in alone[1]], abs=1e-2)
    scores = [ner.pointer_scores(*given).scores for given in ((texts[1], conditions[1]), (records[1],))]
    np.testing.assert_array_equal(*scores)
    assert scores[0][0, 0, 0] == pytest.approx(
        next(e["score"] for e in alone[1] if (e["start"], e["end"], e["label"]) == (0, 1, LABELS[0])), abs=1e-3
    )


def test_every_training_row_gets_the_condition_of_its_text(monkeypatch):
    texts, conditions = long_and_short()
    expected = {text[0]: condition for text, condition in zip(texts, conditions, strict=True)}
    batch, rows = _fit.Batches.batch, []

    def watched(self, members):
        inputs, targets = batch(self, members)
        rows.extend(check_batch(inputs, expected))
        return inputs, targets

    monkeypatch.setattr(_fit.Batches, "batch", watched)
    train = [{"text": t, "entities": [], "condition": c} for t, c in zip(texts, conditions, strict=True)]
    new(condition_size=2, max_length=16).fit(train, train[:3], epochs=1, batch_size=4, verbose=0)
    assert set(rows) == set(expected)
    assert rows.count(texts[3][0]) == 12


def test_resumption_knows_the_conditions(tmp_path):
    data = conditioned(8, 1)
    options = {"epochs": 1, "batch_size": 8, "verbose": 0, "resume": tmp_path}
    new(condition_size=2).fit(data, data[:2], **options)
    other = [*data[:-1], {**data[-1], "condition": [0.0, 0.5]}]
    for train, valid, message in (
        (other, data[:2], "train was"),
        (data, [data[0], {**data[1], "condition": [3, 4]}], "valid was"),
    ):
        with pytest.raises(ConfigError, match=message):
            new(condition_size=2).fit(train, valid, **options)


def test_broken_conditions_are_refused():
    ner, plain = new(condition_size=2), new()
    good = {"text": "我在青阳市", "entities": [], "condition": [0.5, 1]}
    for wrong, message in (
        (None, "has no condition.*condition_size=2"),
        ([1.0], "must have 2 numbers.*Received: 1"),
        (np.zeros((1, 2)), "list of finite 32-bit numbers"),
        ([1.0, "2"], "at place 1: '2'"),
        ([True, 1.0], "at place 0: True"),
        ([1.0, float("nan")], "at place 1: nan"),
        ([1e39, 0.0], "at place 0: 1e"),
        ("ab", "must be a list of numbers.*'ab'"),
        (3.0, "must be a list of numbers"),
        ([], "empty"),
    ):
        data = [good, {**good, "condition": wrong}]
        for name, call in (
            ("train, example 1", lambda data: ner.fit(data, verbose=0)),
            ("valid, example 1", lambda data: ner.fit([good], data, verbose=0)),
            ("data, example 1", ner.evaluate),
            ("text 1", ner.predict),
        ):
            with pytest.raises(DataError, match=f"{name}: .*{message}"):
                call(data)
    for call in (plain.predict, plain.evaluate, lambda data: plain.fit(data, verbose=0)):
        with pytest.raises(DataError, match=r"(text|example) 0: it has a condition, and the model takes none"):
            call([good])
    assert len(plain.predict([{"text": "我"}, {"text": "", "condition": None}])) == 2
    for call, error, message in (
        (lambda: plain.predict(["我"], conditions=[[0.0, 1.0]]), ConfigError, "the model takes none"),
        (lambda: ner.predict(["我", "你"], conditions=[[0.0, 1.0]]), DataError, r"shape \(2, 2\)"),
        (lambda: ner.predict(["我", "你"], conditions=0.5), DataError, "array of shape"),
        (lambda: ner.predict(["我", "你"], conditions=[[0.0, 1.0], None]), DataError, "text 1: it has no condition"),
        (lambda: ner.predict(["我", "你"]), DataError, "text 0: it has no condition"),
        (lambda: ner.predict([good], conditions=[[0.0, 1.0]]), DataError, "text 0: .*Give one"),
        (lambda: ner.predict([{"condition": [0.0, 1.0]}]), DataError, "text 0: expected a string or a record"),
        (lambda: ner.pointer_scores("我"), DataError, "no condition"),
        (lambda: new(condition_size=2, condition_per_token=True), ConfigError, "one condition a text"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_the_tokenizer_of_the_toy_spells_it():
    tokenizer = Tokenizer.from_vocab(TOKENS)
    assert not any(tokenizer.unk_id in tokenizer.encode(e["text"]).token_ids for e in conditioned(20, 1))
