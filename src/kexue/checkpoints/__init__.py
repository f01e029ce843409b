"""Checkpoint files, formats only: TensorFlow bundles, safetensors and PyTorch files, read without their frameworks.

`open_checkpoint` finds out the format; the result is a lazy mapping from names to NumPy arrays. No model knowledge
lives here: names are given as the file has them.

What is noticed when a file is damaged: in TensorFlow bundles everything, by CRC-32C; in PyTorch zip archives
everything, by their CRC-32; in safetensors files of kexue every tensor, by a CRC-32C in the header, in those of other
writers only the header and the size; in PyTorch files from before version 1.6 only what contradicts itself.
"""

from kexue.checkpoints.base import Checkpoint, TensorSummary, read_all, summarize
from kexue.checkpoints.opening import open_checkpoint
from kexue.checkpoints.safetensors_writer import write_safetensors
from kexue.checkpoints.tf_writer import write_tf_bundle

__all__ = [
    "Checkpoint",
    "TensorSummary",
    "open_checkpoint",
    "read_all",
    "summarize",
    "write_safetensors",
    "write_tf_bundle",
]
