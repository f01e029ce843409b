"""Optimizers whose rate and decay depend on the variable, and those that Keras lacks or has otherwise."""

from kexue.training.optimizers.adafactor import Adafactor, RelativeStep
from kexue.training.optimizers.adamw import AdamW
from kexue.training.optimizers.lamb import Lamb
from kexue.training.optimizers.lookahead import Lookahead
from kexue.training.optimizers.rules import layer_decay_rules, per_variable

__all__ = ["Adafactor", "AdamW", "Lamb", "Lookahead", "RelativeStep", "layer_decay_rules", "per_variable"]
