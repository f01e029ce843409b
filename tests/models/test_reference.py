"""Every configuration against one NumPy forward pass in float64, written from the configuration's description."""

import math

import numpy as np
import pytest
from keras import ops
from tests.models.tiny import CONFIGS, batch, build, numpy, run

from kexue.models.weights import named_weights

ACTIVATIONS = {
    "gelu": lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
    "gelu_new": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


class Reference:
    """One row of a batch through the model whose weights are ``w``, by our names."""

    def __init__(self, model):
        self.c, self.mask = model.config, model.mask
        self.w = {name: numpy(v.value).astype("float64") for name, v in named_weights(model).items()}

    def get(self, name, default=0.0):
        return self.w.get(name, default)

    def norm(self, name, x, condition):
        if self.c.norm == "layer":
            x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + self.c.norm_epsilon)
        gain, bias = self.get(f"{name}/gain", 1.0), self.get(f"{name}/bias")
        if condition is not None:
            if self.c.condition_hidden_size is not None:
                condition = ACTIVATIONS[self.c.condition_activation](condition @ self.w[f"{name}/condition_kernel"])
            gain = gain + condition @ self.w[f"{name}/gain_kernel"]
            bias = bias + condition @ self.w[f"{name}/bias_kernel"]
        return x * gain + bias

    def positions(self, length):
        table, c = self.w["position_embedding/table"][self.c.position_offset :], self.c
        if c.position == "learned":
            return table[:length]
        n, a = len(table), c.position_options["alpha"]
        u = (table - a * table[0]) / (1 - a)
        return np.array([a * u[t // n] + (1 - a) * u[t % n] for t in range(length)])

    def relative(self, i, j, size):
        """The vector of the distance from i to j."""
        options = self.c.position_options
        clip = options["clip"]
        row = min(max(j - i, -clip), clip) + clip
        if options.get("table") == "learned":
            return self.w["position_tables/position/table"][row]
        return np.array([(np.cos if n % 2 else np.sin)(row / 10000 ** ((n - n % 2) / size)) for n in range(size)])

    def rotate(self, x, options):
        d = x.shape[-1]
        turn = np.exp(1j * np.arange(len(x))[:, None, None] * options.get("base", 1e4) ** (-2 * np.arange(d // 2) / d))
        if options.get("layout") == "half":
            z = (x[..., : d // 2] + 1j * x[..., d // 2 :]) * turn
            return np.concatenate([z.real, z.imag], -1)
        z = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
        return np.stack([z.real, z.imag], -1).reshape(x.shape)

    def bias(self, length):
        """T5's, by its definition with logarithms."""
        options, table = self.c.position_options, self.w["position_tables/position/table"]
        both = options.get("bidirectional", self.c.mask != "causal")
        n = options["num_buckets"] // (2 if both else 1)

        def bucket(d):
            first, d = (n, abs(d)) if both and d > 0 else (0, max(-d, 0))
            if d < n // 2:
                return first + d
            ratio = math.log(d / (n // 2)) / math.log(options["max_distance"] / (n // 2))
            return first + min(n - 1, n // 2 + math.floor(ratio * (n - n // 2) + 1e-9))

        return np.array([[table[bucket(k - q)] for k in range(length)] for q in range(length)])

    def attention(self, name, x, visible, options):
        c, h, g = self.c, self.c.num_heads, self.c.key_heads or self.c.num_heads
        fused = x @ self.w[f"{name}/qkv_kernel"] + self.get(f"{name}/qkv_bias")
        q, k, v = np.split(fused, [h * c.key_dim, (h + g) * c.key_dim], axis=-1)
        q, k, v = q.reshape(len(x), h, -1), k.reshape(len(x), g, -1), v.reshape(len(x), g, -1)
        if c.query_key_norm:
            q, k = self.norm(f"{name}/query_norm", q, None), self.norm(f"{name}/key_norm", k, None)
        k, v = k[:, np.arange(h) * g // h], v[:, np.arange(h) * g // h]  # head i reads group i g / h
        bias = self.bias(len(x)) if c.position == "t5" else np.zeros((len(x), len(x), h))
        scale = c.attention_options.get("scale", 1 / math.sqrt(c.key_dim))
        if c.position == "rotary":
            q, k = self.rotate(q, options), self.rotate(k, options)
            v = self.rotate(v, options) if options.get("values") else v
        out = np.zeros((len(x), h, c.value_dim))
        for i, head in np.ndindex(len(x), h):
            seen = np.flatnonzero(visible[i])
            if len(seen):
                keys, values = k[seen, head], v[seen, head]
                if c.position == "shaw":
                    keys = keys + np.array([self.relative(i, j, c.key_dim) for j in seen])
                    if c.position_options.get("values", True):
                        values = values + np.array([self.relative(i, j, c.value_dim) for j in seen])
                e = np.exp((s := keys @ q[i, head] * scale + bias[i, seen, head]) - s.max())
                out[i, head] = e / e.sum() @ values
        return out.reshape(len(x), -1) @ self.w[f"{name}/output_kernel"] + self.get(f"{name}/output_bias")

    def feedforward(self, name, x):
        act = ACTIVATIONS[self.c.activation]
        up = x @ self.w[f"{name}/up_kernel"] + self.get(f"{name}/up_bias")
        if self.c.gated:
            size = self.c.intermediate_size
            up = act(up[:, :size]) * up[:, size:]
        else:
            up = act(up)
        return up @ self.w[f"{name}/down_kernel"] + self.get(f"{name}/down_bias")

    def __call__(self, row, visible):
        c, condition = self.c, row.get("condition")
        x = self.w["token_embedding/table"][row["token_ids"]]
        if c.num_segments:
            x = x + self.w["segment_embedding/table"][row["segment_ids"]]
        if c.position in ("learned", "hierarchical"):
            x = x + self.positions(len(x))
        x = self.norm("embedding_norm", x, condition) if c.embedding_norm else x
        if "embedding_projection/kernel" in self.w:
            x = x @ self.w["embedding_projection/kernel"] + self.get("embedding_projection/bias")
        for i in range(c.num_layers):
            options, seen = c.position_options, visible
            if c.local_window is not None and i % c.global_every:
                options = options if c.local_position_options is None else c.local_position_options
                place = np.arange(len(x))
                seen = seen & (abs(place[:, None] - place) <= c.local_window)
            block = i if c.block_groups is None else i // (c.num_layers // c.block_groups)
            for name, part in ((f"block_{block}_attention", lambda n, y, v=seen, o=options: self.attention(n, y, v, o)),
                               (f"block_{block}_feedforward", self.feedforward)):  # fmt: skip
                if c.norm_order == "pre":
                    first = name == "block_0_attention" and not c.first_norm
                    x = x + part(name, x if first else self.norm(f"{name}_norm", x, condition))
                elif c.norm_order == "feedforward" and name.endswith("attention"):
                    x = x + part(name, x)
                elif c.norm_order == "feedforward":
                    y = part(name, self.norm(f"{name}_input_norm", x, condition))
                    x = self.norm(f"{name}_norm", x + y, condition)
                else:
                    x = self.norm(f"{name}_norm", x + part(name, x), condition)
        x = self.norm("final_norm", x, condition) if c.norm_order == "pre" else x
        return {"sequence_output": x, "logits": self.logits(x, condition), "pooled_output": np.tanh(
            x[0] @ self.w["pooler/kernel"] + self.get("pooler/bias")),
            "discriminator_logits": self.discriminator(x)}  # fmt: skip

    def discriminator(self, x):
        head = "discriminator_head/"
        x = ACTIVATIONS[self.c.activation](x @ self.w[f"{head}dense_kernel"] + self.get(f"{head}dense_bias"))
        return (x @ self.w[f"{head}kernel"] + self.get(f"{head}bias"))[:, 0]

    def logits(self, x, condition):
        x = (
            x @ self.w["lm_head/dense_kernel"] + self.get("lm_head/dense_bias")
            if "lm_head/dense_kernel" in self.w
            else x
        )
        if self.c.lm_transform:
            x = ACTIVATIONS[self.c.lm_activation or self.c.activation](x)
            x = self.norm("lm_head/norm", x, condition)
        table = self.w["token_embedding/table"] if self.c.tie_embeddings else self.w["lm_head/output_table"]
        return self.c.lm_scale * x @ table.T + self.get("lm_head/bias")


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_numpy(name):
    """All outputs at real tokens, with random values in every weight."""
    model = build(name, ("lm", "pooler", "discriminator"))
    data = batch(model)
    facts = {n: data[n] for n in ("segment_ids", "order", "padding_mask") if n in data}
    visible = ops.convert_to_numpy(model.mask.dense(data["token_ids"].shape[1], **facts))[:, 0]
    reference, out = Reference(model), run(model, data)
    for i in (0, len(visible) - 1):
        want = reference({n: v[i] for n, v in data.items()}, visible[i])
        keep = data["padding_mask"][i]
        for output, value in want.items():
            where = slice(None) if output == "pooled_output" else keep
            scale = max(1.0, np.abs(value).max())
            np.testing.assert_allclose(out[output][i][where], value[where], atol=3e-5 * scale, err_msg=output)
