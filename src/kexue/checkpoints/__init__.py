"""Checkpoint files, formats only: TensorFlow bundles, safetensors and PyTorch files, read without their frameworks.

`open_checkpoint` finds out the format; the result is a lazy mapping from names to NumPy arrays. No model knowledge
lives here: names are given as the file has them.
"""

from kexue.checkpoints.base import Checkpoint, TensorSummary, read_all, summarize
from kexue.checkpoints.safetensors import SafetensorsCheckpoint
from kexue.checkpoints.tf_bundle import TensorFlowCheckpoint

__all__ = ["Checkpoint", "SafetensorsCheckpoint", "TensorFlowCheckpoint", "TensorSummary", "read_all", "summarize"]
