"""The numbers that callers give to a task, checked."""

from typing import Any

from kexue.decoding.arguments import EXTREME, amount
from kexue.errors import ConfigError

__all__ = ["check_numbers", "check_training"]


def check_numbers(*, optional: bool = False, **numbers: Any) -> None:
    """Positive integers; ``optional``: they may be None.

    Raises:
        ConfigError: names the first that is not.
    """
    for name, number in numbers.items():
        if not (optional and number is None) and (not isinstance(number, int) or number < 1):
            raise ConfigError(f"{name} must be a positive integer. Received: {name}={number!r}")


def check_training(
    *,
    epochs: int,
    batch_size: int,
    steps_per_epoch: int | None,
    save_every: int | None,
    learning_rate: float,
    weight_decay: float,
    clip: float | None,
    **others: float | None,
) -> None:
    """The numbers of a training.

    Raises:
        ConfigError: names the first that cannot work; one that is not a number would spoil all weights.
    """
    check_numbers(epochs=epochs, batch_size=batch_size)
    check_numbers(optional=True, steps_per_epoch=steps_per_epoch, save_every=save_every)
    for name, value in {"learning_rate": learning_rate, "clip": clip}.items():
        if value is not None and amount(value, name, 0, EXTREME) == 0:
            raise ConfigError(f"{name} must be above 0. Received: {name}={value!r}")
    for name, value in {"weight_decay": weight_decay, **others}.items():
        if value is not None:
            amount(value, name, 0, EXTREME)
