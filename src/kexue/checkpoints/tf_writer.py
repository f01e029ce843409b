"""Writer of TensorFlow V2 checkpoints that TensorFlow reads bit-equal, without TensorFlow."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from kexue.checkpoints.crc32c import crc32c, mask
from kexue.checkpoints.sstable import build_table
from kexue.checkpoints.tf_index import Entry, encode_entry, encode_header, number_of
from kexue.errors import CheckpointError
from kexue.files import atomic_write

__all__ = ["write_tf_bundle"]

_CHUNK = 1 << 26


def write_tf_bundle(prefix: str | os.PathLike[str], tensors: Mapping[str, np.ndarray]) -> list[Path]:
    """Write ``PREFIX.index``, ``PREFIX.data-00000-of-00001`` and the text file ``checkpoint`` beside them.

    The names are stored as they are, so names of ``tf.compat.v1`` variables give a checkpoint that ``Saver`` restores.
    Both files are complete on the disk before the data file and then the index take their final names. Should the
    machine stop between these two renames, an older index beside the new data is refused by its checksums, never read
    as something else. Data files of an older checkpoint with more shards are removed at the end.

    Args:
        prefix: path of the checkpoint without suffix, such as ``folder/bert_model.ckpt``.
        tensors: arrays by name; numbers and bools of any shape.

    Returns:
        The three paths that were written.

    Raises:
        CheckpointError: a name is empty, or TensorFlow has no such dtype.
    """
    path = Path(prefix)
    data_path = Path(f"{path}.data-00000-of-00001")
    index_path = Path(f"{path}.index")
    keys = sorted((_key(name), name) for name in tensors)
    entries = [(b"", encode_header())]
    with ExitStack() as stack:  # left in reverse order: the data file is renamed first, the index last
        index_temporary = stack.enter_context(atomic_write(index_path))
        data_temporary = stack.enter_context(atomic_write(data_path))
        offset = 0
        with open(data_temporary, "wb") as file:
            for key, name in keys:
                array = np.asarray(tensors[name])
                array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
                number = number_of(array.dtype)
                if number is None:
                    raise CheckpointError(
                        f"{path}: tensor {name!r}: expected numbers or bools of a dtype that TensorFlow has, "
                        f"received dtype {array.dtype}. Convert it first."
                    )
                raw = array.reshape(-1).view(np.uint8)
                for start in range(0, raw.size, _CHUNK):
                    file.write(raw[start : start + _CHUNK].data)
                entry = Entry(number, array.shape, 0, offset, raw.size, mask(crc32c(raw)))
                entries.append((key, encode_entry(entry)))
                offset += raw.size
        index_temporary.write_bytes(build_table(entries))
    for stale in path.parent.glob("*.data-?????-of-?????"):
        if stale.name.startswith(f"{path.name}.data-") and stale != data_path:
            stale.unlink(missing_ok=True)
    text_path = path.parent / "checkpoint"
    quoted = '"' + path.name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    with atomic_write(text_path) as temporary:
        text = f"model_checkpoint_path: {quoted}\nall_model_checkpoint_paths: {quoted}\n"
        temporary.write_text(text, encoding="utf-8")
    return [index_path, data_path, text_path]


def _key(name: str) -> bytes:
    if not isinstance(name, str) or not name or name.startswith("\0"):
        raise CheckpointError(f"expected a name of one character or more for every tensor, received {name!r}.")
    return name.encode()
