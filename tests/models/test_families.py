"""RoFormerV2 against NumPy, written from its description (spec 14); what transformers has no model for."""

import json

import keras
import numpy as np
import pytest
from tests.models.tiny import HEADS, batch, build, config, numpy, run, shared

from kexue.checkpoints import open_checkpoint
from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig, families
from kexue.models.families.roformer import sinusoids
from kexue.models.weights import named_weights


def rms(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-7)


def rope(x):
    """(L, H, d), pairs (0, 1), (2, 3) ... as complex numbers."""
    length, _, d = x.shape
    z = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(
        1j * np.arange(length)[:, None, None] * 10000.0 ** (-2 * np.arange(d // 2) / d)
    )
    return np.stack([z.real, z.imag], -1).reshape(x.shape)


def roformer_v2(w, ids, segments, keep, layers, heads):
    """One sequence through RoFormerV2 with its weights by bert4keras' names."""
    x = rms(w["bert/embeddings/word_embeddings"][ids] + w["bert/embeddings/token_type_embeddings"][segments])
    for i in range(layers):
        b = f"bert/encoder/layer_{i}/"
        q, k, v = (
            (x @ w[f"{b}attention/self/{n}/kernel"]).reshape(len(ids), heads, -1) for n in ("query", "key", "value")
        )
        scores = np.einsum("qhd,khd->hqk", rope(q), rope(k)) / np.sqrt(q.shape[-1])
        scores = np.where(keep[None, None], scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        o = np.einsum("hqk,khd->qhd", p / p.sum(-1, keepdims=True), v).reshape(len(ids), -1)
        x = rms(x + o @ w[f"{b}attention/output/dense/kernel"])
        x = rms(x + np.maximum(x @ w[f"{b}intermediate/dense/kernel"], 0) @ w[f"{b}output/dense/kernel"])
    return x, x @ w["bert/embeddings/word_embeddings"].T


def test_roformer_v2_equals_numpy(tmp_path):
    model = shared("roformer_v2", "lm")
    model.save_pretrained(tmp_path, format="tf")
    with open_checkpoint(tmp_path) as checkpoint:
        w = {n: np.asarray(checkpoint[n], "float64") for n in checkpoint.names()}
    data = batch(model)
    out = run(model, data)
    for row in range(len(data["token_ids"])):
        keep = data["padding_mask"][row]
        hidden, logits = roformer_v2(w, data["token_ids"][row], data["segment_ids"][row], keep, 2, 3)
        np.testing.assert_allclose(out["sequence_output"][row][keep], hidden[keep], atol=1e-5)
        np.testing.assert_allclose(out["logits"][row][keep], logits[keep], atol=5e-5)
        np.testing.assert_allclose(np.sqrt((out["sequence_output"][row] ** 2).mean(-1)), 1, atol=1e-5)


def test_roformer_v2_has_no_biases_and_no_gains():
    """Parameters: V D + 2 D + L (4 D^2 + 2 D F) (spec 14)."""
    model = shared("roformer_v2", "lm")
    for name in named_weights(model):
        assert not any(word in name for word in ("bias", "gain", "beta", "gamma")), name
    v, d, layers, f = 31, 12, 2, 20
    total = sum(int(np.prod(w.shape)) for w in named_weights(model).values())
    assert total == v * d + 2 * d + layers * (4 * d * d + 2 * d * f)


OFFICIAL_V2 = {
    "hidden_act": "relu", "hidden_size": 12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    "intermediate_size": 20, "num_attention_heads": 3, "num_hidden_layers": 2, "type_vocab_size": 2, "vocab_size": 31,
}  # fmt: skip


def test_roformer_v2_from_the_authors_layout(tmp_path):
    """A configuration with the author's keys and a bundle with bert4keras' names."""
    model = shared("roformer_v2", "lm")
    model.save_pretrained(tmp_path, format="tf")
    (tmp_path / "bert_config.json").write_text(json.dumps(OFFICIAL_V2))
    again = Transformer.from_pretrained(tmp_path, head="lm")
    assert again.config.family == "roformer_v2"
    assert again.config.norm_epsilon == 1e-7
    assert again.config.initializer == {"depth_scaled": 2}
    data = batch(model)
    np.testing.assert_allclose(run(again, data)["logits"], run(model, data)["logits"], atol=1e-6)


def test_roformer_v2_starts_as_described():
    """Deviation 1 / sqrt(D L) of every matrix, by its first dimension."""
    keras.utils.set_random_seed(0)
    settings = OFFICIAL_V2 | {"hidden_size": 192, "intermediate_size": 400}
    model = Transformer(families.get("roformer_v2").from_official(settings))
    for name, variable in named_weights(model).items():
        if "segment" in name:
            fan = 192
        elif "token" in name:
            fan = 31
        else:
            fan = variable.shape[0]
        np.testing.assert_allclose(numpy(variable.value).std(), (2 * fan) ** -0.5, rtol=0.1, err_msg=name)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_official_configurations_round_trip(name):
    family = families.get(name)
    c = config(name)
    data = json.loads(json.dumps(family.to_official(c)))
    assert family.from_official(data).replace(initializer=c.initializer, lm_activation=c.lm_activation) == c
    assert families.detect(data, []) is families.get("electra" if name == "electra_generator" else name)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_tables_name_every_weight_once(name):
    family = families.get(name)
    c = config(name, num_layers=3)
    rows = family.table(c)
    for layout in ("hf", "tf"):
        names = [n for row in rows for n in row.names(layout)]
        assert len(names) == len(set(names))
    assert len({row.ours for row in rows}) == len(rows)
    layers = config(name).num_layers
    rows = family.table(config(name))
    heads = [head for head in ("lm", "pooler", "nsp") if head in {row.group for row in rows}]
    built = set(named_weights(build(name, HEADS.get(name, heads), num_layers=layers)))
    assert built <= {row.ours for row in rows}
    for row in rows:
        if row.ours in built:
            assert all(row.names(layout) for layout in ("hf", "tf") if family.has_layout(layout)), row


def test_defaults_of_official_configurations():
    data = {k: v for k, v in OFFICIAL_V2.items() if k != "hidden_act"}
    bert = families.get("bert").from_official(data)
    assert (bert.activation, bert.norm_epsilon, bert.max_length) == ("gelu", 1e-12, 512)
    roberta = families.get("roberta").from_official(data)
    assert (roberta.position_offset, roberta.pad_id, roberta.positions_from_padding) == (2, 1, True)
    assert families.get("roformer").from_official(data).max_length == 1536
    albert = families.get("albert").from_official(data)
    assert (albert.activation, albert.embedding_size, albert.num_blocks) == ("gelu_new", 128, 1)
    assert families.get("nezha").from_official(data).position_options == {"clip": 64}
    modern = families.get("modernbert").from_official(data)
    assert (modern.local_window, modern.global_every, modern.pad_id) == (64, 3, 50283)
    assert (modern.position_options["base"], modern.local_position_options["base"]) == (160000.0, 10000.0)
    with pytest.raises(ConfigError, match="hidden_size"):
        families.get("bert").from_official({"vocab_size": 3})


def test_sinusoids():
    table = sinusoids(TransformerConfig(family="roformer", position="rotary", vocabulary_size=3, hidden_size=16,
                                        num_layers=1, num_heads=2, intermediate_size=4, max_length=50))  # fmt: skip
    assert table.shape == (50, 8)
    for i in range(4):
        angle = np.arange(50) * 10000 ** (-2 * i / 8)
        np.testing.assert_allclose(table[:, i], np.sin(angle), atol=1e-5)
        np.testing.assert_allclose(table[:, 4 + i], np.cos(angle), atol=1e-5)


def test_unknown_families():
    with pytest.raises(ConfigError, match="roformer_v2"):
        families.get("rofomer")
    with pytest.raises(ConfigError, match="'bart'"):
        families.detect({"model_type": "bart"}, [])
