"""Averaged weights in the place of those of training, and back bit for bit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import keras
from keras import ops

from kexue.errors import ConfigError

__all__ = [
    "Swap",
    "accumulation_steps",
    "attach",
    "averaged",
    "chain",
    "chosen",
    "detach",
    "settle",
    "training_weights",
]


class Swap:
    """Puts averages into variables and remembers what was there.

    Args:
        pairs: gives the variables and their averages, when asked to.
    """

    def __init__(self, pairs: Callable[[], list[tuple[Any, Any]]]) -> None:
        self._pairs = pairs
        self._backup: list[tuple[Any, Any]] | None = None

    @property
    def applied(self) -> bool:
        """The averages are in the variables."""
        return self._backup is not None

    def apply(self) -> None:
        """Install the averages; nothing if they are installed."""
        if self._backup is None:
            pairs = self._pairs()
            # Copies: JAX hands the buffers of a step's state on to the next, whoever else holds them.
            self._backup = [(variable, copied(variable.value)) for variable, _ in pairs]
            for variable, average in pairs:
                variable.assign(copied(ops.cast(average, variable.dtype)))

    def reset(self) -> None:
        """Put the weights of training back; nothing if they are there."""
        if self._backup is not None:
            backup, self._backup = self._backup, None
            for variable, value in backup:
                variable.assign(value)

    def keep(self) -> None:
        """Leave the averages in the variables for good."""
        self.apply()
        self._backup = None


def copied(value: Any) -> Any:
    """A tensor of its own with the values of one."""
    return ops.copy(ops.stop_gradient(value))


def chain(optimizer: Any) -> Iterator[Any]:
    """An optimizer and those that it wraps."""
    while optimizer is not None:
        yield optimizer
        optimizer = getattr(optimizer, "inner_optimizer", None)


def accumulation_steps(optimizer: Any) -> int | None:
    """How many batches make an update, where there are several, whatever is wrapped around."""
    steps = (getattr(each, "gradient_accumulation_steps", None) for each in chain(optimizer))
    return next((count for count in steps if count), None)


def attach(model: keras.Model, swap: Swap) -> None:
    """Let `averaged` and `training_weights` find it."""
    if swap not in _attached(model):
        object.__setattr__(model, "_kexue_swaps", [*_attached(model), swap])


def detach(model: keras.Model, swap: Swap) -> None:
    """The reverse of `attach`."""
    object.__setattr__(model, "_kexue_swaps", [other for other in _attached(model) if other is not swap])


def _attached(model: keras.Model) -> list[Swap]:
    return model.__dict__.get("_kexue_swaps", [])


def _swaps(model: keras.Model) -> list[Swap]:
    own = [getattr(optimizer, "swap", None) for optimizer in chain(getattr(model, "optimizer", None))]
    return [*_attached(model), *(swap for swap in own if isinstance(swap, Swap))]


def _synced(model: keras.Model) -> None:
    if hasattr(model, "jax_state_sync"):  # within fit on JAX the variables are empty otherwise
        model.jax_state_sync()


def swap_of(source: Any) -> Swap:
    """The one swap of a callback, an optimizer or a model."""
    if isinstance(source, Swap):
        return source
    if isinstance(getattr(source, "swap", None), Swap):
        return source.swap
    if not isinstance(source, keras.Model):
        raise ConfigError(f"averages belong to a model, an averaging callback or an AveragedOptimizer. Got: {source!r}")
    _synced(source)
    swaps = _swaps(source)
    for optimizer in chain(getattr(source, "optimizer", None)):
        averages = getattr(optimizer, "_model_variables_moving_average", None)  # Keras' own, with use_ema=True
        if averages is not None:
            variables = optimizer._trainable_variables
            pairs = [(v, a) for v, a in zip(variables, averages, strict=True) if a is not None]
            swaps.append(Swap(partial(list, pairs)))
    if len(swaps) != 1:
        raise ConfigError(
            f"{source.name!r} has {len(swaps) or 'no'} averages of its weights. "
            + ("Name the callback or the optimizer whose you want." if swaps else "Train it with EMA, SWA, LAWA or "
               "AveragedOptimizer.")
        )  # fmt: skip
    return swaps[0]


@contextmanager
def averaged(source: Any) -> Iterator[None]:
    """Within the block the averages stand in the weights; afterwards those of training, bit for bit.

    Args:
        source: a model that has one average (of a callback, of an `AveragedOptimizer`, or of a Keras optimizer with
            ``use_ema=True``), or the callback or optimizer itself.

    Raises:
        ConfigError: no average, or several.
    """
    swap = swap_of(source)
    if swap.applied:
        yield
        return
    swap.apply()
    try:
        yield
    finally:
        swap.reset()


@contextmanager
def training_weights(model: keras.Model) -> Iterator[None]:
    """Within the block the weights of training stand in the model, whatever average is installed."""
    _synced(model)
    applied = [swap for swap in _swaps(model) if swap.applied]
    for swap in reversed(applied):
        swap.reset()
    try:
        yield
    finally:
        for swap in applied:
            swap.apply()


def settle(model: keras.Model, but: Sequence[Swap] = ()) -> None:
    """Averages that stand in the model are its weights from now on, those of the swaps ``but`` excepted.

    Training that begins without the callback that installed them goes on from them, and what they replaced is history.
    """
    for swap in _swaps(model):
        if swap.applied and swap not in but:
            swap.keep()


def chosen(variables: Sequence[Any], include: Sequence[str], exclude: Sequence[str]) -> list[Any]:
    """Variables of floating point whose path some of ``include`` takes and none of ``exclude``.

    Raises:
        ConfigError: a pattern that takes none.
    """
    floats = [v for v in variables if "float" in keras.backend.standardize_dtype(v.dtype)]
    for pattern in (*include, *exclude):
        if not any(fnmatchcase(v.path, pattern) for v in floats):
            raise ConfigError(
                f"no weight to average is called {pattern!r}. Patterns are globs for paths, such as "
                f"{', '.join(repr(v.path) for v in floats[:3])}."
            )
    return [
        v
        for v in floats
        if any(fnmatchcase(v.path, pattern) for pattern in include)
        and not any(fnmatchcase(v.path, pattern) for pattern in exclude)
    ]


def patterns(value: str | Sequence[str]) -> tuple[str, ...]:
    """One or several."""
    return (value,) if isinstance(value, str) else tuple(value)
