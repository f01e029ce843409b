"""TransformerConfig: round trip and errors."""

import dataclasses
import json

import pytest
from tests.models.tiny import SMALL, config

from kexue.errors import ConfigError
from kexue.models import TransformerConfig
from kexue.nn.masks import Causal, Window


def test_every_field_is_documented():
    source = TransformerConfig.__module__
    import importlib
    import inspect

    text = inspect.getsource(importlib.import_module(source))
    for field in dataclasses.fields(TransformerConfig):
        line = text.index(f"    {field.name}: ")
        assert text[text.index("\n", line) :].lstrip().startswith('"""'), field.name


def test_sizes_that_follow():
    c = config("bert")
    assert (c.key_dim, c.value_dim, c.embedding_dim) == (4, 4, 12)
    c = c.replace(key_size=5, embedding_size=7)
    assert (c.key_dim, c.value_dim, c.embedding_dim) == (5, 4, 7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        c.key_size = 3


def test_mask_objects_become_plain_data():
    c = TransformerConfig(**SMALL, mask=Causal() & Window(3, 0))
    assert TransformerConfig.from_dict(json.loads(json.dumps(c.to_dict()))) == c


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hiden_size": 3}, "hidden_size"),
        ({"wibble": 3}, "Known fields"),
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"hidden_size": "12"}, "hidden_size='12'"),
        ({"hidden_size": 12.0}, "hidden_size=12.0"),
        ({"num_layers": True}, "num_layers=True"),
        ({"num_heads": 5}, "num_heads=5"),
        ({"key_size": 0}, "key_size=0"),
        ({"embedding_size": -1}, "embedding_size=-1"),
        ({"num_segments": -1}, "num_segments=-1"),
        ({"position": "rope"}, "'rope'"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"attention_dropout": None}, "attention_dropout=None"),
        ({"norm_epsilon": 0}, "norm_epsilon=0"),
        ({"norm_epsilon": "1e-5"}, "norm_epsilon='1e-5'"),
        ({"gated": 1}, "gated=1"),
        ({"embedding_projection": False, "embedding_size": 8}, "embedding_projection=False"),
        ({"condition_hidden_size": 3}, "need a condition_size"),
        ({"condition_size": 5, "condition_hidden_size": 0}, "condition_hidden_size=0"),
    ],
)
def test_errors(changes, words):
    with pytest.raises(ConfigError, match=words):
        TransformerConfig.from_dict(SMALL | changes)


def test_missing_fields():
    with pytest.raises(ConfigError, match="vocabulary_size, hidden_size"):
        TransformerConfig.from_dict({"num_layers": 1, "num_heads": 1, "intermediate_size": 1})
