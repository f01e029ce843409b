"""`NER` from training to prediction."""

import itertools
import json

import keras
import numpy as np
import pytest
from tests.tasks.conftest import HEADS, LABELS, POINTERS, TOKENS, new, sentences

import kexue.tasks
from kexue.errors import CheckpointError, ConfigError, DataError
from kexue.tasks import NER
from kexue.text import DataWarning, Tokenizer
from kexue.training import BestWeights


def places(found):
    return [[(e["start"], e["end"], e["label"]) for e in entities] for entities in found]


def scores(found):
    return np.asarray([e["score"] for entities in found for e in entities])


@pytest.mark.parametrize("head", HEADS)
def test_learns_a_small_language(learnt, head):
    ner = learnt(head)
    unseen = sentences(60, 2, nested=head in POINTERS)
    assert ner.evaluate(unseen).f1 > 0.95
    for example, entities in zip(unseen, ner.predict([e["text"] for e in unseen]), strict=True):
        for entity in entities:
            assert example["text"][entity["start"] : entity["end"]] == entity["text"]


@pytest.mark.parametrize("head", POINTERS)
def test_nested_and_flat(learnt, head):
    ner = learnt(head)
    texts = [e["text"] for e in sentences(40, 3)]
    nested, flat = ner.predict(texts), ner.predict(texts, flat=True)
    assert any(a["end"] > b["start"] for found in nested for a, b in itertools.pairwise(found))
    assert not any(a["end"] > b["start"] for found in flat for a, b in itertools.pairwise(found))
    for one, other in zip(nested, flat, strict=True):
        assert all(entity in one for entity in other)
        if one:
            assert max(one, key=lambda e: e["score"]) in other


@pytest.mark.parametrize("head", HEADS)
def test_save_and_load(learnt, head, tmp_path):
    ner = learnt(head)
    texts = [e["text"] for e in sentences(30, 4)]
    ner.save(tmp_path / "ner")
    again = NER.load(tmp_path / "ner")
    one, other = ner.predict(texts), again.predict(texts)
    assert places(one) == places(other)
    np.testing.assert_allclose(scores(one), scores(other), rtol=1e-6, atol=1e-6)
    assert (again.labels, again.head, again.max_length, again.stride) == (ner.labels, head, ner.max_length, ner.stride)
    again.save(tmp_path / "ner")  # over itself
    assert places(NER.load(tmp_path / "ner").predict(texts)) == places(one)


def test_load_names_what_is_wrong(learnt, tmp_path):
    folder = tmp_path / "ner"
    with pytest.raises(CheckpointError, match=r"task\.json does not exist"):
        NER.load(folder)
    learnt("global_pointer").save(folder)
    task = json.loads((folder / "task.json").read_text())
    for change, message in (
        ({"labels": ["a", "b", "c"]}, r"head\.safetensors does not fit.*projection"),
        ({"head": "nonsense"}, r"task\.json: head must be one of"),
        ({"version": 2}, r"task\.json: expected .*version 1"),
        ({"stride": 1000}, r"task\.json: stride"),
    ):
        (folder / "task.json").write_text(json.dumps(task | change))
        with pytest.raises(CheckpointError, match=message):
            NER.load(folder)
    (folder / "task.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"task\.json is not"):
        NER.load(folder)
    (folder / "task.json").write_text(json.dumps(task))
    (folder / "head.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"head\.safetensors is missing"):
        NER.load(folder)


def test_a_hook_must_be_given_again(tmp_path):
    tokenizer = Tokenizer.from_vocab(TOKENS, pre_tokenize=list)
    config = {"hidden_size": 8, "num_layers": 1, "num_heads": 1, "intermediate_size": 8}
    ner = NER.from_pretrained(config, LABELS, tokenizer=tokenizer, max_length=16)
    ner.save(tmp_path / "ner")
    with pytest.raises(CheckpointError, match="pre_tokenize"):
        NER.load(tmp_path / "ner")
    assert NER.load(tmp_path / "ner", pre_tokenize=list).tokenizer.has_words


@pytest.mark.parametrize("head", ["global_pointer", "crf"])
def test_the_company_of_a_text_does_not_matter(learnt, head):
    ner = learnt(head)
    texts = [e["text"] for e in sentences(20, 5)] + ["青阳市", "我"]
    together = ner.predict(texts, batch_size=7)
    alone = [ner.predict(text) for text in texts]
    assert places(together) == places(alone)
    np.testing.assert_allclose(scores(together), scores(alone), atol=1e-4)


@pytest.mark.parametrize("head", ["efficient_global_pointer", "crf"])
def test_long_texts_are_read_through_windows(learnt, head):
    ner = learnt(head)
    short = [e for e in sentences(60, 6, nested=head in POINTERS) if e["entities"]]
    text, expected = "", []
    for example in short:  # some 1200 characters, 32 at once
        expected += [(e["start"] + len(text), e["end"] + len(text), e["label"]) for e in example["entities"]]
        text += example["text"]
    found = set(places([ner.predict(text)])[0])
    right = len(found & set(expected))
    assert 2 * right / (len(found) + len(expected)) > 0.95
    assert (
        ner.evaluate([{"text": text, "entities": [{"start": s, "end": e, "label": k} for s, e, k in expected]}]).f1
        > 0.95
    )


def test_training_on_long_texts():
    ner = new("global_pointer", max_length=16)
    train = []
    for i in range(30):
        parts = [e for e in sentences(6, 100 + i) if e["entities"]]
        text, entities = "", []
        for part in parts:
            entities += [{**e, "start": e["start"] + len(text), "end": e["end"] + len(text)} for e in part["entities"]]
            text += part["text"]
        train.append({"text": text, "entities": entities})
    ner.fit(train, epochs=8, learning_rate=1e-2, verbose=0)
    assert ner.evaluate(train).f1 > 0.95


@pytest.mark.parametrize("head", ["global_pointer", "crf"])
def test_empty_texts(learnt, head):
    ner = learnt(head)
    assert ner.predict("") == []
    assert ner.predict(["", " \n", "青阳市"])[:2] == [[], []]
    assert ner.predict([]) == []
    result = ner.evaluate([{"text": "", "entities": []}, {"text": " ", "entities": []}])
    assert (result.f1, result.micro.support, result.micro.predicted) == (0.0, 0, 0)


def test_no_entities_at_all():
    ner = new()
    train = [{"text": "我有人和你", "entities": []}] * 20
    history = ner.fit(train, train, epochs=60, learning_rate=1e-2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert history.history["val_f1"][-1] == 0.0
    assert ner.predict("我有人和你") == []


def test_every_span_maps_to_the_text_it_came_from(learnt):
    """Lower-casing makes one character of İ into two; emoji and accents take several code points."""
    ner = learnt("global_pointer")
    text = "İİ 青阳市\U0001f600 é́局İs\u200d我"
    found = ner.predict(text, threshold=-1e6)
    assert found
    assert {e["label"] for e in found} == set(LABELS)
    assert all(text[e["start"] : e["end"]] == e["text"] and e["text"].strip() for e in found)
    assert {"青阳市", "青"} <= {e["text"] for e in found}
    assert len({(e["start"], e["end"], e["label"]) for e in found}) == len(found)


def test_entities_inside_a_token_count_as_missed():
    ner = new()
    data = [{"text": "我isis市", "entities": [{"start": 2, "end": 3, "label": "place"}]}]
    text = "我xx市"  # xx is one unknown token
    data.append({"text": text, "entities": [{"start": 1, "end": 2, "label": "place"}]})
    with pytest.warns(DataWarning, match="1 of 2 training entities begin or end inside a token"):
        ner.fit(data, epochs=30, learning_rate=1e-2, batch_size=2, verbose=0)
    result = ner.evaluate(data)
    assert (result.micro.support, result.micro.correct, result.recall) == (2, 1, 0.5)


def test_nested_gold_of_a_tag_head():
    ner = new("softmax")
    data = sentences(24, 1)
    inner = sum(e["label"] == "office" for example in data for e in example["entities"])
    with pytest.warns(DataWarning, match=f"^{inner} of .* overlap a longer one"):
        ner.fit(data, epochs=1, verbose=0)


def test_broken_data_is_refused():
    ner = new()
    good = {"text": "我在青阳市", "entities": [{"start": 2, "end": 5, "label": "place"}]}
    for bad, message in (
        (
            {"text": "青阳", "entities": [{"start": 0, "end": 2, "label": "person"}]},
            "example 1: unknown label 'person'",
        ),
        ({"text": "青阳", "entities": [{"start": 0, "end": 3, "label": "place"}]}, "example 1: .*<= 2"),
        ({"text": "青阳", "entities": [{"start": 1, "end": 1, "label": "place"}]}, "example 1: .*start < end"),
        ({"text": "青阳"}, "example 1: expected"),
        ({"text": 3, "entities": []}, "example 1: the text must be a string"),
    ):
        for call in (
            lambda data: ner.fit(data, verbose=0),
            ner.evaluate,
            lambda data: ner.fit([good], data, verbose=0),
        ):
            with pytest.raises(DataError, match=message):
                call([good, bad])
    with pytest.raises(DataError, match="no examples"):
        ner.fit([], verbose=0)
    with pytest.raises(DataError, match="no text"):
        ner.fit([{"text": " ", "entities": []}], verbose=0)
    with pytest.raises(DataError, match="valid holds no examples"):
        ner.fit([good], [], verbose=0)
    with pytest.raises(DataError, match="text 1"):
        ner.predict(["我", 7])
    for wrong in ({"epochs": 0}, {"batch_size": 0}, {"steps_per_epoch": 0}, {"layer_decay": 0.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ner.fit([good], verbose=0, **wrong)


def test_broken_settings_are_refused():
    tokenizer = Tokenizer.from_vocab(TOKENS)
    config = {"hidden_size": 8, "num_layers": 1, "num_heads": 1, "intermediate_size": 8}
    with pytest.raises(ConfigError, match="tokenizer"):
        NER.from_pretrained(config, LABELS)
    for options, message in (
        ({"labels": []}, "labels"),
        ({"labels": ["a", "a"]}, "labels"),
        ({"labels": "ab"}, "labels"),
        ({"head": "nonsense"}, "head must be one of"),
        ({"head": "crf", "scheme": "iob1"}, "scheme"),
        ({"max_length": 2}, "max_length"),
        ({"stride": 0}, "stride"),
        ({"threshold": {"person": 1.0}}, "person"),
        ({"vocabulary_size": 5}, "tokens"),
        ({"hiden_size": 5}, "hiden_size"),
    ):
        with pytest.raises(ConfigError, match=message):
            NER.from_pretrained(config, tokenizer=tokenizer, **({"labels": LABELS} | options))


def test_best_epoch_is_kept():
    ner = new()
    train, valid = sentences(48, 1), sentences(30, 2)
    history = ner.fit(train, valid, epochs=6, learning_rate=1e-2, verbose=0)
    f1 = history.history["val_f1"]
    assert len(f1) == len(history.history["loss"]) == 6
    assert ner.best_epoch == max(i for i, value in enumerate(f1) if value == max(f1))
    assert ner.evaluate(valid).f1 == pytest.approx(max(f1))


def test_the_weights_of_an_early_best_epoch_come_back():
    ner, seen = new(), []

    class Judge(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_f1"] = [0.9, 0.9, 0.5, 0.8][epoch]
            seen.append([np.array(w) for w in self.model.get_weights()])

    best = BestWeights("val_f1")
    ner.fit(sentences(16, 1), epochs=4, learning_rate=1e-2, verbose=0, callbacks=[Judge(), best])
    assert (best.epoch, best.value) == (1, 0.9)
    assert any((one != other).any() for one, other in zip(ner.model.get_weights(), seen[1], strict=True))
    best.restore(ner.model)
    for ours, theirs in zip(ner.model.get_weights(), seen[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_equal_seeds_give_equal_weights():
    train = sentences(48, 1)
    weights = []
    for _ in range(2):
        ner = new("global_pointer", dropout=0.2, attention_dropout=0.1)
        ner.fit(train, epochs=2, learning_rate=1e-2, seed=3, verbose=0)
        weights.append(ner.model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    ner = new("global_pointer", dropout=0.2, attention_dropout=0.1)
    ner.fit(train, epochs=2, learning_rate=1e-2, seed=4, verbose=0)
    assert any((one != other).any() for one, other in zip(weights[0], ner.model.get_weights(), strict=True))


def test_pointer_scores(learnt):
    ner = learnt("global_pointer")
    text = "我有青阳市局的"
    tokens, offsets, matrix = ner.pointer_scores(text)
    assert tokens == tuple(text)
    assert offsets.tolist() == [[i, i + 1] for i in range(len(text))]
    assert matrix.shape == (2, 7, 7)
    found = {(e["start"], e["end"], e["label"]): e["score"] for e in ner.predict(text)}
    assert found
    starts = {(s, e + 1, LABELS[k]): matrix[k, s, e] for k, s, e in zip(*np.nonzero(matrix > 0), strict=True)}
    assert starts.keys() == found.keys()
    np.testing.assert_allclose([starts[key] for key in found], list(found.values()), atol=1e-4)
    long = "".join(e["text"] for e in sentences(8, 9))
    found = {(e["start"], e["end"], e["label"]): e["score"] for e in ner.predict(long)}
    tokens, offsets, matrix = ner.pointer_scores(long)
    over = {
        (int(offsets[s, 0]), int(offsets[e, 1]), LABELS[k]): matrix[k, s, e]
        for k, s, e in zip(*np.nonzero(matrix > 0), strict=True)
    }
    assert over.keys() == found.keys()
    with pytest.raises(ConfigError, match="pointer"):
        learnt("crf").pointer_scores(text)


def test_thresholds(learnt):
    ner = learnt("global_pointer")
    texts = [e["text"] for e in sentences(20, 5)]
    base = ner.predict(texts)
    high = float(np.median(scores(base)))
    assert places(ner.predict(texts, threshold=high)) == places([[e for e in f if e["score"] > high] for f in base])
    only = ner.predict(texts, threshold={"place": 1e9})
    assert places(only) == places([[e for e in f if e["label"] == "office"] for f in base])
    crf = learnt("crf")
    found = crf.predict(texts)
    assert ((scores(found) > 0) & (scores(found) <= 1)).all()
    assert crf.predict(texts, threshold=1.1) == [[] for _ in texts]


def test_the_room_is_lazy():
    assert {"NER", "Pretrainer", "Seq2Seq", "load"} <= set(kexue.tasks.__all__)
    for name in kexue.tasks.__all__:
        assert callable(getattr(kexue.tasks, name)), name
    with pytest.raises(AttributeError):
        _ = kexue.tasks.Nothing


def test_gradient_accumulation_and_options_run():
    ner = new("crf")
    history = ner.fit(
        sentences(40, 1, nested=False), epochs=2, learning_rate=1e-3, gradient_accumulation=2, layer_decay=0.9,
        steps_per_epoch=5, negative_share=0.2, clip=None, warmup=3, verbose=0,
    )  # fmt: skip
    assert history.history["loss"][1] < history.history["loss"][0]
    assert "crf" in repr(ner)
