"""Training steps that look at a batch more than once: adversarial and consistency training."""

from kexue.training.strategies.adversarial import FGM, PGD, VAT, GradientPenalty
from kexue.training.strategies.base import Problem, Strategy, Update, with_strategy
from kexue.training.strategies.consistency import RDrop

__all__ = ["FGM", "PGD", "VAT", "GradientPenalty", "Problem", "RDrop", "Strategy", "Update", "with_strategy"]
