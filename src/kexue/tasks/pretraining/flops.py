"""How many floating-point operations a training step takes, by the matrix products of its network."""

from collections.abc import Sequence

import keras

from kexue.models import Transformer, TransformerConfig

__all__ = ["products", "training_flops"]


def training_flops(transformer: Transformer, rows: int, length: int, targets: int) -> float:
    """Operations of one forward and backward pass, a multiplication and an addition counted as two.

        3 (2 P n + 4 sum_blocks n L h (d_k + d_v) / 2 + 2 n_t (D V + transform))

    with n = rows * length tokens, P the entries of the matrices that every token meets (blocks, projection of the
    embeddings, ELECTRA's discriminator head) and n_t = rows * targets. Look-ups, norms,
    softmax and the optimizer are not counted, and neither is what recomputation adds; masked scores count as if they
    were used. It is the usual count behind "model FLOP/s" (PaLM, arXiv 2204.02311, appendix B).

    Args:
        transformer: with its heads.
        rows: of a batch.
        length: of a row.
        targets: of a row.
    """
    return products(transformer.layers, transformer.config, rows, length, targets)


def products(
    layers: Sequence[keras.layers.Layer], config: TransformerConfig, rows: int, length: int, targets: int
) -> float:
    """`training_flops` of the layers of a Transformer with the configuration ``config``."""
    blocks = others = head = 0
    for layer in layers:
        size = sum(int(w.shape[0]) * int(w.shape[1]) for w in layer.weights if len(w.shape) == 2)
        if layer.name.startswith("block_"):
            blocks += size
        elif layer.name in ("embedding_projection", "discriminator_head"):  # at every token
            others += size
        elif layer.name == "lm_head":
            head += size + (config.vocabulary_size * config.embedding_dim if config.tie_embeddings else 0)
    blocks = blocks * config.num_layers // config.num_blocks  # shared blocks are used several times
    tokens = rows * length
    scores = config.num_layers * config.num_heads * (config.key_dim + config.value_dim)
    forward = 2.0 * (blocks + others) * tokens + 2.0 * tokens * length * scores + 2.0 * rows * targets * head
    return 3.0 * forward
