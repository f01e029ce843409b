"""Which masks linear attention can express, and the order of tokens that makes each a sum over what came before.

A mask that sees keys of the same document and of no higher rank is, with the tokens sorted by document and rank, a
running sum that starts anew at each document, and a second one from behind over the keys that tie with the query:

    causal: rank = index; reverse: rank = -index; Prefix: rank = block; Permuted: rank = order; all visible: one rank.
"""

from dataclasses import dataclass
from typing import Any

from keras import ops

from kexue.errors import ConfigError
from kexue.nn import masks

__all__ = ["Arrangement", "Plan", "arrange", "plan"]


@dataclass(frozen=True)
class Plan:
    """A mask as linear attention computes it.

    Attributes:
        kind: ``"all"``, ``"causal"``, ``"reverse"``, ``"prefix"`` or ``"permuted"``.
        documents: the rule itself asks for documents.
    """

    kind: str
    documents: bool = False


def plan(mask: masks.Mask) -> Plan:
    """How linear attention computes ``mask``.

    Raises:
        ConfigError: it cannot.
    """
    found = _plan(mask)
    if found is None:
        raise ConfigError(
            "linear attention can do Bidirectional(), Causal(), Causal(reverse=True), Prefix() and Permuted(), each "
            f"with or without SameDocument(). Received: mask={mask!r}. Use attention='softmax' for it."
        )
    return found


def _plan(mask: masks.Mask) -> Plan | None:
    lowering = mask.lowering()
    if lowering.everything:
        return Plan("all")
    if lowering.causal:
        return Plan("causal")
    if lowering.window == (0, None):
        return Plan("reverse")
    if isinstance(mask, masks.Prefix):
        return Plan("prefix")
    if isinstance(mask, masks.Permuted):
        return None if mask.strict else Plan("permuted")
    if isinstance(mask, masks.SameDocument):
        return Plan("all", documents=True)
    both = mask.conjuncts()
    if both is None:
        return None
    a, b = (_plan(m) for m in both)
    if a is None or b is None:
        return None
    documents = a.documents or b.documents
    if b.kind in (a.kind, "all"):
        return Plan(a.kind, documents)
    return Plan(b.kind, documents) if a.kind == "all" else None


@dataclass(frozen=True)
class Arrangement:
    """Tokens in the order of the sums.

    Attributes:
        places: ``(batch, length)`` index of the token at each place, or None where the order is that of the row.
        back: the inverse permutation.
        groups: ``(batch or 1, length)`` int32, at which the sum starts anew.
        ties: likewise for the sum from behind, or None where no tokens tie.
    """

    places: Any
    back: Any
    groups: Any
    ties: Any

    def sort(self, x: Any) -> Any:
        """``(batch, length, ...)`` in this order."""
        return x if self.places is None else _pick(x, self.places)

    def unsort(self, x: Any) -> Any:
        """The inverse of `sort`."""
        return x if self.back is None else _pick(x, self.back)


def _pick(x: Any, places: Any) -> Any:
    index = ops.reshape(places, (*ops.shape(places), *(1 for _ in x.shape[2:])))
    return ops.take_along_axis(x, index, axis=1)


def arrange(
    kind: Plan,
    mask: masks.Mask,
    batch: Any,
    length: Any,
    *,
    document_ids: Any = None,
    segment_ids: Any = None,
    order: Any = None,
) -> Arrangement:
    """The arrangement of a batch; see `Plan` and `kexue.nn.masks.Mask.dense` for the arguments.

    Raises:
        ConfigError: the mask needs a fact that the batch lacks.
    """
    if kind.documents and document_ids is None:
        raise ConfigError(f"the mask {mask!r} needs document_ids in the batch.")
    index = ops.expand_dims(ops.arange(length, dtype="int32"), 0)
    nobody = ops.zeros_like(index)
    ranks = nobody if kind.kind == "all" else index
    if kind.kind == "reverse":
        ranks = -index
    elif kind.kind in ("prefix", "permuted"):
        if kind.kind == "prefix" and segment_ids is None:
            segment_ids = ops.zeros((batch, length), dtype="int32")
        side, _ = masks.tokens(mask, length, segment_ids=segment_ids, document_ids=document_ids, order=order)
        ranks = side.block if kind.kind == "prefix" else side.rank
    tied = kind.kind in ("all", "prefix", "permuted")
    if document_ids is None and kind.kind in ("all", "causal", "prefix"):
        return Arrangement(None, None, nobody, ranks if tied else None)
    # Both sorts are stable: by rank, then by document.
    ranks = ops.broadcast_to(ranks, (batch, length))
    places = ops.argsort(ranks, axis=-1)
    groups = nobody
    if document_ids is not None:
        documents = ops.cast(document_ids, "int32")
        documents = ops.broadcast_to(documents, (batch, length))
        places = ops.take_along_axis(places, ops.argsort(ops.take_along_axis(documents, places, axis=1)), axis=1)
        groups = _runs(ops.take_along_axis(documents, places, axis=1))
    ties = None
    if tied:
        ties = _runs(ops.take_along_axis(ranks, places, axis=1))
        ties = ties if document_ids is None else _runs(ties, groups)
    return Arrangement(places, ops.argsort(places, axis=-1), groups, ties)


def _runs(*values: Any) -> Any:
    """Number of the run of equal neighbours that each place belongs to, from 0."""
    changed = 0
    for value in values:
        changed = changed + ops.cast(ops.not_equal(value[:, 1:], value[:, :-1]), "int32")
    first = ops.zeros_like(values[0][:, :1])
    return ops.concatenate([first, ops.cumsum(ops.cast(changed > 0, "int32"), axis=-1)], axis=-1)
