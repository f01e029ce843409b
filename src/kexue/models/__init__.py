"""Models: configuration, the Transformer, families and their checkpoints."""

from kexue.models.config import TransformerConfig
from kexue.models.transformer import Transformer

__all__ = ["Transformer", "TransformerConfig"]
