"""Feature maps of linear attention: ``similarity(q, k) = phi(q) . phi(k)``.

Features of large vectors overflow. What cancels in the ratio of linear attention is left out of them: one number of
each query, and of each key one number ``shift``, so that its true features are ``exp(shift) phi(k)``. Shifts of single
features would not cancel.

Source: kexue.fm articles 7546 and 8338; elu + 1: arXiv 2006.16236; double softmax ("efficient attention"): 1812.01243;
random features: Performer, 2009.14794.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = ["NAMES", "FeatureMap", "get", "to_config"]

LIMIT = 40.0
"""Keys of ``double_softmax`` saturate here: its sums over positions are kept one by one for each feature, where no
common factor could be taken out."""


class FeatureMap:
    """A pair of maps of queries and keys, both float32 ``(..., key_size) -> (..., features)``.

    Args:
        name: one of `NAMES`, for messages.
        query: map of queries.
        key: map of keys to ``(features, shift)``, shift without the last axis, or None for zeros.
        rotates_first: positions turn queries and keys before the map, which depends on their inner product alone;
            others turn the features, in the numerator only.
        per_feature: normalised over positions for each feature instead of over keys for each query.
    """

    def __init__(
        self,
        name: str,
        query: Callable[[Any], Any],
        key: Callable[[Any], tuple[Any, Any]],
        rotates_first: bool = False,
        per_feature: bool = False,
    ) -> None:
        self.name, self.query, self.key = name, query, key
        self.rotates_first, self.per_feature = rotates_first, per_feature


def _same(name: str, function: Callable[[Any], Any], **options: Any) -> FeatureMap:
    return FeatureMap(name, function, lambda k: (function(k), None), **options)


def _exp_query(q: Any) -> Any:
    return ops.exp(q - ops.stop_gradient(ops.max(q, axis=-1, keepdims=True)))


def _exp_key(k: Any) -> tuple[Any, Any]:
    top = ops.stop_gradient(ops.max(k, axis=-1, keepdims=True))
    return ops.exp(k - top), top[..., 0]


def _unit_and_one(x: Any) -> Any:
    unit = x * ops.rsqrt(ops.sum(x * x, axis=-1, keepdims=True) + 1e-12)
    return ops.concatenate([unit, ops.ones_like(x[..., :1])], axis=-1)


NAMES: dict[str, FeatureMap] = {
    "exp": FeatureMap("exp", _exp_query, _exp_key),
    "elu+1": _same("elu+1", lambda x: ops.elu(x) + 1.0),
    "relu": _same("relu", ops.relu),
    "double_softmax": FeatureMap(
        "double_softmax",
        lambda q: ops.softmax(q, axis=-1),
        lambda k: (ops.exp(ops.clip(k, -LIMIT, LIMIT)), None),
        per_feature=True,
    ),
    "cosine+1": _same("cosine+1", _unit_and_one, rotates_first=True),
}


def random_features(projection: Any) -> FeatureMap:
    """``phi(x) = exp(projection^T x - |x|^2 / 2)``, ``x`` scaled by ``key_size ** -0.25``: Performer.

    Args:
        projection: ``(key_size, features)``, columns of standard normal distribution.
    """
    matrix = ops.cast(projection, "float32")
    scale = projection.shape[0] ** -0.25

    def query(q: Any) -> Any:  # |q|^2 cancels
        return _exp_query(ops.matmul(q * scale, matrix))

    def key(k: Any) -> tuple[Any, Any]:
        k = k * scale
        features, top = _exp_key(ops.matmul(k, matrix) - 0.5 * ops.sum(k * k, axis=-1, keepdims=True))
        return features, top

    return FeatureMap("performer", query, key, rotates_first=True)


def get(feature: Any) -> FeatureMap | None:
    """The map called ``feature``, or of a callable; None for ``"performer"``, whose projection the layer owns.

    Raises:
        ConfigError: neither a name nor a callable.
    """
    if feature == "performer":
        return None
    if isinstance(feature, str) and feature in NAMES:
        return NAMES[feature]
    if callable(feature):
        return _same(getattr(feature, "__name__", "callable"), feature)
    raise ConfigError(
        f"feature must be 'performer', {', '.join(map(repr, NAMES))} or a function of a tensor (..., size) to "
        f"non-negative features. Received: feature={feature!r}"
    )


def to_config(feature: Any) -> Any:
    """A name as it is, a callable as Keras writes it."""
    return feature if isinstance(feature, str) else keras.saving.serialize_keras_object(feature)
