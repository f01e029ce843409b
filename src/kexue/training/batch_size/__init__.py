"""Batch size and learning rate (kexue.fm 10542): scaling laws, the gradient noise scale, advice from a short run.

The laws are plain NumPy; `NoiseScale` and `measure_noise_scale` are the two that touch Keras.
"""

from kexue._lazy import names_from

_HOME = {
    "Advice": "advice",
    "NoiseEstimate": "noise",
    "NoiseLog": "log",
    "NoiseScale": "callback",
    "RateFit": "fits",
    "RunningNoise": "noise",
    "StepsSamples": "fits",
    "Surge": "sign",
    "advise": "advice",
    "best_rate": "fits",
    "fit_rates": "fits",
    "fit_steps_samples": "fits",
    "loss_gain": "laws",
    "measure_noise_scale": "measure",
    "noise_from_samples": "noise",
    "noise_from_two_batches": "noise",
    "optimal_rate": "laws",
    "scale_learning_rate": "laws",
    "sign_mean": "sign",
    "surge": "sign",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


__getattr__ = names_from(__name__, _HOME)
