"""Equal outputs to transformers on random weights, both ways, in odd shapes and in base size."""

import json

import numpy as np
import pytest
from tests.models.tiny import run

from kexue.errors import CheckpointError
from kexue.models import Transformer

peer = pytest.importorskip("tests.models.peer", reason="torch and transformers")
torch = peer.torch
pytestmark = pytest.mark.peer

ODD = [
    ("bert", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-6}),
    ("bert", {"hidden_act": "relu"}),
    ("bert", {"num_hidden_layers": 1, "num_attention_heads": 1}),
    ("roberta", {"hidden_act": "gelu", "layer_norm_eps": 1e-5}),
    ("roberta", {"hidden_act": "relu", "type_vocab_size": 1}),
    ("roformer", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-6}),
    ("roformer", {"embedding_size": 10}),
    ("roformer", {"rotary_value": True, "hidden_act": "silu"}),
    ("albert", {"embedding_size": 10}),
    ("albert", {"embedding_size": 24, "hidden_act": "gelu", "layer_norm_eps": 1e-6}),
    ("albert", {"embedding_size": 7, "num_hidden_layers": 6, "num_hidden_groups": 2, "hidden_act": "relu"}),
    ("electra", {"embedding_size": 10, "hidden_act": "relu"}),
    ("electra", {"embedding_size": 24, "hidden_act": "gelu_new", "layer_norm_eps": 1e-6}),
    ("modernbert", {}),
    (
        "modernbert",
        {
            "norm_bias": True,
            "attention_bias": True,
            "mlp_bias": True,
            "classifier_bias": True,
            "decoder_bias": False,
            "norm_eps": 1e-3,
        },
    ),
    (
        "modernbert",
        {
            "classifier_activation": "relu",
            "hidden_activation": "silu",
            "local_attention": 3,
            "num_hidden_layers": 5,
            "global_attn_every_n_layers": 2,
        },
    ),
    (
        "modernbert",
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 300.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
            }
        },
    ),
    ("modernbert", {"layer_types": ["full_attention"] * 4}),
]
IDS = [f"{kind}-{'-'.join(f'{n}={v}' for n, v in c.items())}"[:60] for kind, c in ODD]
odd = pytest.mark.parametrize(("kind", "changes"), ODD, ids=IDS)


def scaled(want):
    """1e-5 of the largest output: logits of random models are tens."""
    return 1e-5 * max(1.0, *(float(np.abs(v).max()) for v in want.values()))


@odd
def test_language_model_and_back(kind, changes, tmp_path):
    """MLM logits and hidden states; then kexue, hf, transformers again."""
    model = peer.make(kind, **changes)
    data = peer.data(model.config)
    want = peer.theirs(model, data)
    model.save_pretrained(tmp_path / "theirs")
    ours = Transformer.from_pretrained(tmp_path / "theirs", head="mlm")
    worst = peer.difference(run(ours, data), want, data["padding_mask"])
    assert worst < scaled(want)
    ours.save_pretrained(tmp_path / "kexue")
    again = Transformer.from_pretrained(tmp_path / "kexue", head="mlm")
    again.save_pretrained(tmp_path / "hf", format="hf")
    back = peer.reload(tmp_path / "hf", peer.KINDS[kind][2])
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(back.state_dict()[name].numpy(), value.numpy(), err_msg=name)
    assert peer.difference(peer.theirs(back, data), want, data["padding_mask"]) < scaled(want)


@odd
def test_bare_encoder_and_back(kind, changes, tmp_path):
    """``BertModel`` saves its tensors without the prefix; pooled output where transformers has one."""
    model = peer.make(kind, "base", **changes)
    data = peer.data(model.config)
    want = peer.theirs(model, data)
    model.save_pretrained(tmp_path / "theirs")
    head = "pooler" if "pooled_output" in want else None
    ours = Transformer.from_pretrained(tmp_path / "theirs", head=head)
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)
    ours.save_pretrained(tmp_path / "hf", format="hf")
    back = peer.reload(tmp_path / "hf", peer.KINDS[kind][1])
    assert peer.difference(peer.theirs(back, data), want, data["padding_mask"]) < scaled(want)


def test_left_padded_roberta(tmp_path):
    """Positions count real tokens, wherever they stand."""
    model = peer.make("roberta")
    data = peer.data(model.config, left=True)
    model.save_pretrained(tmp_path)
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    want = peer.theirs(model, data)
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)


def test_next_sentence(tmp_path):
    model = peer.make("bert", cls="BertForPreTraining")
    data = peer.data(model.config)
    want = peer.theirs(model, data)
    model.save_pretrained(tmp_path / "theirs")
    ours = Transformer.from_pretrained(tmp_path / "theirs", head=("lm", "pooler", "nsp"))
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)
    ours.save_pretrained(tmp_path / "hf", format="hf")
    back = peer.reload(tmp_path / "hf", "BertForPreTraining")
    assert peer.difference(peer.theirs(back, data), want, data["padding_mask"]) < scaled(want)


@pytest.mark.parametrize(
    ("kind", "cls", "heads"),
    [
        ("albert", "AlbertForPreTraining", ("lm", "pooler", "nsp")),
        ("electra", "ElectraForPreTraining", "discriminator"),
    ],
)
def test_other_heads(kind, cls, heads, tmp_path):
    """ALBERT's order of sentences, ELECTRA's discriminator."""
    model = peer.make(kind, cls=cls, embedding_size=10, hidden_act="relu")
    data = peer.data(model.config)
    want = peer.theirs(model, data)
    assert {"nsp_logits", "discriminator_logits"} & set(want)
    model.save_pretrained(tmp_path / "theirs")
    ours = Transformer.from_pretrained(tmp_path / "theirs", head=heads)
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)
    ours.save_pretrained(tmp_path / "hf", format="hf")
    back = peer.reload(tmp_path / "hf", cls)
    assert peer.difference(peer.theirs(back, data), want, data["padding_mask"]) < scaled(want)


def test_unshared_albert(tmp_path):
    """Written with a group for each layer, transformers' outputs are those of the shared model."""
    model = peer.make("albert", embedding_size=10, num_hidden_layers=4)
    data = peer.data(model.config)
    want = peer.theirs(model, data)
    model.save_pretrained(tmp_path / "theirs")
    ours = Transformer.from_pretrained(tmp_path / "theirs", head="lm", block_groups=None)
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)
    ours.save_pretrained(tmp_path / "hf", format="hf")
    back = peer.reload(tmp_path / "hf", "AlbertForMaskedLM")
    assert back.config.num_hidden_groups == 4
    assert peer.difference(peer.theirs(back, data), want, data["padding_mask"]) < scaled(want)


def test_causal_bert(tmp_path):
    model = peer.make("bert", cls="BertLMHeadModel", is_decoder=True)
    data = peer.data(model.config)
    want = peer.theirs(model, data)
    model.save_pretrained(tmp_path / "theirs")
    ours = Transformer.from_pretrained(tmp_path / "theirs", head="lm")
    assert ours.config.mask == "causal"
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)
    ours.save_pretrained(tmp_path / "hf", format="hf")
    back = peer.reload(tmp_path / "hf", "BertLMHeadModel")
    assert back.config.is_decoder
    assert peer.difference(peer.theirs(back, data), want, data["padding_mask"]) < scaled(want)


@pytest.mark.parametrize("kind", peer.KINDS)
def test_untied(kind, tmp_path):
    """The output matrix and ``decoder.bias``, which transformers uses instead of ``predictions.bias``."""
    model = peer.make(kind, tie_word_embeddings=False)
    data = peer.data(model.config)
    want = peer.theirs(model, data)
    model.save_pretrained(tmp_path / "theirs")
    ours = Transformer.from_pretrained(tmp_path / "theirs", head="lm")
    assert not ours.config.tie_embeddings
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)
    ours.save_pretrained(tmp_path / "hf", format="hf")
    back = peer.reload(tmp_path / "hf", peer.KINDS[kind][2])
    assert peer.difference(peer.theirs(back, data), want, data["padding_mask"]) < scaled(want)


def old_names(state):
    return {n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
            for n, v in state.items()}  # fmt: skip


@pytest.mark.parametrize(
    "how", ["bin", "old_names", "legacy", "module", "sharded", "sharded_bin", "float16", "bfloat16"]
)
def test_ways_to_save(how, tmp_path):
    model = peer.make("bert")
    data = peer.data(model.config)
    if how in ("float16", "bfloat16"):
        model = model.to(getattr(torch, how)).float()
    want = peer.theirs(model, data)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    if how == "sharded":
        model.save_pretrained(tmp_path, max_shard_size="20KB")
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    elif how in ("float16", "bfloat16"):
        model.to(getattr(torch, how)).save_pretrained(tmp_path)
    else:
        model.config.save_pretrained(tmp_path)
        if how == "old_names":
            state = old_names(state)
        if how == "module":
            state = {f"module.{name}": value for name, value in state.items()}
        if how == "sharded_bin":
            names = sorted(state)
            parts = {f"pytorch_model-0000{i + 1}-of-00002.bin": names[i::2] for i in range(2)}
            for file, part in parts.items():
                torch.save({name: state[name] for name in part}, tmp_path / file)
            index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
            (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        else:
            torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=how != "legacy")
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)


def test_a_classifier_in_the_file(tmp_path):
    """Tensors of another head: an error that names them, or left with a warning."""
    model = peer.make("bert", cls="BertForTokenClassification", num_labels=4)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"unknown tensors classifier.*strict=False"):
        Transformer.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"classifier\.bias"):
        ours = Transformer.from_pretrained(tmp_path, strict=False)
    data = peer.data(model.config)
    want = {"sequence_output": peer.theirs(model, data)["sequence_output"]}
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)


def test_rotary_tables_of_a_file_are_checked(tmp_path):
    model = peer.make("roformer")
    model.save_pretrained(tmp_path / "a")
    Transformer.from_pretrained(tmp_path / "a")
    with torch.no_grad():
        model.roformer.encoder.embed_positions.weight[5, 2] += 0.01
    model.save_pretrained(tmp_path / "b")
    with pytest.raises(CheckpointError, match=r"embed_positions\.weight differs .*0\.01"):
        Transformer.from_pretrained(tmp_path / "b")


def test_an_output_matrix_that_is_no_copy(tmp_path):
    """A file whose configuration ties what the tensors do not: no silent choice."""
    model = peer.make("bert", tie_word_embeddings=False)
    model.config.tie_word_embeddings = True
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"decoder\.weight.*tie_embeddings=False"):
        Transformer.from_pretrained(tmp_path, head="lm")
    data = peer.data(model.config)
    ours = Transformer.from_pretrained(tmp_path, head="lm", tie_embeddings=False)
    want = peer.theirs(model, data)
    assert peer.difference(run(ours, data), want, data["padding_mask"]) < scaled(want)


@pytest.mark.slow
@pytest.mark.parametrize("kind", peer.KINDS)
def test_base_size(kind, tmp_path):
    """12 layers of 768 within 1e-4; a small vocabulary, which changes nothing but the time."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    model = peer.make(kind, vocab_size=2000, initializer_range=0.02, max_position_embeddings=520, **sizes)
    data = peer.data(model.config, length=128)
    want = peer.theirs(model, data)
    model.save_pretrained(tmp_path)
    ours = Transformer.from_pretrained(tmp_path, head="lm")
    worst = peer.difference(run(ours, data), want, data["padding_mask"])
    assert worst < 1e-4
