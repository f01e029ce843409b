"""What every layer of `kexue.nn` must do, in one function: `check_layer`."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()


def as_numpy(x: Any) -> Any:
    """Outputs of any structure as NumPy arrays."""
    return keras.tree.map_structure(lambda t: np.asarray(ops.convert_to_numpy(t)), x)


def assert_close(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-5) -> None:
    """Equal structures of close arrays."""
    keras.tree.map_structure(lambda s, t: np.testing.assert_allclose(s, t, rtol=rtol, atol=atol), a, b)


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` compiled by the backend (as it is on PyTorch, whose compiler is not worth the wait)."""
    if BACKEND == "jax":
        import jax

        # A new function each time, so that weights changed since an earlier call are seen.
        return jax.jit(lambda *values: function(*values))  # noqa: PLW0108
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def gradient(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    """Gradient of a scalar function of one array, by the backend's own differentiation."""
    x = np.asarray(x, "float32")
    if BACKEND == "jax":
        import jax

        return np.asarray(jax.jit(jax.grad(function))(x))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        v = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(v)
            y = function(v)
        return np.asarray(tape.gradient(y, v, unconnected_gradients="zero"))
    import torch

    t = torch.tensor(x, requires_grad=True)
    function(t).backward()
    return t.grad.numpy()


def check_layer(
    make: Callable[..., keras.layers.Layer],
    inputs: dict[str, np.ndarray],
    tmp_path: Any,
    *,
    output_dtype: str | None = None,
    policies: tuple[str, ...] = ("mixed_float16", "mixed_bfloat16"),
    policy_tolerance: float = 0.1,
    length_axis: int | None = 1,
) -> keras.layers.Layer:
    """Check a layer whose call takes ``inputs`` by keyword (the first one positionally).

    Checks: the declared output shape and dtype hold; ``get_config`` round trip; a functional model around it with open
    batch and length axes survives ``.keras`` saving and ``clone_model`` with equal outputs; a shorter input works with
    the same weights; compiled equals eager; under each of the dtype ``policies`` the outputs have the promised dtype,
    no NaN, and are close to float32 (relative to the largest output that is not a mask fill).

    Args:
        make: the layer's constructor with its arguments bound, taking ``name`` and ``dtype``.
        inputs: name of the call argument to array; floats are features, integers stay.
        tmp_path: folder for files.
        output_dtype: dtype of the outputs whatever the policy; default the compute dtype.
        policies: dtype policies to try.
        policy_tolerance: allowed error under a policy, relative to the largest output.
        length_axis: axis that may vary in every input, or None.

    Returns:
        The built layer.
    """
    names = list(inputs)

    def call(layer: Any, values: dict[str, Any]) -> Any:
        return layer(values[names[0]], **{name: values[name] for name in names[1:]})

    layer = make(name="tested")
    expected = as_numpy(call(layer, inputs))
    assert all(np.isfinite(t).all() for t in keras.tree.flatten(expected))

    # The configuration holds every argument, and rebuilds an equal layer.
    config = layer.get_config()
    again = type(layer).from_config(config)
    assert again.get_config() == config
    call(again, inputs)
    assert [w.shape for w in again.weights] == [w.shape for w in layer.weights]
    again.set_weights(layer.get_weights())
    assert_close(as_numpy(call(again, inputs)), expected, 1e-6, 1e-6)

    # Functional model with open axes; declared shapes hold; save, load and clone.
    def open_shape(x: np.ndarray) -> tuple[int | None, ...]:
        return tuple(None if i == length_axis else n for i, n in enumerate(x.shape))[1:]

    symbols = {name: keras.Input(open_shape(x), dtype=str(x.dtype), name=name) for name, x in inputs.items()}
    output = call(layer, symbols)
    keras.tree.map_structure(_check_spec, output, expected)
    model = keras.Model(symbols, output)
    assert_close(as_numpy(model(inputs)), expected)
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert_close(as_numpy(loaded(inputs)), expected, 1e-6, 1e-6)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert_close(as_numpy(clone(inputs)), expected, 1e-6, 1e-6)

    # Another length, and compiled.
    if length_axis is not None:
        short = {name: np.take(x, range(x.shape[length_axis] - 1), axis=length_axis) for name, x in inputs.items()}
        assert_close(as_numpy(model(short)), as_numpy(call(layer, short)))
    compiled = jit(lambda *values: call(layer, dict(zip(names, values, strict=True))))
    assert_close(as_numpy(compiled(*inputs.values())), expected)

    # Other dtype policies.
    for policy in policies:
        low = make(name="low", dtype=policy)
        call(low, inputs)
        low.set_weights(layer.get_weights())
        raw = call(low, inputs)
        want = output_dtype or keras.DTypePolicy(policy).compute_dtype
        for tensor in keras.tree.flatten(raw):
            assert keras.backend.standardize_dtype(tensor.dtype) in (want, "int32", "bool")
        got = as_numpy(keras.tree.map_structure(lambda t: ops.cast(t, "float32"), raw))
        for a, b in zip(keras.tree.flatten(got), keras.tree.flatten(expected), strict=True):
            assert np.isfinite(a).all(), policy
            usual = np.abs(b) < 1e9  # masked entries are compared relatively
            scale = max(float(np.abs(b[usual]).max(initial=0.0)), 1e-3)
            np.testing.assert_allclose(a[usual], b[usual], atol=policy_tolerance * scale, rtol=0, err_msg=policy)
            np.testing.assert_allclose(a[~usual], b[~usual], rtol=0.01, err_msg=policy)
    return layer


def _check_spec(spec: Any, value: np.ndarray) -> None:
    assert len(spec.shape) == value.ndim
    for declared, real in zip(spec.shape, value.shape, strict=True):
        assert declared in (None, real), f"declared {spec.shape}, got {value.shape}"
    assert keras.backend.standardize_dtype(spec.dtype) == str(value.dtype)
