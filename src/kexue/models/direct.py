"""Calling a functional model directly, with a dict that may lack the optional inputs."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import tree

from kexue.errors import ConfigError

__all__ = ["DirectCall", "jax_forward"]


class DirectCall:
    """Mixed into a functional `keras.Model` with a dict of inputs, some of them optional.

    - Inputs that are optional may be left out of the dict; an unknown or missing one is an error that lists the names.
    - On JAX, a call on arrays outside training is compiled once for each shape and set of inputs, instead of run
      operation by operation. As with ``predict``, a layer that is changed in place afterwards keeps its compiled
      behaviour until `recompile`; weights may change freely. ``model.compile_calls = False`` switches it off.
    """

    compile_calls = True

    def __call__(self, inputs: Any, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        inputs = self._complete(inputs)
        self.check_inputs(inputs)
        if self.compile_calls and not training and not args and not kwargs and _is_eager_jax(inputs):
            return self._compiled(inputs)
        if any(keras.ops.is_tensor(value) for value in inputs.values()):
            inputs = self._tensors(inputs)  # Keras refuses tensors beside arrays
        return super().__call__(inputs, *args, training=training, **kwargs)  # type: ignore[misc]

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Raise where ``inputs`` cannot work; before Keras is entered, which would wrap the message in its own."""

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().call(self._complete(inputs), *args, **kwargs)  # type: ignore[misc]

    def compute_output_spec(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        complete = self._complete(inputs)
        own = self.input  # type: ignore[attr-defined]
        complete = {name: own[name] if value is None else value for name, value in complete.items()}
        return super().compute_output_spec(complete, *args, **kwargs)  # type: ignore[misc]

    def recompile(self) -> None:
        """Forget compiled calls, after a layer was changed in place."""
        object.__setattr__(self, "_direct_function", None)

    def _complete(self, inputs: Any) -> dict[str, Any]:
        known = self._inputs_struct  # type: ignore[attr-defined]
        if not isinstance(inputs, dict):
            inputs = {next(iter(known)): inputs}
        for name in inputs:
            if name not in known:
                raise ConfigError(f"unknown input {name!r}. The model takes: {', '.join(known)}.")
        for name, tensor in known.items():
            if inputs.get(name) is None and not tensor._keras_history.operation.optional:
                raise ConfigError(f"the input {name} is missing. Received: {', '.join(inputs) or 'nothing'}.")
        return {name: inputs.get(name) for name in known}

    def _compiled(self, inputs: dict[str, Any]) -> Any:
        function = getattr(self, "_direct_function", None)
        if function is None:
            function = jax_forward(self)
            object.__setattr__(self, "_direct_function", function)
        return function(self._tensors(inputs))

    def _tensors(self, inputs: dict[str, Any]) -> dict[str, Any]:
        dtypes = {name: tensor.dtype for name, tensor in self._inputs_struct.items()}  # type: ignore[attr-defined]
        return {n: None if v is None else keras.ops.convert_to_tensor(v, dtype=dtypes[n]) for n, v in inputs.items()}


def jax_forward(model: keras.Model) -> Callable[[Any], Any]:
    """``batch -> outputs`` outside training as one compiled function on JAX; weights are read at each call."""
    import jax

    @jax.jit
    def run(trainable: Any, fixed: Any, batch: Any) -> Any:
        return model.stateless_call(trainable, fixed, batch, training=False)[0]

    def forward(batch: Any) -> Any:
        trainable = [v.value for v in model.trainable_variables]
        fixed = [v.value for v in model.non_trainable_variables]
        return run(trainable, fixed, batch)

    return forward


def _is_eager_jax(inputs: dict[str, Any]) -> bool:
    if keras.backend.backend() != "jax":
        return False
    import jax

    if keras.src.backend.common.stateless_scope.in_stateless_scope():
        return False
    leaves = [leaf for leaf in tree.flatten(inputs) if leaf is not None]
    return not any(isinstance(leaf, keras.KerasTensor | jax.core.Tracer) for leaf in leaves)
