"""Linear-chain conditional random field: exact likelihood, marginals and decoding of tag sequences.

For emissions e (one score for each token and label), transitions T, start scores a and end scores z, a tag sequence
y_1..y_n has the score

    s(y) = a[y_1] + sum_t e_t[y_t] + sum_t T[y_{t-1}, y_t] + z[y_n],      p(y) = exp(s(y)) / sum_y' exp(s(y')).

Masked tokens are stepped over: the chain connects the tokens whose mask is true, so padding at the right and gaps
(sub-words that carry no tag) work alike. A row without any token has log-likelihood 0.

Recursions run in log space in float32, so that no score is lost however far apart the emissions are.

Source: kexue.fm articles 5542 (CRF in Keras), 7196 (learning rate of the CRF); Lafferty et al. 2001.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kexue.errors import ConfigError
from kexue.nn.losses import MASKED_SCORE, mean_over_real

__all__ = ["CRF", "CRFLoss", "tag_constraints", "viterbi_decode"]


def _steps(emissions: Any, mask: Any) -> tuple[Any, Any, Any]:
    """Time-major emissions ``(L, B, K)``, mask ``(L, B, 1)`` and "is the first token of its row" ``(L, B, 1)``."""
    first = ops.logical_and(mask, ops.equal(ops.cumsum(ops.cast(mask, "int32"), axis=1), 1))
    return (
        ops.transpose(emissions, (1, 0, 2)),
        ops.expand_dims(ops.transpose(mask), -1),
        ops.expand_dims(ops.transpose(first), -1),
    )


def _forward(emissions: Any, mask: Any, transitions: Any, start: Any, keep_all: bool) -> tuple[Any, Any]:
    """Forward scores after the last step ``(B, K)``, and after every step ``(L, B, K)`` if ``keep_all``."""

    def step(alpha: Any, now: Any) -> tuple[Any, Any]:
        e, live, first = now
        reached = ops.logsumexp(ops.expand_dims(alpha, -1) + transitions, axis=1)
        alpha = ops.where(live, ops.where(first, start, reached) + e, alpha)
        return alpha, (alpha if keep_all else None)

    return ops.scan(step, ops.zeros_like(emissions[:, 0]), _steps(emissions, mask))


@keras.saving.register_keras_serializable(package="kexue")
class CRF(keras.layers.Layer):
    """Linear-chain CRF. The layer's output are the emissions; its methods give likelihood, marginals and best tags.

    Train with `CRFLoss`, or with ``-crf.log_likelihood(...)`` in a loop of your own. The methods scan over time: on JAX
    call them in compiled code (each eager call compiles its scan anew), or `decode`, which is NumPy.

    Args:
        labels: number of labels K.
        project: put a Dense layer in front that makes the K emissions; otherwise the input must have K features.
        lr_multiplier: the chain's weights are stored divided by this number and multiplied by it in use. Their values
            are the same, but an optimiser step changes them more: ``k`` times with Adam, ``k ** 2`` times with plain
            gradient descent. A pretrained encoder wants a small learning rate, the transitions a large one.
        allowed: ``(K, K)`` booleans, true where label i may be followed by label j. Default: everywhere.
        allowed_start: ``(K,)`` booleans, labels that may come first.
        allowed_end: ``(K,)`` booleans, labels that may come last. See `tag_constraints`.
        constrain_training: also give forbidden paths no probability in the likelihood. Otherwise they are only banned
            when decoding. A gold sequence with a forbidden step then costs about 1e12: clean such data first.
        use_bias: of the Dense layer.
        kernel_initializer: of the Dense layer.
        chain_initializer: of transitions, start and end scores.

    Call arguments:
        x: ``(batch, length, D)``.

    Returns:
        Emissions, float32, ``(batch, length, labels)``.

    Raises:
        ConfigError: arguments that cannot work.

    Source: kexue.fm 5542 and 7196.
    """

    def __init__(
        self,
        labels: int,
        *,
        project: bool = True,
        lr_multiplier: float = 1.0,
        allowed: Any = None,
        allowed_start: Any = None,
        allowed_end: Any = None,
        constrain_training: bool = False,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        chain_initializer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if labels < 1 or lr_multiplier <= 0:
            raise ConfigError(
                f"CRF needs labels >= 1 and lr_multiplier > 0. Received: labels={labels}, lr_multiplier={lr_multiplier}"
            )
        self.labels = labels
        self.project = project
        self.lr_multiplier = float(lr_multiplier)
        self.allowed = _booleans("allowed", allowed, (labels, labels))
        self.allowed_start = _booleans("allowed_start", allowed_start, (labels,))
        self.allowed_end = _booleans("allowed_end", allowed_end, (labels,))
        self.constrain_training = constrain_training
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        if chain_initializer is None:
            chain_initializer = keras.initializers.RandomUniform(-0.1, 0.1)
        self.chain_initializer = keras.initializers.get(chain_initializer)
        self.projection = None
        if project:
            self.projection = keras.layers.Dense(
                labels,
                use_bias=use_bias,
                kernel_initializer=self.kernel_initializer,
                dtype=self.dtype_policy,
                name="projection",
            )

    def build(self, x_shape: Sequence[int | None]) -> None:
        """Create the weights."""
        if self.projection is not None:
            self.projection.build(x_shape)
        elif x_shape[-1] != self.labels:
            raise ConfigError(
                f"with project=False the input must have labels={self.labels} features. Received: shape {x_shape}"
            )
        k = self.labels
        for name, shape in (("transitions", (k, k)), ("start", (k,)), ("end", (k,))):
            weight = self.add_weight(
                name=name,
                shape=shape,
                initializer=lambda shape, dtype: self.chain_initializer(shape, dtype=dtype) / self.lr_multiplier,
                autocast=False,
            )
            setattr(self, f"{name}_weight", weight)
        self.built = True

    def call(self, x: Any) -> Any:
        """Emissions of every token."""
        return ops.cast(x if self.projection is None else self.projection(x), "float32")

    def potentials(self, constrained: bool = True) -> tuple[Any, Any, Any]:
        """Transitions ``(K, K)``, start ``(K,)`` and end ``(K,)`` scores in use.

        Args:
            constrained: put `kexue.nn.losses.MASKED_SCORE` at forbidden places.
        """
        values = []
        for weight, allowed in (
            (self.transitions_weight, self.allowed),
            (self.start_weight, self.allowed_start),
            (self.end_weight, self.allowed_end),
        ):
            value = ops.cast(weight, "float32") * self.lr_multiplier
            values.append(ops.where(allowed, value, MASKED_SCORE) if constrained and allowed is not None else value)
        return values[0], values[1], values[2]

    def score(self, emissions: Any, tags: Any, padding_mask: Any = None) -> Any:
        """Score s(y) of given tags, unnormalised.

        Args:
            emissions: ``(batch, length, labels)``.
            tags: ``(batch, length)`` integers; a negative tag marks a token to step over.
            padding_mask: ``(batch, length)``, true at tokens of the chain; default all whose tag is not negative.

        Returns:
            ``(batch,)`` float32.
        """
        emissions, mask, tags = _prepare(emissions, padding_mask, tags)
        return self._score(emissions, mask, tags)

    def _score(self, emissions: Any, mask: Any, tags: Any) -> Any:
        transitions, start, end = self.potentials(self.constrain_training)

        def step(previous: Any, now: Any) -> tuple[Any, Any]:
            tag, live = now
            return ops.where(live, tag, previous), previous

        last, previous = ops.scan(step, ops.zeros_like(tags[:, 0]), (ops.transpose(tags), ops.transpose(mask)))
        previous = ops.transpose(previous)  # tag of the nearest chain token to the left, (B, L)
        _, _, first = _steps(emissions, mask)
        first = ops.transpose(ops.squeeze(first, -1))
        own = ops.squeeze(ops.take_along_axis(emissions, ops.expand_dims(tags, -1), axis=-1), -1)
        moves = ops.take(ops.reshape(transitions, (-1,)), previous * self.labels + tags, axis=0)
        moves = ops.where(first, ops.take(start, tags, axis=0), moves)
        total = ops.sum(ops.where(mask, own + moves, 0.0), axis=1)
        return total + ops.where(ops.any(mask, axis=1), ops.take(end, last, axis=0), 0.0)

    def log_partition(self, emissions: Any, padding_mask: Any = None) -> Any:
        """log of the sum over all tag sequences of exp(s(y)), ``(batch,)``; 0 for a row without tokens."""
        emissions, mask, _ = _prepare(emissions, padding_mask)
        return self._log_partition(emissions, mask)

    def _log_partition(self, emissions: Any, mask: Any) -> Any:
        transitions, start, end = self.potentials(self.constrain_training)
        alpha, _ = _forward(emissions, mask, transitions, start, keep_all=False)
        return ops.where(ops.any(mask, axis=1), ops.logsumexp(alpha + end, axis=-1), 0.0)

    def log_likelihood(self, emissions: Any, tags: Any, padding_mask: Any = None) -> Any:
        """log p(tags), ``(batch,)``; arguments as `score`. Every tag of the chain must be below ``labels``."""
        emissions, mask, tags = _prepare(emissions, padding_mask, tags)
        return self._score(emissions, mask, tags) - self._log_partition(emissions, mask)

    def marginals(self, emissions: Any, padding_mask: Any = None) -> Any:
        """Probability of each label at each token given the whole sentence, by forward-backward.

        Constraints apply as in training (``constrain_training``).

        Returns:
            ``(batch, length, labels)`` float32; rows of chain tokens sum to 1, others are 0.
        """
        emissions, mask, _ = _prepare(emissions, padding_mask)
        transitions, start, end = self.potentials(self.constrain_training)
        _, alpha = _forward(emissions, mask, transitions, start, keep_all=True)
        seen = ops.flip(ops.cumsum(ops.flip(ops.cast(mask, "int32"), axis=1), axis=1), axis=1)
        last = ops.expand_dims(ops.transpose(ops.logical_and(mask, ops.equal(seen, 1))), -1)
        times, live, _ = _steps(emissions, mask)

        def step(after: Any, now: Any) -> tuple[Any, Any]:  # `after`: score of the rest, from the next token's label on
            e, live, last = now
            beta = ops.where(last, end, ops.logsumexp(transitions + ops.expand_dims(after, 1), axis=-1))
            return ops.where(live, e + beta, after), beta

        _, beta = ops.scan(step, ops.zeros_like(emissions[:, 0]), (times, live, last), reverse=True)
        return ops.transpose(ops.where(live, ops.softmax(alpha + beta, axis=-1), 0.0), (1, 0, 2))

    def viterbi(self, emissions: Any, padding_mask: Any = None) -> tuple[Any, Any]:
        """Best tag sequence under the constraints, on the device.

        Returns:
            ``(tags, score)``: int32 ``(batch, length)`` with -1 at tokens outside the chain, and float32 ``(batch,)``.
            Of equally good predecessors the smallest label is taken. If no legal sequence exists the score is about
            `MASKED_SCORE` or below, and the tags are illegal.
        """
        emissions, mask, _ = _prepare(emissions, padding_mask)
        transitions, start, end = self.potentials()

        def step(best: Any, now: Any) -> tuple[Any, Any]:
            e, live, first = now
            reached = ops.max(ops.expand_dims(best, -1) + transitions, axis=1)
            return ops.where(live, ops.where(first, start, reached) + e, best), best

        times, live, first = _steps(emissions, mask)
        best, before = ops.scan(step, ops.zeros_like(emissions[:, 0]), (times, live, first))
        best = best + end
        arrivals = ops.transpose(transitions)

        def back(tag: Any, now: Any) -> tuple[Any, Any]:  # the best predecessor is sought for the chosen tag alone
            before, live = now
            previous = _argmax(before + ops.take(arrivals, tag, axis=0))
            return ops.where(ops.squeeze(live, -1), previous, tag), tag

        _, tags = ops.scan(back, _argmax(best), (before, live), reverse=True)
        tags = ops.where(mask, ops.transpose(tags), -1)
        return tags, ops.where(ops.any(mask, axis=1), ops.max(best, axis=-1), 0.0)

    def decode(self, emissions: Any, padding_mask: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """The same as `viterbi` on the host, in NumPy: nothing to compile for a new length."""
        transitions, start, end = (ops.convert_to_numpy(value) for value in self.potentials())
        mask = None if padding_mask is None else ops.convert_to_numpy(padding_mask)
        return viterbi_decode(ops.convert_to_numpy(emissions), transitions, start, end, mask)

    def compute_output_shape(self, x_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """``(batch, length, labels)``."""
        return (*x_shape[:-1], self.labels)

    def compute_output_spec(self, x: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        """float32 whatever the dtype policy."""
        return keras.KerasTensor(self.compute_output_shape(x.shape), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "labels": self.labels,
            "project": self.project,
            "lr_multiplier": self.lr_multiplier,
            "allowed": _as_lists(self.allowed),
            "allowed_start": _as_lists(self.allowed_start),
            "allowed_end": _as_lists(self.allowed_end),
            "constrain_training": self.constrain_training,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "chain_initializer": keras.initializers.serialize(self.chain_initializer),
        }


def _argmax(x: Any) -> Any:
    return ops.cast(ops.argmax(x, axis=-1), "int32")


def _as_lists(value: np.ndarray | None) -> Any:
    return None if value is None else value.tolist()


def _booleans(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if value is None:
        return None
    array = np.asarray(value, dtype=bool)
    if array.shape != shape:
        raise ConfigError(f"{name} must have the shape {shape}. Received: shape {array.shape}")
    return array


def _prepare(emissions: Any, padding_mask: Any, tags: Any = None) -> tuple[Any, Any, Any]:
    """float32 emissions, boolean mask, int32 tags that are 0 under the mask."""
    emissions = ops.cast(emissions, "float32")
    mask = ops.ones(ops.shape(emissions)[:2], dtype="bool") if padding_mask is None else ops.cast(padding_mask, "bool")
    if tags is not None:
        tags = ops.cast(tags, "int32")
        mask = ops.logical_and(mask, ops.greater_equal(tags, 0))
        tags = ops.where(mask, tags, 0)
    return emissions, mask, tags


@keras.saving.register_keras_serializable(package="kexue")
class CRFLoss(keras.losses.Loss):
    """Keras loss ``-log p(tags)`` of a `CRF`: called as ``loss(tags, emissions)``, tags ``(batch, length)``.

    Negative tags (padding, sub-words) are stepped over; rows without tags are left out of the mean.

    The transitions live in the layer, so the loss must know it. A saved model stores only the layer's name: after
    loading, call ``loss.bind(model)`` or compile again before training on (prediction needs neither).

    Args:
        crf: the layer, or its name (then `bind` is needed).
        name: of the loss.
    """

    def __init__(self, crf: CRF | str, name: str = "crf_loss", **kwargs: Any) -> None:
        super().__init__(name=name, **{"dtype": "float32", **kwargs})
        self.crf = crf

    def bind(self, model: keras.Model) -> "CRFLoss":
        """Find the layer by its name in ``model``."""
        if isinstance(self.crf, str):
            self.crf = model.get_layer(self.crf)
        return self

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss of each example, ``(B,)``."""
        if isinstance(self.crf, str):
            raise ConfigError(
                f"CRFLoss knows only the name of its layer ({self.crf!r}); call loss.bind(model) or compile the model "
                "with CRFLoss(layer)."
            )
        real = ops.cast(ops.any(ops.greater_equal(y_true, 0), axis=1), "float32")
        return mean_over_real(-self.crf.log_likelihood(y_pred, y_true), real, self.reduction)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, the layer by its name."""
        return {**super().get_config(), "crf": self.crf if isinstance(self.crf, str) else self.crf.name}


def viterbi_decode(
    emissions: np.ndarray,
    transitions: np.ndarray,
    start: np.ndarray | None = None,
    end: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Best tag sequences of a batch, in NumPy.

    Args:
        emissions: ``(batch, length, labels)``.
        transitions: ``(labels, labels)``, from row to column.
        start: ``(labels,)``, default 0.
        end: ``(labels,)``, default 0.
        mask: ``(batch, length)``, true at the tokens of the chain; others are stepped over.

    Returns:
        ``(tags, scores)`` as `CRF.viterbi`.
    """
    emissions = np.asarray(emissions, dtype=np.float32)
    batch, length, labels = emissions.shape
    start = np.zeros(labels, np.float32) if start is None else np.asarray(start, np.float32)
    end = np.zeros(labels, np.float32) if end is None else np.asarray(end, np.float32)
    live = np.ones((batch, length), bool) if mask is None else np.asarray(mask).astype(bool)
    transitions = np.asarray(transitions, np.float32)
    started = np.zeros((batch, 1), bool)
    best = np.zeros((batch, labels), np.float32)
    before = np.empty((length, batch, labels), np.float32)
    for t in range(length):
        before[t] = best
        now = live[:, t, None]
        reached = np.where(started, (best[:, :, None] + transitions).max(1), start)
        best = np.where(now, reached + emissions[:, t], best)
        started |= now
    best = best + end
    tags = np.full((batch, length), -1, np.int32)
    tag, arrivals = best.argmax(-1), np.ascontiguousarray(transitions.T)
    for t in range(length - 1, -1, -1):
        now = live[:, t]
        tags[now, t] = tag[now]
        tag = np.where(now, (before[t] + arrivals[tag]).argmax(-1), tag)
    return tags, np.where(started[:, 0], best.max(-1), 0).astype(np.float32)


def tag_constraints(tags: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Legality of BIO or BMES (BIOES) tags, for `CRF`.

    A set with any ``E-`` or ``S-`` tag is read as BMES: entities must be closed. Otherwise it is BIO: ``I-x`` only
    after ``B-x`` or ``I-x``.

    Args:
        tags: label names in order: ``"O"`` or a prefix of ``B I M E S`` followed by ``-`` and the type.

    Returns:
        Booleans ``(allowed, allowed_start, allowed_end)`` of shapes ``(K, K)``, ``(K,)``, ``(K,)``.

    Raises:
        ConfigError: a tag that is neither.
    """
    parts = []
    for tag in tags:
        prefix, dash, kind = tag.partition("-")
        if tag != "O" and (prefix not in {"B", "I", "M", "E", "S"} or not dash or not kind):
            raise ConfigError(f"a tag must be 'O' or like 'B-PER' with a prefix of B, I, M, E, S. Received: {tag!r}")
        parts.append((prefix, kind))
    closed = any(prefix in {"E", "S"} for prefix, _ in parts)
    continues = np.array([prefix in {"I", "M", "E"} for prefix, _ in parts], dtype=bool)
    is_open = np.array([prefix in {"B", "I", "M"} for prefix, _ in parts], dtype=bool)
    same = np.array([[a == b for _, b in parts] for _, a in parts], dtype=bool).reshape(len(parts), len(parts))
    joined = is_open[:, None] & continues[None, :] & same
    separate = ~continues[None, :] & ~(is_open[:, None] & closed)
    return joined | separate, ~continues, ~is_open if closed else np.ones(len(parts), dtype=bool)
