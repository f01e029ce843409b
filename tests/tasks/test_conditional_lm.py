"""`ConditionalLM`: begins as the model it is made from, learns what a condition changes, and keeps it in a folder."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tests.nn.harness import gradient

from kexue.decoding import Beam, Greedy, Sample
from kexue.errors import CheckpointError, ConfigError, DataError
from kexue.models import Transformer
from kexue.tasks import ConditionalLM
from kexue.tasks._conditional import ConditionedBatches, rows_of
from kexue.text import Tokenizer

EAGER = keras.backend.backend() == "torch"  # elsewhere each search and model is a compilation
TOKENIZER = Tokenizer.from_vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh."])
many = pytest.mark.skipif(not EAGER, reason="many programs to compile")
LETTERS = {"first": "abc", "second": "def"}
SIZES = {
    "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64, "max_length": 32, "dropout": 0.0,
    "attention_dropout": 0.0, "norm_order": "pre",
}  # fmt: skip


def records(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """A letter that only one class has, and more of them among letters of both."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = list(LETTERS)[number % 2]
        letters = [rng.choice(list(LETTERS[label])), *rng.choice(list(LETTERS[label] + "gh"), rng.integers(2, 7))]
        found.append({"text": " ".join(letters), "label": label})
    return found


def fresh(**options: Any) -> ConditionalLM:
    return ConditionalLM.from_pretrained(
        SIZES, **({"tokenizer": TOKENIZER, "labels": list(LETTERS), "max_length": 12, "seed": 0} | options)
    )


def stirred(lm: ConditionalLM) -> ConditionalLM:
    """With weights of the condition as after a training."""
    rng = np.random.default_rng(3)
    for weight in (*lm.model.weights, *lm.source.weights):
        if weight.path.endswith(("gain_kernel", "bias_kernel", "null")):
            weight.assign(rng.normal(size=weight.shape))
    return lm


def pictures(seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    image = keras.Input((4, 4, 1))
    x = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Conv2D(4, 3)(image))
    return keras.Model(image, keras.layers.Dense(6)(keras.layers.Flatten()(keras.layers.ReLU()(x))))


def label_of(text: str) -> str | None:
    """The class whose letters a text has; None: none of them, or of both."""
    found = [label for label, letters in LETTERS.items() if set(text) & set(letters)]
    return found[0] if len(found) == 1 else None


def test_begins_as_the_unconditional_model(tmp_path: Path) -> None:
    """Whatever the condition: exactly the probabilities of the checkpoint as a causal language model."""
    encoder = Transformer(fresh(condition_size=2).model.config.replace(condition_size=None), head="lm")
    encoder.save_pretrained(tmp_path / "m", tokenizer=TOKENIZER)
    lm = ConditionalLM.from_pretrained(tmp_path / "m", labels=list(LETTERS), max_length=12)
    causal = Transformer.from_pretrained(tmp_path / "m", mask="causal", head="lm")
    ids = np.array([[2, 4, 8, 10, 3]], "int32")
    logits = keras.ops.convert_to_numpy(causal(ids)["logits"])
    for label in (*LETTERS, None):
        batch = {"token_ids": ids, "condition": lm.vectors([label])}
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(lm.model(batch)["logits"]), logits)
    law = logits[0] - np.log(np.exp(logits[0]).sum(-1, keepdims=True))
    expected = sum(law[t, ids[0, t + 1]] for t in range(4))
    np.testing.assert_allclose(lm.label_log_prob(["a e g"]), [[expected] * 2], rtol=1e-5)
    np.testing.assert_allclose(lm.log_prob(["a e g", ""], None), [expected, 0], rtol=1e-5)


def test_gradients_at_the_beginning() -> None:
    """Zero with respect to the condition, which nothing listens to yet; not so for the kernels that will."""
    lm = fresh(condition_size=5)
    ids = np.array([[2, 4, 8, 10, 3]], "int32")

    def loss(condition: Any) -> Any:
        batch = {"token_ids": keras.ops.convert_to_tensor(ids), "condition": condition}
        logits = lm.model(batch, training=False)["logits"]
        return keras.ops.sum(keras.ops.log_softmax(logits)[:, :, 5])

    assert not gradient(loss, np.ones((1, 5), "float32")).any()
    kernel = next(w for w in lm.model.weights if w.path.endswith("final_norm/gain_kernel"))
    direction = np.random.default_rng(0).normal(size=kernel.shape)
    base = np.asarray(keras.ops.convert_to_numpy(kernel.value))
    values = []
    for step in (0.05, -0.05):
        kernel.assign(base + step * direction)
        values.append(float(keras.ops.convert_to_numpy(loss(keras.ops.ones((1, 5))))))
    assert abs(values[0] - values[1]) > 1e-2


@pytest.fixture(scope="module")
def plain() -> ConditionalLM:
    """Not trained."""
    return fresh()


@pytest.fixture(scope="module")
def learnt() -> ConditionalLM:
    lm = fresh()
    lm.fit(records(400), epochs=6, batch_size=40, learning_rate=1e-2, condition_dropout=0.2, verbose=0)
    return lm


def test_two_classes(learnt: ConditionalLM, tmp_path: Path) -> None:
    """Texts are of their class, more surely under guidance; Bayes' rule finds the class of new texts."""
    found = learnt.predict(list(LETTERS), Sample(seed=5), n=60, batch_size=64)
    shares = [np.mean([label_of(t) == label for t in texts]) for label, texts in zip(LETTERS, found, strict=True)]
    assert min(shares) > 0.8
    found = learnt.predict(list(LETTERS), Sample(seed=5), n=60, guidance=2.0, batch_size=64)
    shares = [np.mean([label_of(t) == label for t in texts]) for label, texts in zip(LETTERS, found, strict=True)]
    assert min(shares) >= 0.95
    scores = learnt.evaluate(records(60, seed=9))
    assert scores["label_accuracy"] > 0.95
    assert scores["loss"] < scores["null_loss"]
    assert scores["perplexity"] == pytest.approx(np.exp(scores["loss"]))
    learnt.save(tmp_path / "lm")
    loaded = ConditionalLM.load(tmp_path / "lm")
    assert loaded.labels == learnt.labels
    texts = [record["text"] for record in records(7, seed=2)]
    np.testing.assert_array_equal(loaded.label_log_prob(texts), learnt.label_log_prob(texts))
    np.testing.assert_array_equal(loaded.log_prob(texts, None), learnt.log_prob(texts, None))


@many
def test_forms_of_results(learnt: ConditionalLM) -> None:
    one, several = learnt.predict("first"), learnt.predict(["first", None])
    assert isinstance(one, str)
    assert several[0] == one
    assert [len(texts) for texts in learnt.predict(["first", "second"], n=3)] == [3, 3]
    assert len(learnt.predict("first", n=2)) == 2
    assert learnt.predict([]) == []
    begun = learnt.predict(["first", "second"], Greedy(), prompt=["g h", "g"])
    assert begun[0].startswith("g h") and begun[1].startswith("g")  # noqa: PT018
    assert "g h" + "".join(learnt.stream("first", Greedy(), prompt="g h")) == begun[0]
    guided = learnt.predict("second", Greedy(), guidance=3.0)
    assert "".join(learnt.stream("second", Greedy(), guidance=3.0)) == guided
    each = learnt.predict(["first", "second"], Greedy(), guidance=[1.0, 3.0])
    assert each == [learnt.predict("first", Greedy()), guided]
    assert len(learnt.generate("first", Beam(3, n_best=2)).sequences[0]) == 2
    nothing = learnt.generate(["first", "second"], Greedy(), guidance=0.0).best
    assert nothing == learnt.generate([None, None], Greedy()).best


def test_log_prob_is_of_each_alone() -> None:
    """Batches, other texts and pieces of long texts."""
    lm = stirred(fresh(condition_size=3))
    texts = ["a b", "c d e f g h", "", "a b c. d e f. g h a b. c d e f g", "h"]
    labels = ["first", "second", "first", None, "second"]
    together = lm.log_prob(texts, labels)
    np.testing.assert_allclose(lm.log_prob(texts, labels, batch_size=2), together, rtol=1e-4, atol=1e-4)
    for text, label, value in zip(texts, labels, together, strict=True):
        np.testing.assert_allclose(lm.log_prob([text], label), [value], rtol=1e-4, atol=1e-4)
    parts = ["a b c. d e f.", "g h a b. c d e f g"]
    np.testing.assert_allclose(lm.log_prob(parts, None).sum(), together[3], rtol=1e-4)
    assert len(set(np.round(lm.log_prob(["a b"] * 3, ["first", "second", None]), 4))) == 3


def test_batches(plain: ConditionalLM) -> None:
    """Every row has the condition of its text; a share of them is hidden, others in each pass, alike in each run."""
    lm = plain
    data = records(101)
    texts, values = [r["text"] for r in data], [r["label"] for r in data]
    values[3] = None
    rows, origin = rows_of(TOKENIZER, texts, lm.stop, 5)
    given = lm.source.read(values, "t")
    options = {"segment": 0, "dtype": "int32", "batch_size": 8, "pad_id": 0, "names": ["token_ids", "padding_mask"]}
    hidden = []
    for _ in range(2):
        batches = ConditionedBatches(rows, given, origin, **options, seed=4, limit=32, dropout=0.3)
        passes = []
        for epoch in range(2):
            batches.epoch = epoch
            seen = [batches[i][0] for i in range(len(batches))]
            passes.append(np.concatenate([b["present"][:, 0] for b in seen]))
            for batch in seen:
                for n in np.flatnonzero(batch["target_weights"].any(1)):
                    row = batch["token_ids"][n][batch["padding_mask"][n]]
                    assert row[0] == 2 and row[-1] == 3  # noqa: PT018
                    says = {"abc": 0, "def": 1}
                    for letters, number in says.items():
                        if any(TOKENIZER.vocabulary[t] in letters for t in row[1:-1]):
                            assert batch["given"][n, 0] == number or not batch["present"][n, 0]
        hidden.append(passes)
        assert 0.2 < 1 - passes[0].mean() < 0.4
        assert (passes[0] != passes[1]).any()
    np.testing.assert_array_equal(hidden[0], hidden[1])
    whole = ConditionedBatches(rows, given, origin, **options, seed=4, limit=32)
    absent = [origin[m][~whole.batch(m)["present"][: len(m), 0]] for m in whole.order()]
    assert set(np.concatenate(absent).tolist()) == {3}


@pytest.mark.parametrize("kind", ["vector", "picture"] if EAGER else ["picture"])
def test_other_conditions(kind: str, tmp_path: Path) -> None:
    """A vector that says the letter, or a picture that shows it, through a network with a state."""
    rng = np.random.default_rng(0)
    eye = np.eye(3, dtype="float32")

    def condition(number: int) -> np.ndarray:
        if kind == "vector":
            return eye[number]
        image = rng.normal(0, 0.1, (4, 4, 1)).astype("float32")
        image[number, number] += 2
        return image

    data = [{"text": " ".join("abc"[n % 3] * 3), "condition": condition(n % 3)} for n in range(90)]
    options = {"condition_size": 3} if kind == "vector" else {"conditioner": pictures()}
    lm = fresh(labels=None, **options)
    before = [np.array(keras.ops.convert_to_numpy(w.value)) for w in lm.source.weights]
    lm.fit(data, epochs=8, batch_size=30, learning_rate=1e-2, verbose=0)
    after = [keras.ops.convert_to_numpy(w.value) for w in lm.source.weights]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))  # moving averages among them
    tests = [condition(n) for n in (2, 0, 1)]
    assert lm.predict(tests, Greedy()) == ["c c c", "a a a", "b b b"]
    lm.save(tmp_path / "lm")
    loaded = ConditionalLM.load(tmp_path / "lm")
    np.testing.assert_array_equal(loaded.vectors(tests), lm.vectors(tests))
    np.testing.assert_allclose(lm.vectors(tests), np.concatenate([lm.vectors(t) for t in tests]), atol=1e-5)
    if kind == "picture":
        (tmp_path / "lm" / "conditioner.keras").write_bytes(b"no archive")
        with pytest.raises(CheckpointError, match=r"conditioner\.keras cannot be loaded"):
            ConditionalLM.load(tmp_path / "lm")


@pytest.mark.slow
def test_resumed_equals_whole(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    class Kill(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if self.model.optimizer.iterations == 5:
                raise StopError

    options = {"epochs": 3, "batch_size": 30, "learning_rate": 1e-2, "verbose": 0, "save_every": 2}
    whole, killed = fresh(), fresh()
    history = whole.fit(records(90), records(20, 1), **options).history
    with pytest.raises(StopError):
        killed.fit(records(90), records(20, 1), **options, resume=tmp_path, callbacks=[Kill()])
    again = fresh()
    resumed = again.fit(records(90), records(20, 1), **options, resume=tmp_path).history
    np.testing.assert_allclose(resumed["loss"], history["loss"], rtol=1e-5)
    np.testing.assert_allclose(again.label_log_prob(["a b"]), whole.label_log_prob(["a b"]), rtol=1e-4)
    with pytest.raises(ConfigError, match="another job"):
        fresh().fit(records(92), records(20, 1), **options, resume=tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "holds no examples"),
        ([{"text": "a"}], "train 0: it has no 'label'"),
        ([{"label": "first"}], "train 0: expected"),
        (["a"], "train 0: expected"),
        ([{"text": "a", "label": "first"}, {"text": "a", "label": "third"}], "train 1: unknown label 'third'"),
        ([{"text": "a", "label": 0}], "unknown label 0"),
        ([{"text": "  ", "label": "first"}], "no text"),
    ],
)
def test_broken_records(plain: ConditionalLM, data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        plain.fit(data, verbose=0)


@many
def test_broken_conditions(plain: ConditionalLM) -> None:
    named = plain
    lm = fresh(labels=None, condition_size=2)
    for value, message in (
        ([1.0], "2 numbers"),
        ([1.0, float("nan")], "finite"),
        (["a", "b"], "finite 32-bit numbers"),
        ("first", "list of numbers"),
    ):
        with pytest.raises(DataError, match=message):
            lm.fit([{"text": "a", "condition": value}], verbose=0)
    with pytest.raises(DataError, match="2 numbers"):
        lm.predict([1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="condition 1"):
        lm.predict([[1.0, 2.0], [1.0, float("inf")]])
    images = fresh(labels=None, conditioner=pictures())
    for picture, message in (
        (np.zeros((4, 4, 3)), r"shape \(4, 4, 1\)"),
        (np.full((4, 4, 1), np.nan), "finite"),
        ("a.png", "array of numbers"),
        ([[1, 2], [3]], "array of numbers"),
    ):
        with pytest.raises(DataError, match=message):
            images.fit([{"text": "a", "condition": picture}], verbose=0)
    for wrong, message in (("third", "unknown label"), (["first", 3], "condition 1"), (7, "one or a list")):
        with pytest.raises(DataError, match=message):
            named.predict(wrong)
    with pytest.raises(DataError, match="one for each of 2 texts"):
        named.log_prob(["a", "b"], ["first"])
    with pytest.raises(DataError, match="text 1"):
        named.log_prob(["a", 3], "first")
    with pytest.raises(DataError, match="list of texts"):
        named.log_prob("a", "first")
    assert lm.predict([]) == named.predict([]) == []
    with pytest.raises(DataError, match="one prompt"):
        named.predict("first", prompt=["a", "b"])


def test_settings() -> None:
    config = fresh(condition_size=2).model.config
    for changes, message in (
        ({"labels": None}, "give one of"),
        ({"conditioner": pictures()}, "give one of"),
        ({"labels": []}, "list of strings"),
        ({"labels": ["a", "a"]}, "differ"),
        ({"labels": "ab"}, "list of strings"),
        ({"labels": None, "conditioner": "vgg"}, "must be a keras.Model"),
        ({"labels": None, "conditioner": keras.Sequential([keras.layers.Dense(3)])}, "input shape"),
        ({"condition_per_token": True}, "condition_per_token"),
        ({"max_length": 40}, "positions end at 32"),
        ({"max_length": 2}, "max_length"),
        ({"segment": 2}, "segment"),
    ):
        with pytest.raises(ConfigError, match=message):
            fresh(**changes)
    image = keras.Input((4, 4, 1))
    with pytest.raises(ConfigError, match="one vector for each row"):
        fresh(labels=None, conditioner=keras.Model(image, keras.layers.Reshape((16, 1))(image)))
    lm = fresh(condition_size=2)
    for mask in ("bidirectional", "prefix"):
        with pytest.raises(ConfigError, match="mask='causal'"):
            ConditionalLM(Transformer(config, mask=mask, head="lm"), TOKENIZER, lm.source, max_length=12)
    with pytest.raises(ConfigError, match="condition_size is None"):
        ConditionalLM(
            Transformer(config.replace(condition_size=None), mask="causal", head="lm"), TOKENIZER, lm.source,
            max_length=12,
        )  # fmt: skip
    with pytest.raises(ConfigError, match="condition_dropout"):
        lm.fit(records(4), condition_dropout=1.0)
    with pytest.raises(ConfigError, match="all be the same"):
        lm.predict("first", Greedy(), n=2)
    with pytest.raises(ConfigError, match="labels="):
        fresh(labels=None, condition_size=2).label_log_prob(["a"])


def test_broken_folders(tmp_path: Path) -> None:
    fresh(condition_size=2).save(tmp_path / "lm")
    path = tmp_path / "lm" / "task.json"
    task = json.loads(path.read_text())
    with pytest.raises(CheckpointError, match="does not exist"):
        ConditionalLM.load(tmp_path)
    for changes, message in (
        ({"task": "ner"}, "kind conditional_lm"),
        ({"labels": 3}, "description"),
        ({"segment": None}, "description"),
        ({"condition_size": 4}, "expected null of shape"),
        ({"conditioner": True}, "conditioner is missing"),
        ({"max_length": 99}, "positions end at 32"),
    ):
        path.write_text(json.dumps(task | changes))
        with pytest.raises(CheckpointError, match=message):
            ConditionalLM.load(tmp_path / "lm")
    path.write_text(json.dumps(task))
    (tmp_path / "lm" / "condition.safetensors").unlink()
    with pytest.raises(CheckpointError, match="condition"):
        ConditionalLM.load(tmp_path / "lm")
