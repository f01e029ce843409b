"""Models in NumPy, written from their papers, with weights by the names of official checkpoints."""

import math
from typing import Any

import numpy as np


def linear(x: Any, w: Any, name: str) -> Any:
    return x @ w[f"{name}/kernel"] + w[f"{name}/bias"]


def gelu(x: Any) -> Any:
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def nezha(w: Any, ids: Any, segments: Any, keep: Any, config: Any) -> dict[str, Any]:
    """One sequence through NEZHA with its weights by Google's names, distances by a double loop.

    Written from Wei et al., arXiv 1909.00204, and Shaw et al., arXiv 1803.02155.
    """
    layers, heads, clip = config.num_layers, config.num_heads, config.position_options["clip"]
    e, length = "bert/embeddings/", len(ids)

    def layer_norm(x: Any, w: Any, name: str) -> Any:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.norm_epsilon)
        return x * w[f"{name}/gamma"] + w[f"{name}/beta"]

    x = layer_norm(w[f"{e}word_embeddings"][ids] + w[f"{e}token_type_embeddings"][segments], w, f"{e}LayerNorm")
    size = x.shape[-1] // heads
    relative = np.zeros((length, length, size))
    for i, j, n in np.ndindex(length, length, size // 2):
        row = max(-clip, min(clip, j - i)) + clip
        relative[i, j, 2 * n] = math.sin(row / 10000 ** (2 * n / size))
        relative[i, j, 2 * n + 1] = math.cos(row / 10000 ** (2 * n / size))
    for layer in range(layers):
        b = f"bert/encoder/layer_{layer}/"
        q, k, v = (
            linear(x, w, f"{b}attention/self/{n}").reshape(length, heads, size) for n in ("query", "key", "value")
        )
        scores = np.einsum("ihd,ijhd->hij", q, k[None] + relative[:, :, None]) / math.sqrt(size)
        scores = np.where(keep[None, None], scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        out = np.einsum("hij,ijhd->ihd", p / p.sum(-1, keepdims=True), v[None] + relative[:, :, None])
        x = x + linear(out.reshape(length, -1), w, f"{b}attention/output/dense")
        x = layer_norm(x, w, f"{b}attention/output/LayerNorm")
        y = linear(gelu(linear(x, w, f"{b}intermediate/dense")), w, f"{b}output/dense")
        x = layer_norm(x + y, w, f"{b}output/LayerNorm")
    h = "cls/predictions/"
    y = layer_norm(gelu(linear(x, w, f"{h}transform/dense")), w, f"{h}transform/LayerNorm")
    pooled = np.tanh(linear(x[0], w, "bert/pooler/dense"))
    return {
        "sequence_output": x,
        "logits": y @ w[f"{e}word_embeddings"].T + w[f"{h}output_bias"],
        "pooled_output": pooled,
        "nsp_logits": pooled @ w["cls/seq_relationship/output_weights"].T + w["cls/seq_relationship/output_bias"],
    }
