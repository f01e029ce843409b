"""What attention looks at: its maps out of any model, their entropy, rank and sparsity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kexue.errors import ConfigError
from kexue.nn.probes import probe

__all__ = ["HeadSummary", "Sparsity", "attention_maps", "entropy", "rank", "sparsity", "summary", "table"]

KINDS = ("scores", "probabilities")


def attention_maps(model: keras.Model, batch: Mapping[str, Any], what: Sequence[str] = KINDS) -> dict[str, np.ndarray]:
    """Scores and probabilities of all attention layers, as outputs of the compiled model.

    Args:
        model: any Keras model with attention layers of kexue, such as a `kexue.models.Transformer`.
        batch: its inputs.
        what: ``"scores"``: scaled, before heads are mixed and keys hidden; ``"probabilities"``: what multiplies the
            values. Linear attention has no scores; its probabilities are written out here, and with rotary positions
            they can be negative.

    Returns:
        ``"layer name/probabilities"`` and so on to ``(batch, heads, length_q, length_k)`` float32; a layer that is
        used several times comes with ``#2``, ``#3`` after its name.

    Raises:
        ConfigError: an unknown name in ``what``, or no layer that offers any.
    """
    unknown = sorted(set(what) - set(KINDS))
    if unknown or not what:
        raise ConfigError(f"what must be of {', '.join(map(repr, KINDS))}. Received: {tuple(what)!r}")

    found = probe(model, [f"*/{kind}" for kind in what], missing_ok=True)(batch)
    if not found:
        raise ConfigError(f"no layer of {model.name!r} offers {' or '.join(what)}.")
    return {name: np.asarray(value, "float32") for name, value in found.items()}


def _row_entropy(probabilities: Any) -> np.ndarray:
    p = np.clip(np.asarray(probabilities, "float64"), 0.0, None)
    return -np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


def _mean_of_rows(values: np.ndarray, mask: Any) -> np.ndarray:
    """``(batch, heads, length_q)`` to ``(heads,)`` over the queries where ``mask`` (batch, length_q) is true."""
    weight = np.ones(values.shape[:1] + values.shape[2:]) if mask is None else np.asarray(mask, "float64")
    return np.einsum("bhq,bq->h", values, weight) / max(weight.sum(), 1.0)


def entropy(probabilities: Any, mask: Any = None) -> np.ndarray:
    """Mean over queries of ``-sum_j p_j log p_j``, in nats, for each head.

    Args:
        probabilities: ``(batch, heads, length_q, length_k)``, from `attention_maps`.
        mask: ``(batch, length_q)``, true at the queries that count; ``padding_mask``.

    Returns:
        ``(heads,)``, each between 0 and the log of the number of keys.
    """
    return _mean_of_rows(_row_entropy(probabilities), mask)


def rank(matrix: Any, tolerance: float = 1e-5) -> np.ndarray:
    """Numeric rank of each matrix: singular values above ``tolerance`` times the largest.

    Args:
        matrix: ``(..., rows, columns)``.
        tolerance: relative; about float32's own with 1e-5.
    """
    values = np.linalg.svd(np.asarray(matrix, "float64"), compute_uv=False)
    return np.sum(values > tolerance * values[..., :1], axis=-1)


@dataclass(frozen=True)
class Sparsity:
    """How few keys attention uses, for each head.

    Attributes:
        top: mean share of the probability in the largest entries of a row.
        effective: mean of ``exp(entropy)``, the number of keys that a uniform row of the same entropy has.
    """

    top: np.ndarray
    effective: np.ndarray


def sparsity(probabilities: Any, mask: Any = None, top: int = 4) -> Sparsity:
    """Share of the ``top`` largest entries and effective number of keys; arguments as in `entropy`."""
    p = np.asarray(probabilities, "float64")
    top = min(top, p.shape[-1])
    largest = np.partition(p, p.shape[-1] - top, axis=-1)[..., p.shape[-1] - top :].sum(-1)
    return Sparsity(_mean_of_rows(largest, mask), _mean_of_rows(np.exp(_row_entropy(p)), mask))


@dataclass(frozen=True)
class HeadSummary:
    """One head of one layer; ranks are means over the batch, over real tokens only.

    Attributes:
        layer: its name.
        head: its number.
        entropy: see `entropy`.
        effective: see `Sparsity`.
        top: likewise.
        score_rank: of the scores, at most ``key_size``; None where the layer has none.
        rank: of the probabilities; linear attention without a mask: at most the number of features.
    """

    layer: str
    head: int
    entropy: float
    effective: float
    top: float
    score_rank: float | None
    rank: float


def summary(model: keras.Model, batch: Mapping[str, Any], top: int = 4) -> list[HeadSummary]:
    """Figures of every head of every attention layer of ``model`` on ``batch``; print them with `table`."""
    maps = attention_maps(model, batch)
    mask = batch.get("padding_mask")

    def ranks(values: np.ndarray) -> np.ndarray:
        if mask is None:
            return rank(values).mean(0)
        real = [np.flatnonzero(row) for row in np.asarray(mask, bool)]
        square = values.shape[-1] == values.shape[-2]
        used = [v[:, r][:, :, r] if square else v for v, r in zip(values, real, strict=True) if len(r)]
        return np.mean([rank(v) for v in used], axis=0)

    result = []
    for name, p in maps.items():
        layer, kind = name.rsplit("/", 1)
        if kind != "probabilities":
            continue
        few, bits, wide = sparsity(p, mask, top), entropy(p, mask), ranks(p)
        scores = maps.get(f"{layer}/scores")
        score_ranks = None if scores is None else ranks(scores)
        for head in range(p.shape[1]):
            own = None
            if score_ranks is not None and len(score_ranks) == p.shape[1]:
                own = float(score_ranks[head])
            result.append(
                HeadSummary(
                    layer=layer,
                    head=head,
                    entropy=float(bits[head]),
                    effective=float(few.effective[head]),
                    top=float(few.top[head]),
                    score_rank=own,
                    rank=float(wide[head]),
                )
            )
    return result


def table(rows: Sequence[HeadSummary]) -> str:
    """Aligned text, a line a head."""
    header = ("layer", "head", "entropy", "keys used", "top share", "rank of scores", "rank")
    lines = [header]
    for row in rows:
        score_rank = "-" if row.score_rank is None else f"{row.score_rank:.1f}"
        figures = (f"{row.entropy:.3f}", f"{row.effective:.1f}", f"{row.top:.3f}", score_rank, f"{row.rank:.1f}")
        lines.append((row.layer, str(row.head), *figures))
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def aligned(line: tuple[str, ...]) -> str:
        name, *figures = line
        return "  ".join([name.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(figures, widths[1:], strict=True))])

    return "\n".join(map(aligned, lines))
