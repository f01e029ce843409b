"""The noise scale of a training run, from the micro-batches of gradient accumulation, for nothing."""

import os
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from kexue.errors import ConfigError
from kexue.training.batch_size.log import NoiseLog
from kexue.training.batch_size.noise import NoiseEstimate, RunningNoise

__all__ = ["NoiseScale"]

_PREFIX = "_noise_"


class NoiseScale(keras.callbacks.Callback):
    """Estimates ``|g|^2``, ``tr Sigma``, ``B_simple = tr Sigma / |g|^2`` and ``kappa^2`` while a model trains.

    With ``gradient_accumulation_steps`` of K, every update averages K gradients of b samples; their squared norms and
    that of their mean are a small and a large batch (see `kexue.training.batch_size.noise`). They are computed inside
    the compiled step, from gradients and accumulators that are there anyway: no pass is added, no variable, and
    weights and optimizer go the way they would have gone. Norms are of the gradients of the loss before clipping,
    with the loss scale divided out.

    Give it as the first callback. Every epoch's logs get ``noise_scale``, ``gradient_norm2``, ``gradient_trace`` and
    ``kappa2``, from moving averages; a running loss that changes fast makes them lag.

    Args:
        log: a `NoiseLog`, or a path of one (``.csv``, ``.jsonl``), which gets a row for every update; None: kept in
            memory, in ``self.log``.
        decay: of the moving averages, an update.

    Attributes:
        log: the rows, for `NoiseLog.estimate` and ``kexue advise-lr``.
        estimate: the `NoiseEstimate` now.

    Raises:
        ConfigError: when ``fit`` begins: the optimizer does not accumulate (measure with `measure_noise_scale`
            instead), the model takes several steps in one call, or the optimizer is wrapped for float16.

    Example:
        >>> model.compile(keras.optimizers.Adam(1e-3, gradient_accumulation_steps=4), "mse")
        >>> model.fit(x, y, batch_size=32, callbacks=[NoiseScale("noise.csv")])

    Source: kexue.fm 10542; arXiv 1812.06162, appendix A.
    """

    def __init__(self, log: NoiseLog | str | os.PathLike[str] | None = None, *, decay: float = 0.98) -> None:
        super().__init__()
        self.log = log if isinstance(log, NoiseLog) else NoiseLog(log)
        self._running = RunningNoise(decay)
        self._restore: list[Callable[[], None]] = []
        self._cycle: list[dict[str, float]] = []

    @property
    def estimate(self) -> NoiseEstimate:
        """The estimate now, of moving averages."""
        return self._running.estimate()

    # ---------------------------------------------------------------- in the compiled step

    def set_model(self, model: keras.Model) -> None:
        """Called by Keras before the step is compiled."""
        super().set_model(model)
        optimizer = getattr(model, "optimizer", None)
        steps = getattr(optimizer, "gradient_accumulation_steps", None)
        if hasattr(optimizer, "inner_optimizer"):
            raise ConfigError(
                f"{type(optimizer).__name__} hides the gradients. Use bfloat16 or float32, or measure_noise_scale."
            )
        if not steps:
            raise ConfigError(
                "NoiseScale compares micro-batches, so the optimizer must accumulate: expected "
                f"gradient_accumulation_steps of at least 2. Received: {steps!r}. "
                "Without accumulation, use measure_noise_scale between epochs."
            )
        if (model.steps_per_execution or 1) != 1:
            raise ConfigError(
                f"NoiseScale must see every step. Expected steps_per_execution=1. Received: {model.steps_per_execution}"
            )
        self.detach()
        self._attach(model, optimizer)

    def _attach(self, model: Any, optimizer: Any) -> None:
        """Let one step return the norms among its logs. Values pass only within one trace, so nothing is kept."""
        seen: dict[str, Any] = {}
        step, apply, track = model.train_step, optimizer._backend_apply_gradients, model._loss_tracker.update_state

        def measured_apply(grads: Any, variables: Any) -> Any:
            seen.update(_norms(optimizer, grads, variables))
            return apply(grads, variables)

        def measured_track(loss: Any, *args: Any, **kwargs: Any) -> Any:
            seen["loss"] = ops.stop_gradient(loss)  # of this step alone; the tracker gives a running mean
            return track(loss, *args, **kwargs)

        def measured_step(*args: Any, **kwargs: Any) -> Any:
            seen.clear()
            result = step(*args, **kwargs)
            data = args[-1] if args else kwargs["data"]
            seen["size"] = ops.shape(next(x for x in tree.flatten(data) if x is not None))[0]
            found = {_PREFIX + name: value for name, value in seen.items()}
            seen.clear()
            if keras.backend.backend() == "jax":
                return {**result[0], **found}, result[1]
            return {**result, **found}

        self._replace(model, "train_step", measured_step)
        self._replace(optimizer, "_backend_apply_gradients", measured_apply)
        self._replace(model._loss_tracker, "update_state", measured_track)
        model.train_function = None  # compiled without the norms, if it was

        def forget() -> None:
            model.train_function = None

        self._restore.append(forget)

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        object.__setattr__(owner, name, value)
        self._restore.append(lambda: owner.__dict__.pop(name, None))

    def detach(self) -> None:
        """Leave the model as it was. Keras lets this happen at the end of ``fit``, but not when that is interrupted."""
        while self._restore:
            self._restore.pop()()

    # ---------------------------------------------------------------- after each step

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Collect the norms of one micro-batch; at an update, turn them into a row."""
        found = _take(logs)
        if "iteration" not in found:
            raise ConfigError("NoiseScale saw no gradient: train_step must call optimizer.apply or apply_gradients.")
        steps = int(self.model.optimizer.gradient_accumulation_steps)
        update, position = divmod(int(found["iteration"]), steps)
        if position != len(self._cycle):
            self._cycle = []  # the run began in the middle of an update
            if position:
                return
        self._cycle.append(found)
        if len(self._cycle) < steps:
            return
        cycle, self._cycle = self._cycle, []
        sizes = {row["size"] for row in cycle}
        losses = [row.get("loss", (logs or {}).get("loss", float("nan"))) for row in cycle]
        size = cycle[0]["size"]
        row = {
            "step": update + 1,
            "loss": float(sum(losses)) / steps,
            "learning_rate": found["rate"],
            "batch_size": sum(part["size"] for part in cycle),
        }
        if len(sizes) == 1:  # the last micro-batch of an epoch can be smaller, and then norms do not compare
            small = sum(part["micro"] for part in cycle) / steps
            row |= {"micro_batch": size, "grad_norm2_micro": small, "grad_norm2_full": found["full"] / steps**2}
            row["sign_agreement"] = cycle[1]["signs"]
            self._running.update(small, row["grad_norm2_full"], size, size * steps, row["sign_agreement"])
        self.log.append(row)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Give the averages to the epoch's logs."""
        _take(logs)
        if logs is not None:
            now = self.estimate
            logs |= {
                "noise_scale": now.noise_scale,
                "gradient_norm2": now.gradient_norm2,
                "gradient_trace": now.trace,
                "kappa2": now.kappa2,
            }

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave model and optimizer as they were."""
        _take(logs)
        self.detach()
        self.log.close()


def _take(logs: dict[str, Any] | None) -> dict[str, float]:
    """Remove what belongs to this callback from the logs, before others see it."""
    names = [name for name in logs or () if name.startswith(_PREFIX)]
    return {name.removeprefix(_PREFIX): float((logs or {}).pop(name)) for name in names}


def _norms(optimizer: Any, grads: Any, variables: Any) -> dict[str, Any]:
    """Squared norms of this gradient and of the sum of the update's gradients so far, and where in the update it is."""
    micro = full = together = used = 0.0
    for gradient, variable in zip(grads, variables, strict=True):
        g = ops.cast(ops.convert_to_tensor(gradient), "float32")
        held = ops.cast(optimizer._accumulated_gradients[optimizer._get_variable_index(variable)].value, "float32")
        micro += ops.sum(ops.square(g))
        full += ops.sum(ops.square(g + held))
        # At the second micro-batch what is held is the first, and the product of signs is of two independent ones.
        product = ops.sign(g) * ops.sign(held)
        together += ops.sum(product)
        used += ops.sum(ops.abs(product))
    return {
        "micro": micro,
        "full": full,
        "signs": together / ops.maximum(used, 1.0),
        # Sums, so that these are values of now: PyTorch's tensors and TensorFlow's variables change in place.
        "iteration": optimizer._iterations.value + 0,
        "rate": ops.convert_to_tensor(optimizer.learning_rate) + 0.0,
    }
