"""Attention masks as rules: which query may see which key.

The same weights are an encoder, a language model, a sequence-to-sequence model or a permutation language model
depending only on the mask (kexue.fm article 6933; UniLM, arXiv 1905.03197; XLNet, arXiv 1906.08237). A mask here is
a pure elementwise rule over facts about tokens (`Tokens`), so that one definition serves for

- the dense boolean matrix, True = may see (`Mask.dense`),
- the cheapest form a fused kernel takes, such as a causal flag (`Mask.lowering`),
- a function of two indices, as PyTorch's FlexAttention wants it (``kexue.nn.attention.flex``),
- a picture (`kexue.nn.mask_picture.show`).

Rules combine with ``&``, ``|`` and ``~``. Padding and the borders of packed documents are no business of a rule:
attention ANDs them in always.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = [
    "Bidirectional",
    "Causal",
    "Lowering",
    "Mask",
    "Permuted",
    "Prefix",
    "SameDocument",
    "Tokens",
    "Window",
    "get",
]


@dataclass(frozen=True)
class Tokens:
    """Facts about the tokens of one side (queries or keys), each broadcastable to ``(batch, length)``.

    Attributes:
        index: place in the row, int32; a cached decoder's queries start at its offset.
        rank: generation order, int32 (`Permuted`).
        block: number of target tokens up to and including this one, int32 (`Prefix`).
        document: id of the packed document, int32 (`SameDocument`).
    """

    index: Any
    rank: Any = None
    block: Any = None
    document: Any = None

    FIELDS: ClassVar[tuple[str, ...]] = ("index", "rank", "block", "document")


@dataclass(frozen=True)
class Lowering:
    """What a fused kernel has to be told about a rule.

    Attributes:
        everything: all pairs are visible; nothing to tell.
        causal: exactly "key index <= query index".
        window: ``(left, right)`` distances that exactly describe the rule, or None.
        dense: the rule needs a dense boolean mask.
    """

    everything: bool = False
    causal: bool = False
    window: tuple[int | None, int | None] | None = None
    dense: bool = False


class Mask:
    """Base of all rules. Subclasses define `rule` and list the facts they need in ``needs``."""

    needs: frozenset[str] = frozenset({"index"})

    def rule(self, q: Tokens, k: Tokens) -> Any:
        """Elementwise: may query ``q`` see key ``k``? Returns a boolean of the broadcast shape."""
        raise NotImplementedError

    def lowering(self) -> Lowering:
        """The cheapest exact description for a fused kernel."""
        return Lowering(dense=True)

    def conjuncts(self) -> "tuple[Mask, Mask] | None":
        """The two rules that this one is the ``&`` of, or None."""
        return None

    def dense(
        self,
        length: int | None = None,
        *,
        query_length: int | None = None,
        query_offset: Any = 0,
        segment_ids: Any = None,
        document_ids: Any = None,
        order: Any = None,
        padding_mask: Any = None,
    ) -> Any:
        """The boolean matrix ``(batch or 1, 1, query_length, length)``, True where the query may see the key.

        Args:
            length: number of keys; taken from the other arguments when left out.
            query_length: number of queries, ``length`` by default.
            query_offset: index of the first query among the keys (cached decoding).
            segment_ids: ``(batch, length)``, 0 for source and 1 for target tokens; for `Prefix`.
            document_ids: ``(batch, length)``; when given, tokens see their own document only.
            order: ``(batch, length)`` or ``(length,)`` generation ranks; for `Permuted` without an order of its own.
            padding_mask: ``(batch, length)``, true at real tokens; padding keys are never seen.

        Raises:
            ConfigError: a fact that the rule needs is missing, or no length can be told.
        """
        for given in (padding_mask, document_ids, segment_ids):
            length = ops.shape(given)[-1] if length is None and given is not None else length
        if length is None:
            raise ConfigError("give length, or one of padding_mask, document_ids and segment_ids to take it from.")
        # Also where the rule speaks of documents itself: "SameDocument() | Causal()" must not see another document.
        whole = self if document_ids is None else self & SameDocument()
        q, k = tokens(
            whole,
            length,
            query_length=query_length,
            query_offset=query_offset,
            segment_ids=segment_ids,
            document_ids=document_ids,
            order=order,
        )
        visible = whole.rule(_expand(q, -1), _expand(k, -2))
        if padding_mask is not None:
            visible = visible & ops.cast(padding_mask, "bool")[:, None, :]
        return visible[:, None]

    def get_config(self) -> dict[str, Any]:
        """Arguments that rebuild the rule."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Mask":
        return cls(**config)

    def __and__(self, other: "Mask") -> "Mask":
        return _Combined("and", self, other)

    def __or__(self, other: "Mask") -> "Mask":
        return _Combined("or", self, other)

    def __invert__(self) -> "Mask":
        return _Inverted(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self).__name__, repr(self.get_config())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.get_config().items())})"


@keras.saving.register_keras_serializable(package="kexue")
class Bidirectional(Mask):
    """Every token sees every token: an encoder."""

    needs = frozenset()

    def rule(self, q: Tokens, k: Tokens) -> Any:
        return (q.index >= 0) & (k.index >= 0)

    def lowering(self) -> Lowering:
        return Lowering(everything=True)


@keras.saving.register_keras_serializable(package="kexue")
class Causal(Mask):
    """A token sees itself and what stands before it; with ``reverse``, itself and what stands after it."""

    def __init__(self, reverse: bool = False) -> None:
        self.reverse = reverse

    def rule(self, q: Tokens, k: Tokens) -> Any:
        return k.index >= q.index if self.reverse else k.index <= q.index

    def lowering(self) -> Lowering:
        return Lowering(window=(0, None)) if self.reverse else Lowering(causal=True, window=(None, 0))

    def get_config(self) -> dict[str, Any]:
        return {"reverse": self.reverse} if self.reverse else {}


@keras.saving.register_keras_serializable(package="kexue")
class Prefix(Mask):
    """UniLM: segment 0 (the source) is seen by all, segment 1 (the target) causally.

    With c the running count of target tokens, query q sees key k where c[k] <= c[q]; the source never sees the
    target, and the first target token sees itself.
    """

    needs = frozenset({"block"})

    def rule(self, q: Tokens, k: Tokens) -> Any:
        return k.block <= q.block


@keras.saving.register_keras_serializable(package="kexue")
class Permuted(Mask):
    """XLNet's factorisation in an arbitrary order: query q sees key k where rank[k] <= rank[q].

    A token that is already input and predicts the next one in the order sees itself; ``strict`` removes that (the
    query stream of XLNet, which must not see the token it predicts).

    Args:
        order: rank of each position in the order of generation, 0 first. When None, the batch brings ``order``.
        strict: rank[k] < rank[q] instead.
    """

    needs = frozenset({"rank"})

    def __init__(self, order: Any = None, strict: bool = False) -> None:
        self.order = None if order is None else tuple(int(i) for i in order)
        if self.order is not None and sorted(self.order) != list(range(len(self.order))):
            raise ConfigError(
                f"order must hold each rank from 0 to length - 1 exactly once. Received: order={list(self.order)}"
            )
        self.strict = strict

    def rule(self, q: Tokens, k: Tokens) -> Any:
        return k.rank < q.rank if self.strict else k.rank <= q.rank

    def get_config(self) -> dict[str, Any]:
        return {"order": None if self.order is None else list(self.order), "strict": self.strict}


@keras.saving.register_keras_serializable(package="kexue")
class Window(Mask):
    """A token sees ``left`` tokens before it and ``right`` after it, and itself; None means no limit."""

    def __init__(self, left: int | None, right: int | None) -> None:
        for name, value in (("left", left), ("right", right)):
            if value is not None and (not isinstance(value, int) or value < 0):
                raise ConfigError(f"{name} must be None or an integer of at least 0. Received: {name}={value!r}")
        self.left, self.right = left, right

    def rule(self, q: Tokens, k: Tokens) -> Any:
        visible = (q.index >= 0) & (k.index >= 0)
        if self.left is not None:
            visible = visible & (q.index - k.index <= self.left)
        if self.right is not None:
            visible = visible & (k.index - q.index <= self.right)
        return visible

    def lowering(self) -> Lowering:
        if self.left is None and self.right is None:
            return Lowering(everything=True)
        return Lowering(causal=self.left is None and self.right == 0, window=(self.left, self.right))

    def get_config(self) -> dict[str, Any]:
        return {"left": self.left, "right": self.right}


@keras.saving.register_keras_serializable(package="kexue")
class SameDocument(Mask):
    """Tokens of one packed document see each other. ANDed in by itself whenever a batch brings ``document_ids``."""

    needs = frozenset({"document"})

    def rule(self, q: Tokens, k: Tokens) -> Any:
        return q.document == k.document


@keras.saving.register_keras_serializable(package="kexue")
class _Combined(Mask):
    def __init__(self, kind: str, left: Mask, right: Mask) -> None:
        if not isinstance(left, Mask) or not isinstance(right, Mask):
            raise ConfigError(f"masks combine with masks only. Received: {left!r} {kind} {right!r}")
        self.kind, self.left, self.right = kind, left, right
        self.needs = left.needs | right.needs

    def rule(self, q: Tokens, k: Tokens) -> Any:
        a, b = self.left.rule(q, k), self.right.rule(q, k)
        return a & b if self.kind == "and" else a | b

    def lowering(self) -> Lowering:
        a, b = self.left.lowering(), self.right.lowering()
        if a.everything or b.everything:
            return (b if a.everything else a) if self.kind == "and" else Lowering(everything=True)
        if self.kind == "and" and a.window and b.window:
            left, right = (_nearest(x, y) for x, y in zip(a.window, b.window, strict=True))
            return Window(left, right).lowering()
        return Lowering(dense=True)

    def conjuncts(self) -> tuple[Mask, Mask] | None:
        return (self.left, self.right) if self.kind == "and" else None

    def get_config(self) -> dict[str, Any]:
        return {"kind": self.kind, "left": to_config(self.left), "right": to_config(self.right)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Mask:
        return cls(config["kind"], get(config["left"]), get(config["right"]))

    def __repr__(self) -> str:
        return f"({self.left!r} {'&' if self.kind == 'and' else '|'} {self.right!r})"


@keras.saving.register_keras_serializable(package="kexue")
class _Inverted(Mask):
    def __init__(self, inner: Mask) -> None:
        self.inner = inner
        self.needs = inner.needs

    def rule(self, q: Tokens, k: Tokens) -> Any:
        return ~self.inner.rule(q, k)

    def get_config(self) -> dict[str, Any]:
        return {"inner": to_config(self.inner)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Mask:
        return cls(get(config["inner"]))

    def __repr__(self) -> str:
        return f"~{self.inner!r}"


def _nearest(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else min(a, b)


_NAMED: dict[str, type[Mask]] = {
    "bidirectional": Bidirectional,
    "causal": Causal,
    "prefix": Prefix,
    "permuted": Permuted,
    "window": Window,
    "same_document": SameDocument,
    "and_or": _Combined,
    "not": _Inverted,
}


def get(mask: "Mask | str | Mapping[str, Any] | None") -> Mask:
    """A mask from an object, a name (``"causal"``), its configuration, or None (bidirectional)."""
    if mask is None:
        return Bidirectional()
    if isinstance(mask, Mask):
        return mask
    name, arguments = (mask.get("name"), mask.get("config", {})) if isinstance(mask, Mapping) else (mask, {})
    if not isinstance(name, str) or name not in _NAMED:
        raise ConfigError(f"mask must be a Mask or one of {sorted(_NAMED)}. Received: {mask!r}")
    try:
        return _NAMED[name].from_config(arguments)
    except (TypeError, KeyError) as error:  # wrong, missing or no arguments
        raise ConfigError(f"the mask {name!r} cannot be built from {arguments!r}: {error}") from None


def to_config(mask: Mask) -> dict[str, Any]:
    """The inverse of `get`: plain data that JSON can hold."""
    for name, kind in _NAMED.items():
        if type(mask) is kind:
            return {"name": name, "config": mask.get_config()}
    raise ConfigError(f"a mask of your own cannot be written to a configuration. Received: {mask!r}")


def tokens(
    mask: Mask,
    length: Any,
    *,
    query_length: Any = None,
    query_offset: Any = 0,
    segment_ids: Any = None,
    document_ids: Any = None,
    order: Any = None,
) -> tuple[Tokens, Tokens]:
    """Facts about queries ``(b, length_q)`` and keys ``(b, length)`` that ``mask`` needs; see `Mask.dense`."""
    query_length = length if query_length is None else query_length
    key: dict[str, Any] = {"index": ops.expand_dims(ops.arange(length, dtype="int32"), 0)}
    if "block" in mask.needs:
        if segment_ids is None:
            raise ConfigError(f"the mask {mask!r} needs segment_ids (0 = source, 1 = target) in the batch.")
        key["block"] = ops.cumsum(ops.cast(segment_ids, "int32"), axis=-1)
    if "document" in mask.needs:
        if document_ids is None:
            raise ConfigError(f"the mask {mask!r} needs document_ids in the batch.")
        key["document"] = ops.cast(document_ids, "int32")
    if "rank" in mask.needs:
        own = {m.order for m in _leaves(mask) if isinstance(m, Permuted)} - {None}
        if len(own) > 1 or (own and any(isinstance(m, Permuted) and m.order is None for m in _leaves(mask))):
            raise ConfigError(f"one mask can hold one order of generation only. Received: {mask!r}")
        rank = own.pop() if own else order
        if rank is None:
            raise ConfigError(f"the mask {mask!r} needs its order: Permuted(order=...) or `order` in the batch.")
        rank = ops.convert_to_tensor(rank, dtype="int32")
        rank = ops.expand_dims(rank, 0) if len(rank.shape) == 1 else rank
        if isinstance(length, int) and rank.shape[1] not in (None, length):
            raise ConfigError(f"the order has {rank.shape[1]} ranks, but the sequence has length {length}.")
        key["rank"] = rank
    if isinstance(query_offset, int) and query_offset == 0 and query_length is length:
        return Tokens(**key), Tokens(**key)
    places = ops.arange(query_length, dtype="int32") + query_offset
    query = {name: ops.take(value, places, axis=1) for name, value in key.items() if name != "index"}
    return Tokens(index=ops.expand_dims(places, 0), **query), Tokens(**key)


def _leaves(mask: Mask) -> list[Mask]:
    if isinstance(mask, _Combined):
        return _leaves(mask.left) + _leaves(mask.right)
    return _leaves(mask.inner) if isinstance(mask, _Inverted) else [mask]


def _expand(side: Tokens, axis: int) -> Tokens:
    values = ((name, getattr(side, name)) for name in Tokens.FIELDS)
    return Tokens(**{name: None if value is None else ops.expand_dims(value, axis) for name, value in values})
