"""ALBERT, ELECTRA, NEZHA and ModernBERT beyond what transformers can judge: Google's names, NumPy, shared blocks."""

import json

import numpy as np
import pytest
from tests.models.oracles import nezha
from tests.models.tiny import batch, build, config, run, shared

from kexue.checkpoints import open_checkpoint, read_all, write_safetensors, write_tf_bundle
from kexue.errors import CheckpointError, ConfigError
from kexue.models import Transformer, families
from kexue.models.weights import named_weights

HEADS = ("lm", "pooler", "nsp")
GOOGLE = {
    "hidden_act": "relu", "hidden_size": 12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    "intermediate_size": 20, "num_attention_heads": 3, "num_hidden_layers": 2, "type_vocab_size": 2, "vocab_size": 31,
}  # fmt: skip


@pytest.mark.parametrize("clip", [3, 64])
def test_nezha_equals_numpy(clip, tmp_path):
    model = build("nezha", HEADS, position_options={"clip": clip})
    model.save_pretrained(tmp_path, format="tf")
    with open_checkpoint(tmp_path) as checkpoint:
        w = {n: np.asarray(checkpoint[n], "float64") for n in checkpoint.names()}
    data = batch(model)
    out = run(model, data)
    for row in (0, len(data["token_ids"]) - 1):
        keep = data["padding_mask"][row]
        want = nezha(w, data["token_ids"][row], data["segment_ids"][row], keep, model.config)
        for name, value in want.items():
            where = keep if len(value) == len(keep) else slice(None)
            np.testing.assert_allclose(out[name][row][where], value[where], atol=5e-5, err_msg=name)


def test_nezha_by_all_its_names(tmp_path):
    """Google's configuration without a family, and PyTorch files with the prefix of BERT and with tables inside."""
    model = shared("nezha", HEADS)
    data = batch(model)
    want = run(model, data)

    def same(folder):
        out = run(Transformer.from_pretrained(folder, head=HEADS), data)
        for name, value in want.items():
            np.testing.assert_allclose(out[name], value, atol=1e-5, err_msg=name)

    model.save_pretrained(tmp_path / "tf", format="tf")
    official = GOOGLE | {"max_relative_position": 3, "use_relative_position": True, "hidden_act": "gelu"}
    (tmp_path / "tf" / "bert_config.json").write_text(json.dumps(official))
    same(tmp_path / "tf")
    model.save_pretrained(tmp_path / "hf", format="hf")
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["architectures"] == ["NezhaForPreTraining"]
    same(tmp_path / "hf")
    with open_checkpoint(tmp_path / "hf") as checkpoint:
        tensors = {name.replace("nezha.", "bert."): value for name, value in read_all(checkpoint).items()}
    tensors["bert.encoder.layer.0.attention.self.relative_positions_encoding.positions_encoding"] = np.zeros((9, 9, 4))
    write_safetensors(tmp_path / "hf" / "model.safetensors", tensors)
    same(tmp_path / "hf")


def test_albert_of_google(tmp_path):
    """Google's configuration names no family, its "gelu" is the tanh form, dropout is 0 where it is not named."""
    model = shared("albert", HEADS)
    model.save_pretrained(tmp_path, format="tf")
    settings = GOOGLE | {"hidden_act": "gelu", "embedding_size": 8, "max_position_embeddings": 24}
    settings |= {"num_hidden_groups": 1, "inner_group_num": 1, "net_structure_type": 0, "gap_size": 0}
    del settings["hidden_dropout_prob"]
    (tmp_path / "bert_config.json").unlink()
    (tmp_path / "albert_config.json").write_text(json.dumps(settings))
    again = Transformer.from_pretrained(tmp_path, head=HEADS)
    assert (again.config.family, again.config.activation, again.config.dropout) == ("albert", "gelu_new", 0.0)
    data = batch(model)
    for name, value in run(again, data).items():
        np.testing.assert_allclose(value, run(model, data)[name], atol=1e-5, err_msg=name)
    with open_checkpoint(tmp_path) as checkpoint:
        names = set(checkpoint.names())
    block = "bert/encoder/transformer/group_0/inner_group_0/"
    assert {f"{block}attention_1/self/query/kernel", f"{block}ffn_1/intermediate/output/dense/bias",
            f"{block}LayerNorm_1/gamma", "bert/encoder/embedding_hidden_mapping_in/kernel",
            "cls/seq_relationship/output_weights"} <= names  # fmt: skip
    with pytest.raises(ConfigError, match="inner_group_num=1"):
        families.get("albert").from_official(settings | {"inner_group_num": 2})


def test_electra_of_google(tmp_path):
    """One bundle holds the discriminator and a narrower generator, which share the tables of tokens."""
    discriminator = build("electra", ("discriminator",), activation="gelu")
    generator = build("electra_generator", "lm", embedding_size=8, hidden_size=6, intermediate_size=10)
    discriminator.save_pretrained(tmp_path / "d", format="tf")
    generator.save_pretrained(tmp_path / "g", format="tf")
    tensors = {}
    for folder in ("g", "d"):  # the tables of the discriminator count
        with open_checkpoint(tmp_path / folder) as checkpoint:
            tensors |= read_all(checkpoint)
    assert {"generator/embeddings_project/kernel", "generator/encoder/layer_1/output/dense/bias",
            "generator_predictions/output_bias", "electra/embeddings_project/bias",
            "electra/embeddings/word_embeddings",
            "discriminator_predictions/dense_1/kernel"} <= set(tensors)  # fmt: skip
    (tmp_path / "both").mkdir()
    write_tf_bundle(tmp_path / "both" / "electra.ckpt", tensors)
    official = GOOGLE | {"hidden_act": "gelu", "embedding_size": 8, "max_position_embeddings": 24}
    (tmp_path / "both" / "discriminator_config.json").write_text(json.dumps(official))
    (tmp_path / "both" / "generator.json").write_text(
        json.dumps(official | {"hidden_size": 6, "intermediate_size": 10})
    )
    again = Transformer.from_pretrained(tmp_path / "both", head="discriminator")
    data = batch(discriminator)
    np.testing.assert_allclose(
        run(again, data)["discriminator_logits"], run(discriminator, data)["discriminator_logits"], atol=1e-5
    )
    other = Transformer.from_pretrained(
        tmp_path / "both", head="lm", family="electra_generator", config=tmp_path / "both" / "generator.json"
    )
    np.testing.assert_allclose(run(other, data)["logits"], run(generator, data)["logits"], atol=1e-5)


def test_modernbert_configurations():
    """Old keys and new ones say the same; what kexue cannot do is refused by name."""
    family = families.get("modernbert")
    old = {"model_type": "modernbert", "vocab_size": 31, "hidden_size": 12, "num_hidden_layers": 4,
           "num_attention_heads": 3, "intermediate_size": 20, "global_attn_every_n_layers": 2,
           "global_rope_theta": 300.0, "local_rope_theta": 20.0, "local_attention": 7}  # fmt: skip
    angles = {"full_attention": {"rope_type": "default", "rope_theta": 300.0},
              "sliding_attention": {"rope_type": "default", "rope_theta": 20.0}}  # fmt: skip
    new = {name: value for name, value in old.items() if "rope" not in name and "every" not in name}
    new |= {"rope_parameters": angles, "layer_types": ["full_attention", "sliding_attention"] * 2}
    assert family.from_official(old) == family.from_official(new)
    assert family.from_official(old).local_window == 3
    for wrong, words in (
        ({"layer_types": ["sliding_attention"] * 4}, "layer_types"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "yarn"),
        ({"rope_scaling": {"type": "linear"}}, "linear"),
    ):
        with pytest.raises(ConfigError, match=words):
            family.from_official(old | wrong)
    with pytest.raises(ConfigError, match="vocab_size"):
        family.from_official({"hidden_size": 3})


@pytest.mark.parametrize("format", ["kexue", "hf", "tf"])
@pytest.mark.parametrize("groups", [1, 2])
def test_unshared_albert(format, groups, tmp_path):
    """Each layer gets a copy of its group's block: equal outputs, and weights that may go their own ways."""
    model = build("albert", HEADS, num_layers=4, block_groups=groups)
    model.save_pretrained(tmp_path / "shared", format=format)
    alone = Transformer.from_pretrained(tmp_path / "shared", head=HEADS, block_groups=None)
    assert alone.config.num_blocks == 4
    data = batch(model)
    want = run(model, data)
    for name, value in run(alone, data).items():
        np.testing.assert_array_equal(value, want[name], err_msg=name)
    alone.save_pretrained(tmp_path / "alone", format=format)
    again = Transformer.from_pretrained(tmp_path / "alone", head=HEADS)
    assert again.config.num_blocks == 4
    np.testing.assert_array_equal(run(again, data)["logits"], want["logits"])
    # Equal blocks can be shared again; blocks that have changed cannot.
    together = Transformer.from_pretrained(tmp_path / "alone", head=HEADS, block_groups=groups)
    np.testing.assert_array_equal(run(together, data)["logits"], want["logits"])
    kernel = named_weights(alone)["block_1_feedforward/up_kernel"]
    kernel.assign(kernel + 0.001)
    alone.save_pretrained(tmp_path / "other", format=format)
    again = Transformer.from_pretrained(tmp_path / "other", head=HEADS)
    np.testing.assert_array_equal(run(again, data)["logits"], run(alone, data)["logits"])
    with pytest.raises(
        CheckpointError, match=r"block_0_feedforward/up_kernel and block_1_feedforward/up_kernel differ"
    ):
        Transformer.from_pretrained(tmp_path / "other", block_groups=groups)
    with pytest.raises(ConfigError, match="block_groups and num_layers"):
        Transformer.from_pretrained(tmp_path / "shared", block_groups=None, num_layers=2)


def test_any_family_can_share_blocks(tmp_path):
    """A BERT whose blocks are equal is a BERT with one block."""
    model = build("bert", block_groups=1)
    model.save_pretrained(tmp_path / "a")
    alone = Transformer.from_pretrained(tmp_path / "a", block_groups=None)
    alone.save_pretrained(tmp_path / "b", format="hf")
    again = Transformer.from_pretrained(tmp_path / "b", block_groups=1)
    data = batch(model)
    assert len(again.weights) == len(model.weights) < len(alone.weights)
    for other in (alone, again):
        np.testing.assert_array_equal(run(other, data)["sequence_output"], run(model, data)["sequence_output"])
    with pytest.raises(ConfigError, match="'kexue'"):
        again.save_pretrained(tmp_path / "c", format="hf")


def test_shared_blocks_have_the_weights_of_one():
    """Parameters of ALBERT: E (V + P + 2) + 2 E + E D + D, and one block whatever the depth (arXiv 1909.11942)."""
    v, e, d, f, places = 31, 8, 12, 20, 24
    block = 4 * d * d + 4 * d + 2 * d * f + f + d + 4 * d
    for layers in (2, 6):
        model = Transformer(config("albert", num_layers=layers))
        total = sum(int(np.prod(w.shape)) for w in named_weights(model).values())
        assert total == e * (v + places + 2) + 2 * e + e * d + d + block


def test_modernbert_windows_grow_with_depth():
    """Without global blocks after the first, what a token sees is bounded by the windows (exactly 0 beyond)."""
    model = build("modernbert", global_every=100, num_layers=3)  # block 0 is global, 1 and 2 are local
    data = batch(model, rows=2)
    data["padding_mask"][:] = True
    for name, variable in named_weights(model).items():
        if name.startswith("block_0_attention"):
            variable.assign(np.zeros(variable.shape))
    before = run(model, data)["sequence_output"]  # the same row again: two rows of a batch may round differently
    data["token_ids"][0, 0] += 1 if data["token_ids"][0, 0] < 30 else -1
    moved = np.abs(run(model, data)["sequence_output"][0] - before[0]).max(-1)
    assert (moved[:5] > 0).all()  # two blocks of two tokens to the left
    assert (moved[5:] == 0).all()
