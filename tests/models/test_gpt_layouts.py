"""GPT2-ML against NumPy written from its description; names and shapes of TensorFlow releases; what formats refuse."""

import json
import math

import numpy as np
import pytest
from tests.models.tiny import batch, build, run, shared

from kexue.checkpoints import open_checkpoint, read_all, write_tf_bundle
from kexue.errors import CheckpointError, ConfigError
from kexue.models import Transformer, families
from kexue.models.families.base import Row


def tensors(folder):
    with open_checkpoint(folder) as checkpoint:
        return read_all(checkpoint)


def layer_norm(x, w, name):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}/gamma"] + w[f"{name}/beta"]


def gpt2_ml(w, ids, layers, heads):
    """One sequence through GPT2-ML with its weights by the names of the release."""
    w = {name.removeprefix("newslm/"): np.asarray(v, "float64") for name, v in w.items()}
    n, size = len(ids), w["embeddings/word_embed"].shape[1] // heads
    x = w["embeddings/word_embed"][ids] + w["embeddings/pos_embed"][:n]
    x = layer_norm(x, w, "embeddings/LayerNorm_embed_norm")
    for i in range(layers):
        b = f"layer{i:02d}"

        def dense(y, name, b=b):
            return y @ w[f"{b}/{name}/kernel"] + w[f"{b}/{name}/bias"]

        q, k, v = (dense(x, f"{part}_layer").reshape(n, heads, size) for part in ("query", "key", "value"))
        scores = np.einsum("qhd,khd->hqk", q, k) / math.sqrt(size)
        scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
        p = np.exp(scores - scores.max(-1, keepdims=True))
        o = np.einsum("hqk,khd->qhd", p / p.sum(-1, keepdims=True), v).reshape(n, -1)
        x = x + dense(o, "context_projection_layer")
        up = dense(layer_norm(x, w, f"{b}/LayerNorm_mlp_ln0"), "intermediate")
        up = up * (1 + np.vectorize(math.erf)(up / math.sqrt(2))) / 2
        x = layer_norm(x + dense(up, "output"), w, f"{b}/LayerNorm_mlp_ln1")
    return x, x @ w["embeddings/word_embed"].T


CONFIG_ML = {
    "vocab_size": 31, "hidden_size": 12, "num_hidden_layers": 11, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 24, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "initializer_range": 0.014,
    "attention_probs_dropout_prob": 0.1,
}  # fmt: skip


def test_gpt2_ml_equals_numpy(tmp_path):
    """Eleven layers, so that names have two digits; read with the release's own configuration, told by the names."""
    model = build("gpt2_ml", "lm", num_layers=11)
    model.save_pretrained(tmp_path, format="tf")
    w = tensors(tmp_path)
    assert "newslm/layer10/query_layer/kernel" in w
    assert len(w) == 4 + 11 * 16
    (tmp_path / "bert_config.json").write_text(json.dumps(CONFIG_ML))
    loaded = Transformer.from_pretrained(tmp_path, head="lm")
    assert (loaded.config.family, loaded.config.norm_epsilon) == ("gpt2_ml", 1e-5)
    data = batch(model)
    out = run(loaded, data)
    for row in (0, 7):
        keep = data["padding_mask"][row]
        hidden, logits = gpt2_ml(w, data["token_ids"][row], 11, 3)
        np.testing.assert_allclose(out["sequence_output"][row][keep], hidden[keep], atol=3e-5)
        np.testing.assert_allclose(out["logits"][row][keep], logits[keep], atol=2e-4)


def test_gpt2_of_openai(tmp_path):
    """``hparams.json``, matrices with a leading axis of 1, one tensor of queries, keys and values."""
    model = shared("gpt2", "lm")
    model.save_pretrained(tmp_path / "a", format="tf")
    w = tensors(tmp_path / "a")
    assert w["model/h1/attn/c_attn/w"].shape == (1, 12, 36)
    assert w["model/h0/mlp/c_fc/w"].shape == (1, 12, 20)
    assert w["model/h0/ln_1/g"].shape == w["model/ln_f/b"].shape == (12,)
    assert w["model/wpe"].shape == (24, 12)
    write_tf_bundle(tmp_path / "b" / "model.ckpt", w)
    hparams = {"n_vocab": 31, "n_ctx": 24, "n_embd": 12, "n_head": 3, "n_layer": 2}
    (tmp_path / "b" / "hparams.json").write_text(json.dumps(hparams))
    data = batch(model)
    with pytest.raises(CheckpointError, match="c_fc"):  # the width inside is four times the outer one in that file
        Transformer.from_pretrained(tmp_path / "b", head="lm")
    (tmp_path / "b" / "hparams.json").write_text(json.dumps(hparams | {"n_inner": 20}))
    again = Transformer.from_pretrained(tmp_path / "b", head="lm")
    assert again.config.family == "gpt2"
    np.testing.assert_array_equal(run(again, data)["logits"], run(model, data)["logits"])


def test_gpt_of_bert4keras(tmp_path):
    """Queries, keys and values apart in TensorFlow, together in PyTorch."""
    model = shared("gpt", "lm")
    model.save_pretrained(tmp_path / "tf", format="tf")
    model.save_pretrained(tmp_path / "hf", format="hf")
    w, t = tensors(tmp_path / "tf"), tensors(tmp_path / "hf")
    parts = [w[f"gpt/transformer/layer_1/attention/self/{n}/kernel"] for n in ("query", "key", "value")]
    np.testing.assert_array_equal(t["transformer.h.1.attn.c_attn.weight"], np.concatenate(parts, axis=1))
    up = w["gpt/transformer/layer_0/intermediate/dense/kernel"]
    np.testing.assert_array_equal(t["transformer.h.0.mlp.c_fc.weight"], up)
    assert families.detect({}, w).name == "gpt"


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("gpt", {"norm_order": "pre"}, "norm_order"),
        ("gpt", {"intermediate_size": 20}, "intermediate_size"),
        ("gpt", {"activation": "gelu"}, "'gelu'"),
        ("gpt", {"shared_segments": True}, "shared_segments"),
        ("gpt2", {"mask": "bidirectional"}, "mask"),
        ("gpt2", {"num_segments": 2}, "num_segments"),
        ("gpt2", {"key_size": 6, "value_size": 6}, "key_size"),
        ("gpt2", {"attention_options": {"scale": 0.5}}, "attention_options"),
        ("gpt2_ml", {"norm_order": "post"}, "norm_order"),
        ("llama", {"position_options": {"layout": "interleaved"}}, "layout 'half'"),
        ("llama", {"position_options": {"layout": "half", "values": True}}, "'values'"),
        ("llama", {"value_size": 3}, "one size of heads"),
        ("llama", {"local_window": 3}, "local_window"),
        ("llama", {"attention_output_bias": True}, "attention_output_bias"),
        ("llama", {"decoder_layers": 1}, "decoder_layers"),
        ("qwen2", {"attention_bias": False}, "attention_bias"),
        ("qwen3", {"query_key_norm": False}, "query_key_norm"),
        ("qwen3", {"gated": False}, "gated"),
        ("t5", {"attention_options": {}}, "attention_options"),
        ("t5", {"lm_scale": 0.5}, "lm_scale"),
        ("t5", {"attention_dropout": 0.3}, "attention_dropout"),
        ("mt5", {"lm_scale": 12**-0.5}, "lm_scale"),
        ("mt5", {"activation": "gelu"}, "activation"),
    ],
)
def test_what_a_format_cannot_say_is_refused(name, changes, words, tmp_path):
    format = "tf" if name == "gpt2_ml" else "hf"
    with pytest.raises(ConfigError, match=words) as caught:
        build(name, "lm", **changes).save_pretrained(tmp_path / "x", format=format)
    assert "kexue" in str(caught.value) or "official format" in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_layouts_that_do_not_exist(tmp_path):
    with pytest.raises(ConfigError, match="llama has no TensorFlow layout"):
        shared("llama").save_pretrained(tmp_path / "x", format="tf")
    shared("bert").save_pretrained(tmp_path / "bert", format="tf")
    with pytest.raises(CheckpointError, match="llama has no TensorFlow layout"):
        Transformer.from_pretrained(tmp_path / "bert", config=shared("llama").config)


@pytest.mark.parametrize(
    ("storage", "ours", "layout", "names", "shape"),
    [
        ("fused_dense", "block_0_attention/qkv_kernel", "hf", 3, (12, 40)),
        ("fused_dense", "block_0_attention/qkv_kernel", "tf", 3, (12, 40)),
        ("fused_dense", "block_0_cross_attention/key_value_kernel", "hf", 2, (12, 16)),
        ("fused", "block_0_feedforward/up_bias", "hf", 2, (40,)),
        ("fused", "block_0_attention/qkv_kernel", "hf", 1, (12, 40)),
        ("tf_stacked", "block_0_attention/qkv_kernel", "tf", 1, (12, 40)),
        ("tf_stacked", "block_0_attention/qkv_kernel", "hf", 1, (12, 40)),
        ("tf_transposed", "position_tables/position/table", "tf", 1, (8, 3)),
        ("dense", "x/kernel", "hf", 1, (4, 3)),
    ],
)
def test_storage_round_trips(storage, ours, layout, names, shape):
    """Grouped queries have unequal parts: 6 heads of 4 and twice 2 heads of 4."""
    array = np.random.default_rng(0).normal(size=shape)
    row = Row(ours, storage, **{layout: tuple(f"n{i}" for i in range(names))})
    parts = row.save(array, layout, shared("llama").config)
    assert len(parts) == names
    np.testing.assert_array_equal(row.load(parts, layout), array)
    if "qkv" in ours and names == 3:
        sizes = [part.shape[0 if layout == "hf" else 1] for part in parts]
        assert sizes == [24, 8, 8]
    if storage == "tf_stacked":
        assert parts[0].shape == ((1, *shape) if layout == "tf" else shape)
