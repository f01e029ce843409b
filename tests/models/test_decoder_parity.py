"""Decoders and encoder-decoders: equal outputs to transformers on random weights, both ways."""

import inspect
import json

import numpy as np
import pytest
from tests.models.tiny import run

from kexue.errors import CheckpointError, ConfigError
from kexue.models import Transformer, families
from kexue.nn.positions.rotary import RotaryPosition

base = pytest.importorskip("tests.models.peer", reason="torch and transformers")
peer = pytest.importorskip("tests.models.decoder_peer", reason="torch and transformers")
torch = base.torch
pytestmark = pytest.mark.peer
NEAR = 2e-5

ODD = [
    ("gpt", {}),
    ("gpt", {"afn": "silu", "layer_norm_epsilon": 1e-3}),
    ("gpt2", {}),
    ("gpt2", {"n_inner": 17, "activation_function": "gelu", "n_head": 1}),
    ("gpt2", {"tie_word_embeddings": False}),
    ("llama", {}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 6}),
    ("llama", {"head_dim": 10, "num_key_value_heads": 1, "rms_norm_eps": 1e-3}),
    ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 311.0}, "hidden_act": "gelu"}),
    ("mistral", {}),
    ("qwen2", {}),
    ("qwen2", {"tie_word_embeddings": True, "num_key_value_heads": 3}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}),
    ("qwen3", {}),
    ("qwen3", {"attention_bias": True, "tie_word_embeddings": True, "head_dim": 4}),
    ("t5", {}),
    ("t5", {"d_kv": 8, "num_decoder_layers": None}),
    ("t5", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "untied": True}),
    ("t5", {"feed_forward_proj": "gated-silu", "tie_word_embeddings": False}),
    ("t5", {"feed_forward_proj": "gelu"}),
    ("mt5", {"untied": True}),
    ("mt5", {"d_kv": 8}),
]
odd = pytest.mark.parametrize(("kind", "changes"), ODD, ids=[f"{k}-{'-'.join(map(str, c))}" for k, c in ODD])


@odd
def test_language_model_and_back(kind, changes, tmp_path):
    """Hidden states and logits with padding; then kexue, hf, transformers again, with the same tensors."""
    model = peer.make(kind, **changes)
    batch = peer.data(model)
    want = peer.theirs(model, batch)
    model.save_pretrained(tmp_path / "theirs")
    ours = Transformer.from_pretrained(tmp_path / "theirs", head="lm")
    assert peer.difference(run(ours, batch), want, batch) < NEAR
    ours.save_pretrained(tmp_path / "kexue")
    again = Transformer.from_pretrained(tmp_path / "kexue", head="lm")
    assert again.config == ours.config
    again.save_pretrained(tmp_path / "hf", format="hf")
    back = base.reload(tmp_path / "hf", peer.KINDS[kind][1].replace("Mistral", "Llama"))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name].numpy(), value.numpy(), err_msg=name)
    assert peer.difference(peer.theirs(back, batch), want, batch) < NEAR


@pytest.mark.parametrize("kind", peer.KINDS)
def test_bare_model_and_back(kind, tmp_path):
    """Without the head transformers saves its tensors without the prefix."""
    stem = peer.KINDS[kind][0]
    model = peer.make(kind, f"{stem}Model")
    batch = peer.data(model)
    want = peer.theirs(model, batch)
    model.save_pretrained(tmp_path / "theirs")
    ours = Transformer.from_pretrained(tmp_path / "theirs")
    assert peer.difference(run(ours, batch), want, batch) < NEAR
    ours.save_pretrained(tmp_path / "hf", format="hf")
    back = base.reload(tmp_path / "hf", f"{stem}Model".replace("Mistral", "Llama"))
    assert peer.difference(peer.theirs(back, batch), want, batch) < NEAR


@pytest.mark.parametrize("kind", peer.KINDS)
def test_left_padding(kind, tmp_path):
    """As generation in batches needs it: positions are given where the model has absolute ones."""
    model = peer.make(kind)
    batch = peer.data(model, left=True)
    model.save_pretrained(tmp_path)
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    assert peer.difference(run(ours, batch), peer.theirs(model, batch), batch) < NEAR


@pytest.mark.parametrize("kind", ["t5", "mt5"])
def test_encoder_alone(kind, tmp_path):
    """From a whole checkpoint, from a file without a decoder, and back to transformers."""
    stem = peer.KINDS[kind][0]
    whole = peer.make(kind)
    batch = peer.data(whole)
    want = {"sequence_output": peer.theirs(whole, batch)["encoder_output"]}
    batch = {name: batch[name] for name in ("token_ids", "padding_mask")}
    whole.save_pretrained(tmp_path / "whole")
    ours = Transformer.from_pretrained(tmp_path / "whole", decoder_layers=None)
    assert peer.difference(run(ours, batch), want, batch) < NEAR
    Transformer.from_pretrained(tmp_path / "whole").save_pretrained(tmp_path / "kexue")
    for path in ("kexue", "hf"):
        again = Transformer.from_pretrained(tmp_path / path, decoder_layers=None) if path == "kexue" else ours
        assert peer.difference(run(again, batch), want, batch) < NEAR
    ours.save_pretrained(tmp_path / "hf", format="hf")
    back = base.reload(tmp_path / "hf", f"{stem}EncoderModel")
    got = back(torch.tensor(batch["token_ids"]).long(), torch.tensor(batch["padding_mask"]).long())
    got = {"sequence_output": got.last_hidden_state.detach().numpy()}
    assert peer.difference(got, want, batch) < NEAR
    back.save_pretrained(tmp_path / "encoder")
    again = Transformer.from_pretrained(tmp_path / "encoder")
    assert again.config.decoder_layers is None
    assert peer.difference(run(again, batch), want, batch) < NEAR


@pytest.mark.parametrize("kind", ["gpt", "gpt2"])
def test_segments_from_the_token_table(kind, tmp_path):
    """CDialGPT: ids of speakers are tokens; ids that are 0 count, unlike no ids."""
    model = peer.make(kind)
    batch = peer.data(model)
    batch["segment_ids"] = np.where(np.arange(11) % 4 < 2, 7, 0)[None].repeat(3, 0).astype("int32")
    model.save_pretrained(tmp_path)
    ours = Transformer.from_pretrained(tmp_path, head="lm", shared_segments=True)
    assert peer.difference(run(ours, batch), peer.theirs(model, batch), batch) < NEAR
    del batch["segment_ids"]
    assert peer.difference(run(ours, batch), peer.theirs(model, batch), batch) < NEAR
    with pytest.raises(ConfigError, match="between 0 and 60"):
        ours({**batch, "segment_ids": np.full((3, 11), 61, "int32")})


def test_sliding_window_of_all_layers(tmp_path):
    """Mistral's: every layer has it, so it is the mask of the model."""
    model = peer.make("mistral", sliding_window=4)
    batch = peer.data(model)
    model.save_pretrained(tmp_path)
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    want = peer.theirs(model, batch)
    assert peer.difference(run(ours, batch), want, batch) < NEAR
    wide = Transformer.from_pretrained(tmp_path, head="lm", mask="causal")
    assert peer.difference(run(wide, batch), want, batch) > 1e-3


def test_windows_that_do_not_map():
    data = peer.make("qwen2").config.to_dict() | {"use_sliding_window": True, "sliding_window": 4}
    family = families.get("qwen2")
    with pytest.raises(ConfigError, match=r"full attention in layers \[0, 1\] of 3"):
        family.from_official(data | {"max_window_layers": 2, "layer_types": None})
    assert family.from_official(data | {"max_window_layers": 3, "layer_types": None}).local_window is None
    assert family.from_official(data | {"use_sliding_window": False}).mask == "causal"


def test_rotary_settings():
    """Spellings of transformers 5 and before; a scaling that nobody knows."""
    data = peer.make("llama").config.to_dict()
    del data["rope_parameters"]
    read = families.get("llama").from_official
    half = {"layout": "half", "base": 500.0}
    assert read(data | {"rope_theta": 500.0}).position_options == half
    assert read(data | {"rope_theta": 500.0, "rope_scaling": None}).position_options == half
    old = read(data | {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert old.position_options == half | {"scaling": {"kind": "linear", "factor": 2.0}}
    rope = {"rope_type": "yarn", "rope_theta": 500.0, "factor": 4.0, "beta_slow": 2.0}
    new = read(data | {"rope_parameters": rope})
    assert new.position_options["scaling"] == {"kind": "yarn", "factor": 4.0, "beta_slow": 2.0, "original_length": 40}
    with pytest.raises(ConfigError, match="'longrope'"):
        read(data | {"rope_parameters": {"rope_type": "longrope", "factor": 2.0}})
    with pytest.raises(ConfigError, match=r"partial_rotary_factor=0\.5"):
        read(data | {"rope_parameters": {"rope_theta": 500.0, "partial_rotary_factor": 0.5}})


SCALINGS = {
    "linear": {"factor": 2.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 16},
    "yarn_all": {"factor": 4.0, "beta_fast": 8.0, "beta_slow": 2.0, "attention_factor": 1.3},
}


@pytest.mark.skipif("scaling" not in inspect.signature(RotaryPosition).parameters, reason="no scaled frequencies")
@pytest.mark.parametrize("name", SCALINGS)
def test_scaled_rotary_positions(name, tmp_path):
    rope = {"rope_type": name.removesuffix("_all"), "rope_theta": 500.0} | SCALINGS[name]
    model = peer.make("llama", rope_parameters=rope, head_dim=16)
    batch = peer.data(model, length=30)
    model.save_pretrained(tmp_path / "a")
    ours = Transformer.from_pretrained(tmp_path / "a", head="lm")
    want = peer.theirs(model, batch)
    assert peer.difference(run(ours, batch), want, batch) < NEAR
    ours.save_pretrained(tmp_path / "b", format="hf")
    back = base.reload(tmp_path / "b", "LlamaForCausalLM")
    assert peer.difference(peer.theirs(back, batch), want, batch) < NEAR
    plain = Transformer.from_pretrained(tmp_path / "a", head="lm", position_options={"layout": "half", "base": 500.0})
    assert peer.difference(run(plain, batch), want, batch) > 1e-3


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("gpt", {"n_embd": None}, "lacks n_embd"),
        ("gpt", {"afn": "tanh"}, "afn='tanh'"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
        ("llama", {"intermediate_size": None}, "lacks intermediate_size"),
        ("t5", {"d_kv": None}, "lacks d_kv"),
        ("t5", {"feed_forward_proj": "gated-wibble"}, "wibble"),
    ],
)
def test_configurations_that_cannot_work(kind, changes, words, tmp_path):
    peer.make(kind).save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match=words):
        Transformer.from_pretrained(tmp_path)


def test_older_t5_configurations(tmp_path):
    """Those of the hub say with ``tie_word_embeddings`` alone that T5 1.1 has a matrix and no factor."""
    model = peer.make("t5", feed_forward_proj="gated-gelu", tie_word_embeddings=False, untied=True)
    batch = peer.data(model)
    model.save_pretrained(tmp_path)
    data = json.loads((tmp_path / "config.json").read_text())
    del data["scale_decoder_outputs"]
    (tmp_path / "config.json").write_text(json.dumps(data | {"tie_word_embeddings": False}))
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    assert (ours.config.lm_scale, ours.config.tie_embeddings) == (1.0, False)
    assert peer.difference(run(ours, batch), peer.theirs(model, batch), batch) < NEAR


def test_t5_copies_are_checked(tmp_path):
    """T5 1.0 whose output matrix is no copy of the table: an error that says what to do."""
    model = peer.make("t5", untied=True)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"lm_head\.weight.*tie_embeddings=False"):
        Transformer.from_pretrained(tmp_path, head="lm")
    ours = Transformer.from_pretrained(tmp_path, head="lm", tie_embeddings=False)
    batch = peer.data(model)
    assert peer.difference(run(ours, batch), peer.theirs(model, batch), batch) < NEAR


def test_buffers_and_old_files(tmp_path):
    """GPT-2 of the hub: a bare model with its triangular buffers; PyTorch files with tied copies."""
    model = peer.make("gpt2")
    batch = peer.data(model)
    state = {name.removeprefix("transformer."): value for name, value in model.state_dict().items()}
    del state["lm_head.weight"]
    state |= {f"h.{i}.attn.bias": torch.ones(1, 1, 40, 40).tril() for i in range(2)}
    model.config.save_pretrained(tmp_path)
    torch.save(state, tmp_path / "pytorch_model.bin")
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    assert peer.difference(run(ours, batch), peer.theirs(model, batch), batch) < NEAR
    torch.save(peer.make("t5").state_dict(), tmp_path / "pytorch_model.bin")
    model = peer.make("t5")
    model.config.save_pretrained(tmp_path)
    batch = peer.data(model)
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    assert peer.difference(run(ours, batch), peer.theirs(model, batch), batch) < NEAR


def test_shards(tmp_path):
    model = peer.make("llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    batch = peer.data(model)
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    assert peer.difference(run(ours, batch), peer.theirs(model, batch), batch) < NEAR


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "changes"), [
    ("gpt2", {"n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 130}),
    ("t5", {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_decoder_layers": 6, "num_heads": 8}),
])  # fmt: skip
def test_base_size(kind, changes, tmp_path):
    """The official sizes with a small vocabulary, weights of deviation 0.02, within 1e-4."""
    model = peer.make(kind, **changes)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.mul_(0.02 / 0.3)
    batch = peer.data(model, length=128)
    model.save_pretrained(tmp_path)
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    assert peer.difference(run(ours, batch), peer.theirs(model, batch), batch) < 1e-4
