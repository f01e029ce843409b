"""`Seq2Seq`: learns to copy and to reverse, keeps what it learnt in a folder, refuses what cannot work."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from kexue.decoding import Greedy
from kexue.decoding.constraints import SpanOfSource
from kexue.errors import CheckpointError, ConfigError, DataError
from kexue.models import Transformer
from kexue.tasks import Seq2Seq, load
from kexue.tasks._pairs import PairBatches, encode_pairs
from kexue.text import Tokenizer
from kexue.training import EMA

EAGER = keras.backend.backend() == "torch"  # elsewhere each search and model is a compilation
LETTERS = "abcdef"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS]
SIZES = {
    "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64, "max_length": 32, "dropout": 0.0,
    "attention_dropout": 0.0, "norm_order": "pre",
}  # fmt: skip


def tokenizer() -> Tokenizer:
    return Tokenizer.from_vocab(VOCABULARY)


def pairs(count: int) -> list[dict[str, str]]:
    """Ten words of single letters, and the same backwards, again and again."""
    rng = np.random.default_rng(0)
    words = [rng.choice(list(LETTERS), rng.integers(1, 5)).tolist() for _ in range(10)]
    return [{"source": " ".join(words[n % 10]), "target": " ".join(words[n % 10][::-1])} for n in range(count)]


def fresh(**changes: Any) -> Seq2Seq:
    return Seq2Seq.from_pretrained(SIZES | changes, tokenizer=tokenizer(), max_source=8, max_target=6, seed=0)


def test_learns_pairs(tmp_path: Path) -> None:
    """Words come out backwards; the saved folder gives the same."""
    task = fresh()
    history = task.fit(pairs(150), pairs(10), epochs=10, batch_size=30, learning_rate=1e-2, verbose=0)
    assert history.history["val_loss"][-1] < 0.1
    texts = [pair["source"] for pair in pairs(10)]
    found = task.predict(texts)
    assert found == [pair["target"] for pair in pairs(10)]
    task.save(tmp_path / "task")
    loaded = load(tmp_path / "task")
    assert isinstance(loaded, Seq2Seq)
    for before, after in zip(task.model.weights, loaded.model.weights, strict=True):
        np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(w.value) for w in (before, after)))
    if not EAGER:
        return
    assert loaded.predict(texts) == found
    assert task.predict(texts[0]) == found[0]
    greedy = task.predict(texts[:3], Greedy())
    assert ["".join(task.stream(text)) for text in texts[:3]] == greedy
    spans = task.predict(texts[:8], constraint=SpanOfSource([2, 3]))
    assert all(a in text for a, text in zip(spans, texts, strict=False))


def test_the_best_epoch_is_that_of_the_averages() -> None:
    """Weights of the best ``val_loss`` are those that had it, also where averages were validated."""
    task = fresh()
    options: dict[str, Any] = {"batch_size": 15, "verbose": 0}
    history = task.fit(pairs(60), pairs(10), epochs=2, learning_rate=1e-2, callbacks=[EMA(0.8)], **options)
    again = task.fit(pairs(15), pairs(10), epochs=1, learning_rate=1e-9, **options)
    assert again.history["val_loss"][0] == pytest.approx(min(history.history["val_loss"]), rel=1e-5)


@pytest.mark.parametrize("length", [None, "a " * 30])
def test_batches(length: str | None) -> None:
    """Each target token is asked for at the place before it, and at no other."""
    data = [{"source": "a b", "target": "c"}, {"source": "", "target": ""}]
    rows = encode_pairs(tokenizer(), data + ([] if length is None else [{"source": length, "target": "a"}]), 40, 6, "t")
    names = ("token_ids", "segment_ids", "padding_mask")
    batch = PairBatches(rows, batch_size=3, pad_id=0, seed=None, names=names, limit=48)[0][0]
    ids = {tuple(row[real].tolist()) for row, real in zip(batch["token_ids"], batch["padding_mask"], strict=True)}
    assert {(2, 4, 5, 3, 6, 3), (2, 3, 3)} < ids
    assert batch["target_positions"].shape[1] == 16
    for n in range(3):
        for place, answer, weight in zip(
            batch["target_positions"][n], batch["target_ids"][n], batch["target_weights"][n], strict=True
        ):
            if weight:
                assert batch["token_ids"][n, place + 1] == answer
                assert batch["segment_ids"][n, place + 1] == 1
        assert batch["target_weights"][n].sum() == batch["segment_ids"][n].sum()
        # The network reads as many targets as tokens as all places in order.
        if batch["target_positions"].shape == batch["token_ids"].shape:
            assert batch["target_positions"][n].tolist() == list(range(batch["token_ids"].shape[1]))


def test_evaluation() -> None:
    """The loss is the mean over all target tokens of what the model gives to each pair alone; the texts are those of
    `predict`."""
    task = fresh()
    data = [*pairs(5), {"source": "a b", "target": "f e d c b a f e d"}]  # the last one is cut at six tokens
    scores = task.evaluate(data, Greedy(), metrics=(), batch_size=4)
    losses, hits = [], []
    for row in encode_pairs(tokenizer(), data, 8, 6, "t"):
        ids = np.pad(row.token_ids, (0, 16 - len(row.token_ids)))  # one length, one compilation
        places = np.arange(16)
        batch = {"token_ids": ids, "segment_ids": places >= row.source, "padding_mask": places < len(row.token_ids)}
        logits = task.model({name: value.astype("int32")[None] for name, value in batch.items()})["logits"]
        for place in range(row.source, len(row.token_ids)):
            before = keras.ops.convert_to_numpy(logits)[0, place - 1].astype("float64")
            losses.append(np.log(np.exp(before - before.max()).sum()) + before.max() - before[ids[place]])
            hits.append(before.argmax() == ids[place])
    assert len(losses) == sum(len(p["source"].split()) + 1 for p in data[:5]) + 6
    np.testing.assert_allclose(scores.loss, np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(scores.perplexity, np.exp(np.mean(losses)), rtol=1e-5)
    np.testing.assert_allclose(scores.accuracy, np.mean(hits), rtol=1e-6)
    assert scores.outputs == task.predict([p["source"] for p in data], Greedy(), batch_size=4)
    assert (scores.count, scores.scores) == (6, {})
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    echo = [{"source": p["source"], "target": text or "a"} for p, text in zip(data, scores.outputs, strict=True)]
    again = task.evaluate(echo, Greedy(), batch_size=4)
    whole = [text != "" for text in scores.outputs]
    assert again.exact == np.mean(whole)
    assert again.scores["rouge1"] == pytest.approx(100 * np.mean(whole))
    assert {"bleu", "chrf", "rouge2", "rouge_l", "loss", "exact"} < set(again.as_dict())
    assert "outputs" not in again.as_dict()
    assert "rouge_l" in again.table()


def test_limits() -> None:
    """Long sources lose their end, long targets too, and still end."""
    rows = encode_pairs(tokenizer(), [{"source": "a " * 50, "target": "b " * 50}], 8, 6, "train")
    assert rows[0].token_ids.tolist() == [2, *[4] * 6, 3, *[5] * 5, 3]
    task = fresh()
    assert task.predict([]) == []
    if EAGER:
        assert isinstance(task.predict("a " * 50), str)
        assert isinstance(task.predict(""), str)


def test_errors(tmp_path: Path) -> None:
    task = fresh()
    for data, message in (([], "no examples"), ([{"source": "a"}], "train 0"), (["a"], "train 0")):
        with pytest.raises(DataError, match=message):
            task.fit(data, verbose=0)
    for data, message in (([], "no examples"), ([{"source": "a"}], "pairs 0"), ("ab", "must be a list")):
        with pytest.raises(DataError, match=message):
            task.evaluate(data)
    with pytest.raises(ConfigError, match="metrics must be"):
        task.evaluate(pairs(2), metrics=["meteor"])
    with pytest.raises(DataError, match="text 1"):
        task.predict(["a", 3])
    with pytest.raises(ConfigError, match="epochs"):
        task.fit(pairs(3), epochs=0)
    with pytest.raises(ConfigError, match="positions end at 32"):
        Seq2Seq.from_pretrained(SIZES, tokenizer=tokenizer())
    with pytest.raises(ConfigError, match="tokenizer"):
        Seq2Seq.from_pretrained(SIZES)
    causal = Transformer(task.model.config, mask="causal", head="lm")
    with pytest.raises(ConfigError, match="mask='prefix'"):
        Seq2Seq(causal, tokenizer(), max_source=8, max_target=6)
    with pytest.raises(CheckpointError, match="does not exist"):
        Seq2Seq.load(tmp_path)
    for content, message in (
        ('{"format": "kexue-task", "version": 1, "task": "ner"}', "kind seq2seq, which Seq2Seq.save writes.*'ner'"),
        ('{"format": "kexue-task", "version": 1, "task": "seq2seq"}', "max_source"),
        ("[]", "description of a Seq2Seq"),
    ):
        (tmp_path / "task.json").write_text(content)
        with pytest.raises(CheckpointError, match=message):
            Seq2Seq.load(tmp_path)
