"""GAU-alpha in float64 NumPy, written from its articles; transformers has no such model."""

import numpy as np


def gau_alpha(w, ids, segments, keep, layers, size):
    """One sequence in float64 with the author's names, written from the articles (9052; spec 4, 6, 14)."""

    def rms(x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-7)

    def turn(z):
        angles = np.arange(len(z))[:, None] * 10000.0 ** (-2 * np.arange(size // 2) / size)
        pairs = (z[:, 0::2] + 1j * z[:, 1::2]) * np.exp(1j * angles)
        return np.stack([pairs.real, pairs.imag], -1).reshape(z.shape)

    table = w["bert/embeddings/word_embeddings"]
    x = rms(table[ids] + w["bert/embeddings/token_type_embeddings"][segments])
    for i in range(layers):
        b = f"GAU_alpha/encoder/layer_{i}/gau/"
        h = x @ w[f"{b}i_dense/kernel"]
        h = h / (1 + np.exp(-h))
        e = (h.shape[1] - size) // 2
        u, v, z = h[:, :e], h[:, e : 2 * e], h[:, 2 * e :]
        q, k = turn(z * w[f"{b}q_scaleoffset/gamma"]), turn(z * w[f"{b}k_scaleoffset/gamma"])
        a = q @ k.T / np.sqrt(size) * np.log(max(keep.sum(), 16)) / np.log(512)
        p = np.where(keep, np.exp(a - a.max()), 0.0)
        x = rms(x + (u * (p / p.sum(-1, keepdims=True) @ v)) @ w[f"{b}o_dense/kernel"])
    return {"sequence_output": x, "logits": x @ table.T}
