"""Models with a decoder, beside what every model must do (test_suite.py): empty sources, saving, errors."""

import keras
import numpy as np
import pytest
from tests.models.tiny import DECODERS, ENCODER_DECODERS, T5, batch, build, config, numpy, run, shared

from kexue.errors import ConfigError
from kexue.models import Transformer, TransformerConfig
from kexue.models.weights import named_weights
from kexue.nn.masks import Causal

each = pytest.mark.parametrize("name", [*ENCODER_DECODERS, *DECODERS])


@each
def test_empty_sources(name):
    """A source of padding alone gives what attention without values gives, whatever it holds; other rows stay."""
    model = shared(name, "lm")
    data = batch(model)
    full = run(model, data)["logits"]
    data["padding_mask"][1] = False
    out = run(model, data)["logits"]
    np.testing.assert_array_equal(np.delete(out, 1, 0), np.delete(full, 1, 0))
    other = {**data, "token_ids": data["token_ids"].copy()}
    other["token_ids"][1] = 9
    np.testing.assert_array_equal(run(model, other)["logits"][1], out[1])
    del other["padding_mask"]  # now the source is read
    assert np.abs(run(model, other)["logits"] - out)[1].max() > 1e-3


@each
def test_the_encoder_alone(name, tmp_path):
    """A folder of both, opened as an encoder."""
    model = shared(name, "lm")
    data = batch(model)
    model.save_pretrained(tmp_path)
    alone = Transformer.from_pretrained(tmp_path, decoder_layers=None)
    source = {n: v for n, v in data.items() if not n.startswith("decoder")}
    want = run(model, data)["encoder_output"]
    np.testing.assert_allclose(run(alone, source)["sequence_output"], want, atol=1e-5)


def test_t5_written_out():
    """T5's decoder in NumPy for one pair, from its description (Raffel et al.)."""
    model = shared("t5", "lm")
    data = {n: v[:1] for n, v in batch(model).items()}
    out = run(model, data)
    w = {name: numpy(v.value).astype("float64") for name, v in named_weights(model).items()}
    c, heads, n = model.config, 3, 5

    def norm(x, name):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + c.norm_epsilon) * w[f"{name}/gain"]

    def attend(q, k, v, bias):
        q, k, v = (t.reshape(len(t), heads, -1) for t in (q, k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) + bias
        p = np.exp(scores - scores.max(-1, keepdims=True))
        return np.einsum("hqk,khd->qhd", p / p.sum(-1, keepdims=True), v).reshape(len(q), -1)

    x = w["token_embedding/table"][data["decoder_token_ids"][0]]
    source = out["encoder_output"][0].astype("float64")
    # 12 buckets, 6 of them exact, the others up to distance 9: 4 to the left of a query are all exact.
    table = w["decoder_position_tables/decoder_position/table"]
    bias = np.array([[table[max(i - j, 0)] for j in range(n)] for i in range(n)]).transpose(2, 0, 1)
    bias = np.where(np.arange(n)[None] <= np.arange(n)[:, None], bias, -np.inf)
    for b in range(3):
        name = f"decoder_block_{b}"
        qkv = norm(x, f"{name}_attention_norm") @ w[f"{name}_attention/qkv_kernel"]
        x = x + attend(*np.split(qkv, 3, -1), bias) @ w[f"{name}_attention/output_kernel"]
        q = norm(x, f"{name}_cross_attention_norm") @ w[f"{name}_cross_attention/query_kernel"]
        kv = source @ w[f"{name}_cross_attention/key_value_kernel"]
        x = x + attend(q, *np.split(kv, 2, -1), 0.0) @ w[f"{name}_cross_attention/output_kernel"]
        up = norm(x, f"{name}_feedforward_norm") @ w[f"{name}_feedforward/up_kernel"]
        x = x + np.maximum(up, 0) @ w[f"{name}_feedforward/down_kernel"]
    x = norm(x, "decoder_final_norm")
    np.testing.assert_allclose(out["sequence_output"][0], x, atol=3e-5)
    np.testing.assert_allclose(out["logits"][0], x @ w["token_embedding/table"].T / 12**0.5, atol=1e-4)


def test_buckets_belong_to_the_weights():
    """Another mask over the encoder does not change what its table means; the decoder's is causal."""
    model = build("t5", mask=Causal())
    tables = {layer.name: layer.positions for layer in model.layers if hasattr(layer, "positions")}
    assert tables["position_tables"].bidirectional
    assert not tables["decoder_position_tables"].bidirectional
    assert not build("causal_buckets").get_layer("position_tables").positions.bidirectional


@pytest.mark.parametrize("name", ENCODER_DECODERS)
def test_google_layout(name, tmp_path):
    """Names and shapes of Google's release, and back without a ``model_type``."""
    from kexue.checkpoints import open_checkpoint
    from kexue.models import families

    model = shared(name, "lm")
    model.save_pretrained(tmp_path, format="tf")
    with open_checkpoint(tmp_path) as checkpoint:
        names = set(checkpoint.names())
        assert families.detect({}, names).name == "t5"
        gated = name == "mt5"
        wanted = {"encoder/block_000/layer_000/SelfAttention/relative_attention_bias": (3, 12)}
        wanted |= {
            "shared/embedding": (31, 12),
            "decoder/block_001/layer_001/EncDecAttention/k": (12, 15 if gated else 12),
        }
        wanted |= {f"encoder/block_001/layer_001/DenseReluDense/{'wi_1' if gated else 'wi'}/kernel": (12, 20)}
        wanted |= {"decoder/block_001/layer_002/layer_norm/scale": (12,), "decoder/final_layer_norm/scale": (12,)}
        wanted |= {"decoder/logits/kernel": (12, 31)} if gated else {}
        for tensor, shape in wanted.items():
            assert tuple(checkpoint.shape(tensor)) == shape, tensor
    again = Transformer.from_pretrained(tmp_path, head="lm")
    data = batch(model)
    np.testing.assert_array_equal(run(again, data)["logits"], run(model, data)["logits"])


def test_training_step():
    """Gradients reach every weight of both stacks."""
    model = build("t5", "lm", dropout=0.0, attention_dropout=0.0)
    data = batch(model)
    before = {name: numpy(v.value).copy() for name, v in named_weights(model).items()}
    loss = dict.fromkeys(model.output_names) | {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    model.compile(keras.optimizers.SGD(1.0), loss=loss)
    model.fit(data, {"logits": np.ones((8, 5), "int32")}, batch_size=8, verbose=0)
    for name, v in named_weights(model).items():
        assert np.abs(numpy(v.value) - before[name]).max() > 0, name


def test_errors():
    model = shared("t5", "lm")
    data = batch(model)
    with pytest.raises(ConfigError, match="decoder_token_ids is missing"):
        model({"token_ids": data["token_ids"]})
    with pytest.raises(ConfigError, match="decoder_token_ids is missing"):
        model(data["token_ids"])
    with pytest.raises(ConfigError, match="as many rows"):
        model({"token_ids": data["token_ids"], "decoder_token_ids": data["decoder_token_ids"][:3]})
    with pytest.raises(ConfigError, match="decoder_padding_mask must have the shape of decoder_token_ids"):
        model({**data, "decoder_padding_mask": data["padding_mask"]})
    with pytest.raises(ConfigError, match="decoder_token_ids must lie between 0 and 30"):
        model({**data, "decoder_token_ids": data["decoder_token_ids"] + 31})
    with pytest.raises(ConfigError, match="decoder_token_ids"):
        shared("bert")({**batch(shared("bert")), "decoder_token_ids": data["decoder_token_ids"]})
    documents = {"document_ids": np.ones((8, 7), "int32")}
    with pytest.raises(ConfigError, match="both document_ids and decoder_document_ids"):
        model({**data, **documents})
    long = {"token_ids": data["token_ids"], "decoder_token_ids": np.ones((8, 25), "int32")}
    with pytest.raises(ConfigError, match="25 tokens"):
        shared("decoder_learned", "lm")(long)
    with pytest.raises(ConfigError, match="block_groups"):
        config("t5", block_groups=1)
    with pytest.raises(ConfigError, match="condition_per_token"):
        config("t5", condition_size=3, condition_per_token=True)
    with pytest.raises(ConfigError, match="residual_scores"):
        build("t5", attention_options={"residual_scores": True})
    with pytest.raises(ConfigError, match="decoder_layers=0"):
        TransformerConfig(**{"vocabulary_size": 3, "hidden_size": 4, "num_layers": 1, "num_heads": 1}, **T5,
                          intermediate_size=4, decoder_layers=0)  # fmt: skip
