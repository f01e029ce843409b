"""The model that comes with kexue: loaded by name, small, and it knows some Chinese."""

import json

import keras
import numpy as np
import pytest

from kexue.errors import CheckpointError
from kexue.files import shipped
from kexue.models import Transformer
from kexue.text import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_pretrained("zh-mini")


def best(model, tokenizer, text, count=5, **inputs):
    """The likeliest tokens at each [MASK] of a text."""
    ids = np.asarray([tokenizer.encode(text).token_ids], "int32")
    logits = keras.ops.convert_to_numpy(model({"token_ids": ids} | inputs)["logits"])[0]
    places = np.flatnonzero(ids[0] == tokenizer.mask_id)
    return [[tokenizer.id_to_token(int(i)) for i in np.argsort(-logits[place])[:count]] for place in places]


def test_size_and_parts():
    folder = shipped("zh-mini")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 24e6
    model = Transformer.from_pretrained("zh-mini")
    assert model.config.norm == "rms"
    assert model.config.position == "rotary"
    assert not [w.path for w in model.weights if w.path.endswith(("bias", "gain"))]


def test_fills_blanks(tokenizer):
    model = Transformer.from_pretrained("zh-mini", head="lm")
    assert best(model, tokenizer, "人民法[MASK]应当依法裁决。", 1) == [["院"]]
    assert "国" in best(model, tokenizer, "中华人民共和[MASK]刑法")[0]


def test_continues_text(tokenizer):
    """With segment 1 a token is told from those before it: a sentence is likelier than its shuffled characters."""
    model = Transformer.from_pretrained("zh-mini", mask="prefix", head="lm")
    losses = []
    for text in ("人民法院应当依法作出判决。", "院人当应法依出作决判法民。"):
        ids = np.asarray([tokenizer.encode(text).token_ids], "int32")
        logits = keras.ops.convert_to_numpy(model({"token_ids": ids, "segment_ids": np.ones_like(ids)})["logits"])[0]
        each = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
        losses.append(np.mean(each[:-1] - logits[np.arange(len(ids[0]) - 1), ids[0, 1:]]))
    assert losses[0] < losses[1] - 1
    assert losses[0] < np.log(8000) - 2


def test_a_folder_of_the_users_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zh-mini").mkdir()
    (tmp_path / "zh-mini" / "config.json").write_text(json.dumps({"format": "kexue"}))
    with pytest.raises(CheckpointError):
        Transformer.from_pretrained("zh-mini")
