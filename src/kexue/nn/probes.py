"""Tensors inside a model, and gradients with respect to them, as outputs of one compiled function.

The keys are ``layer`` for the output of a layer and ``layer/name`` for a tensor that a layer offers by
`kexue.nn.taps.offer`; layers of a nested model have its name before theirs, ``encoder/block_0_attention/scores``.
"""

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kexue.errors import ConfigError
from kexue.nn import taps

__all__ = ["Probe", "probe"]

_wrapping = RLock()  # `call` of a layer is replaced while a probe looks


class Probe:
    """See `probe`, which makes it."""

    def __init__(
        self,
        model: keras.Model,
        patterns: str | Sequence[str],
        *,
        loss: Any = None,
        training: bool = False,
        missing_ok: bool = False,
    ) -> None:
        self.model, self.training, self.missing_ok = model, bool(training), missing_ok
        self.patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        if not self.patterns or not all(isinstance(pattern, str) and pattern for pattern in self.patterns):
            raise ConfigError(
                f"patterns must be a string or several, such as '*/probabilities'. Received: {patterns!r}"
            )
        self.loss = None if loss is None else keras.losses.get(loss)
        self._order: dict[str, None] = {}
        self._compiled: Any = None

    def __call__(self, x: Any, y: Any = None) -> dict[str, np.ndarray]:
        """The tensors for inputs ``x`` as NumPy arrays; with a loss the gradients, for which ``y`` are the targets."""
        x, y = (tree.map_structure(_tensor, part) for part in (x, y))
        if not self.model.built:
            self.model(x)  # a model of one's own has its layers only then
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()  # between the steps of fit the variables are empty on JAX
        if self._compiled is None:
            self._compiled = self._compile()
        with same_randomness():
            found = self._compiled(self._weights(), x, y)
        return {key: _array(found[key]) for key in self._order if key in found}

    def names(self, x: Any) -> list[str]:
        """Every key that inputs ``x`` could give, in the order of the calls."""
        collector, x = taps.Collector(()), tree.map_structure(_tensor, x)
        if not self.model.built:
            self.model(x)
        with same_randomness():
            self._forward(self._weights(), x, collector)
        return list(collector.seen)

    # ---------------------------------------------------------------- one pass

    def _weights(self) -> tuple[list[Any], list[Any]]:
        model = self.model
        return [v.value for v in model.trainable_variables], [v.value for v in model.non_trainable_variables]

    def _forward(self, weights: Any, x: Any, collector: taps.Collector) -> Any:
        """Outputs of the model; new states of batch norms and generators are thrown away."""
        layers = _layers(self.model)
        collector.names = {key: name for key, (name, _) in layers.items()}
        with _wrapped([layer for _, layer in layers.values()]), taps.gathering(collector):
            mode = {"training": self.training} if self.model._call_has_training_arg else {}
            outputs, _ = self.model.stateless_call(*weights, x, **mode)
        return outputs

    def _finish(self, collector: taps.Collector, found: dict[str, Any], more: Sequence[str] = ()) -> dict[str, Any]:
        if not self.missing_ok:
            for pattern in self.patterns:
                if not any(taps.matches(pattern, key) for key in found):
                    raise ConfigError(self._nothing(pattern, [*collector.seen, *more]))
        self._order = dict.fromkeys([*self._order, *found])
        return found

    def _nothing(self, pattern: str, keys: Sequence[str]) -> str:
        last = pattern.rsplit("/", 1)[-1]
        near = difflib.get_close_matches(pattern, keys, 5, 0.5) or [key for key in keys if last in key][:5]
        what = "has a gradient under" if self.loss is not None else "is called"
        return (
            f"nothing in {self.model.name!r} {what} {pattern!r}. "
            + (f"Near: {', '.join(near)}. " if near else f"There are: {', '.join(keys[:8])}, ... ")
            + "`Probe.names(batch)` lists all keys."
        )

    # ---------------------------------------------------------------- compiled

    def _compile(self) -> Callable[..., dict[str, Any]]:
        """``(weights, x, y) -> tensors`` on the backend in use."""
        backend = keras.backend.backend()
        values = self._values if self.loss is None else getattr(self, f"_gradients_{backend}")
        if backend == "jax":
            import jax

            run = jax.jit(values)

            def call(weights: Any, x: Any, y: Any) -> dict[str, Any]:
                try:
                    return run(weights, x, y)
                except jax.errors.UnexpectedTracerError as error:
                    raise ConfigError(_INSIDE) from error

            return call
        if backend == "tensorflow":
            import tensorflow as tf

            def body(x: Any, y: Any) -> dict[str, Any]:
                found = values(self._weights(), x, y)
                graph = tf.compat.v1.get_default_graph()
                if any(getattr(value, "graph", graph) is not graph for value in found.values()):
                    raise ConfigError(_INSIDE)
                return found

            function = tf.function(body, autograph=False)
            return lambda weights, x, y: function(x, y)
        if self.loss is None:
            import torch

            return torch.no_grad()(values)
        return values

    def _values(self, weights: Any, x: Any, y: Any) -> dict[str, Any]:
        collector = taps.Collector(self.patterns)
        self._forward(weights, x, collector)
        return self._finish(collector, collector.found)

    # ---------------------------------------------------------------- gradients

    def _total(self, outputs: Any, y: Any) -> Any:
        return ops.mean(self.loss(y, outputs))  # type: ignore[misc]

    def _chosen(self) -> dict[str, int]:
        """Key of each trainable weight that a pattern takes to its place among them."""
        names: dict[int, str] = {}
        for name, layer in _layers(self.model).values():  # outer layers first, inner ones overrule
            names |= {id(v): f"{name}/{v.name}" for v in layer.trainable_variables}
        self._all = [names.get(id(v), v.path) for v in self.model.trainable_variables]
        return {key: i for i, key in enumerate(self._all) if any(taps.matches(p, key) for p in self.patterns)}

    def _gradients_jax(self, weights: Any, x: Any, y: Any) -> dict[str, Any]:
        import jax

        (trainable, fixed), chosen = weights, self._chosen()

        def values(given: Any) -> dict[str, Any]:
            collector = taps.Collector(self.patterns, change=lambda key, value: value)
            self._forward((given, fixed), x, collector)
            return collector.found

        shapes = jax.eval_shape(values, trainable)
        # A derivative by the tensor itself is one by something added to it.
        added = {key: jax.numpy.zeros(s.shape, s.dtype) for key, s in shapes.items() if _is_float(s)}
        seen: list[taps.Collector] = []

        def total(added: Any, picked: Any) -> Any:
            given = list(trainable)
            for key, i in chosen.items():
                given[i] = picked[key]
            collector = taps.Collector(self.patterns, change=lambda k, value: value + added[k] if k in added else value)
            seen[:] = [collector]
            return self._total(self._forward((given, fixed), x, collector), y)

        by_tensor, by_weight = jax.grad(total, argnums=(0, 1))(added, {key: trainable[i] for key, i in chosen.items()})
        found = by_tensor | by_weight  # JAX sorts keys
        return self._finish(seen[0], {key: found[key] for key in [*shapes, *chosen] if key in found}, self._all)

    def _gradients_tensorflow(self, weights: Any, x: Any, y: Any) -> dict[str, Any]:
        import tensorflow as tf

        chosen = self._chosen()
        with tf.GradientTape() as tape:
            trainable = [tf.convert_to_tensor(v) for v in weights[0]]
            tape.watch(trainable)

            def watch(key: str, value: Any) -> Any:
                if _is_float(value):
                    value = tf.identity(value)
                    tape.watch(value)
                return value

            collector = taps.Collector(self.patterns, change=watch)
            total = self._total(self._forward((trainable, weights[1]), x, collector), y)
        sources = {k: v for k, v in collector.found.items() if _is_float(v)}
        sources |= {key: trainable[i] for key, i in chosen.items()}
        found = tape.gradient(total, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return self._finish(collector, {k: tf.convert_to_tensor(v) for k, v in found.items()}, self._all)

    def _gradients_torch(self, weights: Any, x: Any, y: Any) -> dict[str, Any]:
        import torch

        chosen = self._chosen()
        trainable = [v.detach().requires_grad_() for v in weights[0]]

        def follow(key: str, value: Any) -> Any:
            if _is_float(value) and not value.requires_grad:
                value = value.detach().requires_grad_()
            return value

        collector = taps.Collector(self.patterns, change=follow)
        with torch.enable_grad():
            total = self._total(self._forward((trainable, weights[1]), x, collector), y)
        sources = {k: v for k, v in collector.found.items() if _is_float(v)}
        sources |= {key: trainable[i] for key, i in chosen.items()}
        found = torch.autograd.grad(total, list(sources.values()), allow_unused=True) if sources else ()
        gradients = {
            key: torch.zeros_like(source) if gradient is None else gradient
            for (key, source), gradient in zip(sources.items(), found, strict=True)
        }
        return self._finish(collector, gradients, self._all)


def probe(
    model: keras.Model,
    patterns: str | Sequence[str],
    *,
    loss: Any = None,
    training: bool = False,
    missing_ok: bool = False,
) -> Probe:
    """A compiled function from a batch to tensors inside ``model``, or to gradients with respect to them.

    ``probe(model, "*/probabilities")(batch)`` is a dict of NumPy arrays by key, in the order of the calls. The second
    and later calls of a layer have ``#2``, ``#3`` ... after its name; an output that is a dict or tuple comes as
    ``layer/name`` or ``layer/0``. The model is left as it was: states of batch norms and random generators that a
    call changes are thrown away.

    Args:
        model: any Keras model, functional or not.
        patterns: globs (``*``, ``?``, ``[...]``) for keys: a layer's name for its output, ``layer/name`` for a tensor
            that it offers. Attention layers of kexue offer ``scores`` (before mask and softmax) and ``probabilities``,
            its norms ``normalized`` (before gain and bias), and a layer of one's own what it gives
            `kexue.nn.taps.offer`. Attention leaves the fused kernel only in layers that a pattern takes.
        loss: name, function ``(y_true, y_pred)`` or Keras loss; the mean of what it gives is differentiated, and the
            result holds gradients instead of values: with respect to tensors, and with respect to trainable weights
            whose key ``layer/weight`` a pattern takes.
        training: run the layers as in training.
        missing_ok: a pattern that takes nothing is no error.

    Returns:
        `Probe`: call it with inputs (and targets); ``names(batch)`` lists all keys.

    Raises:
        ConfigError: a pattern that takes nothing (raised by the call; the message names near keys), or a tensor that
            was offered inside a loop of the backend, from where it cannot get out.

    Source: kexue.fm article 6575.
    """
    return Probe(model, patterns, loss=loss, training=training, missing_ok=missing_ok)


_INSIDE = (
    "a tensor was offered inside a loop, branch or rematerialised part, from where it cannot become an output. "
    "Offer it outside, or take the output of the layer around it."
)


def _layers(model: Any) -> dict[int, tuple[str, Any]]:
    """``id`` of every layer inside ``model`` to its name in keys and itself, outer ones first."""
    found: dict[int, tuple[str, Any]] = {}
    level = [("", layer) for layer in _inside(model)]
    while level:
        deeper = []
        for prefix, layer in level:
            if id(layer) not in found and layer is not model:
                found[id(layer)] = (prefix + layer.name, layer)
                deeper += [(f"{prefix}{layer.name}/", inner) for inner in _inside(layer)]
        level = deeper
    return found


def _inside(layer: Any) -> list[Any]:
    return [inner for inner in layer._flatten_layers(include_self=False, recursive=False) if inner is not layer]


@contextmanager
def _wrapped(layers: Sequence[Any]) -> Iterator[None]:
    """Layers offer their outputs.

    Of an RNN's cell and of what else runs within a loop of the backend nothing can get out, so they do not.
    """
    with _wrapping:
        loops = (keras.layers.RNN, keras.layers.TimeDistributed)
        hidden = {id(inner) for outer in layers if isinstance(outer, loops) for inner in outer._flatten_layers(False)}
        changed = []
        try:
            for layer in layers:
                if id(layer) not in hidden and not isinstance(layer, keras.layers.InputLayer):
                    changed.append((layer, layer.__dict__.get("call")))
                    layer.__dict__["call"] = _offering(layer, layer.call)
            yield
        finally:
            for layer, own in changed:
                if own is None:
                    del layer.__dict__["call"]
                else:
                    layer.__dict__["call"] = own


def _offering(layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    def offering(*args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        leaves = [
            leaf if leaf is None else taps.offer(layer, "/".join(map(str, path)), leaf)
            for path, leaf in tree.flatten_with_path(outputs)
        ]
        return tree.pack_sequence_as(outputs, leaves)

    return offering


def _is_float(value: Any) -> bool:
    return "float" in keras.backend.standardize_dtype(value.dtype)


def _tensor(value: Any) -> Any:
    return None if value is None else ops.convert_to_tensor(value)


def _array(value: Any) -> np.ndarray:
    array = np.asarray(ops.convert_to_numpy(value))
    # NumPy has no bfloat16 of its own, and few functions of it know the one of JAX.
    return array.astype("float32") if "bfloat16" in str(array.dtype) else array


def same_randomness() -> Any:
    """PyTorch's dropout draws from a generator that no variable holds."""
    if keras.backend.backend() != "torch":
        return nullcontext()
    import torch

    return torch.random.fork_rng()
