"""Checkpoints of any known format to a `Transformer`.

A folder holds a configuration (``config.json`` of kexue or Hugging Face, or Google's ``bert_config.json``) and
weights in one of the formats of `kexue.checkpoints`. All tensors are read and checked before any is assigned.
"""

import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from kexue.checkpoints import Checkpoint, open_checkpoint
from kexue.checkpoints.dtypes import is_numeric
from kexue.errors import CheckpointError, ConfigError
from kexue.files import shipped
from kexue.models import families
from kexue.models.config import TransformerConfig
from kexue.models.families.base import Family, Row, entry
from kexue.models.regrouping import Regrouping
from kexue.models.transformer import Transformer
from kexue.models.weights import named_weights

__all__ = ["load", "read_config"]

_CONFIG_NAMES = ("config.json", "bert_config.json", "hparams.json")
# Weights that a condition adds start as they are made, whatever the checkpoint.
_CONDITION = re.compile(r"/(gain|bias|condition)_kernel$")
# Weights with one row a token.
_VOCABULARY = ("token_embedding/table", "lm_head/bias", "lm_head/output_table", "position/word_frequencies")


def load(
    path: str | os.PathLike[str],
    *,
    mask: Any = None,
    head: str | Sequence[str] | None = None,
    dtype: Any = None,
    config: Any = None,
    family: str | None = None,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[tuple[Sequence[int], Sequence[float]]] | None = None,
    condition_size: int | None = None,
    rename: Mapping[str, str] | None = None,
    strict: bool = True,
    **changes: Any,
) -> Transformer:
    """Build a model from a checkpoint.

    Args:
        path: a folder, or a file of weights beside its configuration: kexue, Hugging Face (safetensors or PyTorch,
            single or sharded) or Google (TensorFlow bundle). Or ``"zh-mini"``, which comes with kexue.
        mask: attention mask; the configuration's own by default.
        head: heads to build and load, see `Transformer`.
        dtype: Keras dtype policy.
        config: a path, mapping or `TransformerConfig` instead of the folder's own.
        family: instead of telling it from the configuration or the tensors' names.
        keep_tokens: token ids whose rows to keep, in the new order (vocabulary slimming).
        compound_tokens: ``(ids, weights)`` pairs; each appends one token whose row is the weighted mean of old rows.
        condition_size: size of a vector that conditions every norm; its weights start at zero.
        rename: ``{pattern: replacement}`` regular expressions applied to the checkpoint's tensor names.
        strict: a missing or unknown tensor is an error. Otherwise a missing one keeps its initial value and an
            unknown one is left, with a warning that names them.
        **changes: fields of `TransformerConfig` to change, such as ``dropout=0.0`` or ``position="hierarchical"``;
            ``decoder_layers=None`` leaves an encoder-decoder's decoder and gives the encoder alone;
            ``block_groups=None`` gives each layer of a model with shared blocks (ALBERT) its own copy of them.

    Raises:
        CheckpointError: no checkpoint, a broken one, or tensors that are missing, unknown or of the wrong shape.
        ConfigError: a configuration that cannot be read or does not fit.
    """
    path = shipped(path)
    data, source = read_config(path, config)
    with open_checkpoint(path) as checkpoint:
        names = {_renamed(name, rename): name for name in checkpoint.names()}
        own = isinstance(data, TransformerConfig) or data.get("format") == "kexue"
        if isinstance(data, TransformerConfig):
            settings = data
        elif own:
            settings = _own_config(data, source)
        else:
            chosen = families.get(family) if family else families.detect(data, names)
            try:
                settings = chosen.configure(data, names)
            except ConfigError as error:
                raise ConfigError(f"{source}: {error}") from None
        chosen = families.get(family or settings.family)
        stored, before = settings, settings.vocabulary_size
        if condition_size is not None:
            changes["condition_size"] = condition_size
        if keep_tokens is not None or compound_tokens is not None:
            keep = np.arange(before) if keep_tokens is None else _checked_ids(keep_tokens, before, "keep_tokens")
            changes["vocabulary_size"] = len(keep) + len(compound_tokens or ())
        settings = settings.replace(**changes)
        model = Transformer(settings, mask=mask, head=head, dtype=dtype)
        weights = named_weights(model)
        shapes = {name: tuple(v.shape) for name, v in weights.items()}
        for name in _VOCABULARY:
            if name in shapes:  # as the checkpoint has them
                shapes[name] = (before, *shapes[name][1:])
        arrays = _Reader(checkpoint, names, chosen, settings, stored, strict).read(shapes)
    if keep_tokens is not None or compound_tokens is not None:
        for name in _VOCABULARY:
            if name in arrays:
                arrays[name] = _slim(arrays[name], keep, compound_tokens, before)
    for name, array in arrays.items():
        weights[name].assign(array)
    return model


def read_config(path: str | os.PathLike[str], config: Any = None) -> tuple[Any, str]:
    """The configuration that goes with ``path``: the given one or the folder's, and where it came from.

    Raises:
        CheckpointError: there is no configuration.
        ConfigError: it is not a JSON object.
    """
    if isinstance(config, TransformerConfig):
        return config, "config"
    if isinstance(config, Mapping):
        return dict(config), "config"
    if config is not None:
        return _json(Path(config)), str(config)
    folder = shipped(path)
    folder = folder if folder.is_dir() else folder.parent
    if not folder.is_dir():
        raise CheckpointError(f"{path} does not exist. Give a checkpoint folder or a file of weights in one.")
    found = [folder / name for name in _CONFIG_NAMES if (folder / name).is_file()]
    found = found or sorted(folder.glob("*config*.json"))
    if not found:
        raise CheckpointError(
            f"{folder} has no configuration: expected {' or '.join(_CONFIG_NAMES)}, or pass config=. "
            f"It holds: {', '.join(sorted(p.name for p in folder.iterdir())[:10]) or 'nothing'}."
        )
    return _json(found[0]), str(found[0])


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; a configuration file was expected there.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must hold a JSON object. Received: {type(data).__name__}")
    return data


def _own_config(data: Mapping[str, Any], source: str) -> TransformerConfig:
    if data.get("version", 1) != 1:
        raise ConfigError(
            f"{source}: expected version 1 of kexue's format, received {data['version']!r}. Update kexue."
        )
    if not isinstance(data.get("transformer"), Mapping):
        raise ConfigError(f'{source}: expected an object "transformer". Received: {sorted(data)}')
    try:
        return TransformerConfig.from_dict(data["transformer"])
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _renamed(name: str, rename: Mapping[str, str] | None) -> str:
    for pattern, replacement in (rename or {}).items():
        name = re.sub(pattern, replacement, name)
    return name


def _checked_ids(ids: Sequence[int], size: int, what: str) -> np.ndarray:
    array = np.asarray(ids)
    if array.ndim != 1 or not len(array) or not np.issubdtype(array.dtype, np.integer):
        raise ConfigError(f"{what} must be a non-empty list of token ids. Received: shape {array.shape}, {array.dtype}")
    if array.min() < 0 or array.max() >= size:
        raise ConfigError(
            f"{what} must lie between 0 and {size - 1}, the checkpoint's vocabulary. Received: {array.min()} to "
            f"{array.max()}"
        )
    return array


def _slim(
    array: np.ndarray,
    keep: np.ndarray,
    compound: Sequence[tuple[Sequence[int], Sequence[float]]] | None,
    before: int,
) -> np.ndarray:
    rows = [array[keep]]
    for ids, weights in compound or ():
        chosen, share = _checked_ids(ids, before, "compound_tokens"), np.asarray(weights, "float64")
        if share.shape != chosen.shape or share.sum() == 0:
            raise ConfigError(f"compound_tokens need one weight an id, with a sum that is not 0. Received: {weights}")
        mean = np.tensordot(share / share.sum(), np.asarray(array[chosen], "float64"), axes=1)
        rows.append(mean[None].astype(array.dtype))
    return np.concatenate(rows, axis=0)


class _Reader:
    """Finds, reads and checks the tensors of one model in one checkpoint."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        names: Mapping[str, str],
        family: Family,
        config: TransformerConfig,
        stored: TransformerConfig,
        strict: bool,
    ) -> None:
        self.decoder_layers = stored.decoder_layers  # the checkpoint's decoder, which the model may do without
        self.checkpoint, self.family, self.config, self.strict = checkpoint, family, config, strict
        self.regroup = Regrouping(config, stored)
        self.layout = "tf" if checkpoint.format == "tf" else "hf"
        self.names: dict[str, str] = {}
        for name, actual in names.items():
            canonical = family.canonical(name)
            if canonical == name or canonical not in self.names:  # an exact name beats an alias of it
                self.names[canonical] = actual
        # A bare encoder is saved without the family's prefix.
        bare = self.layout == "hf" and not any(name.startswith(family.prefix) for name in self.names)
        self.strip = family.prefix if bare else ""

    def read(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """Arrays for the weights of these names and shapes, all of them checked."""
        if "token_embedding.table" in self.names:
            return self._read_own(shapes)
        if not self.family.has_layout(self.layout):
            raise CheckpointError(
                f"{self.checkpoint.path}: the family {self.family.name} has no "
                f"{'TensorFlow' if self.layout == 'tf' else 'PyTorch'} layout that kexue knows. Pass another family=."
            )
        sources = {name: self.regroup.sources(name) for name in shapes if not _CONDITION.search(name)}
        weights = list(dict.fromkeys(name for names in sources.values() for name in names))
        shapes = {source: shapes[name] for name, names in sources.items() for source in names}
        numbering = self.regroup.numbering.replace(decoder_layers=self.decoder_layers)
        rows = {row.ours: row for row in self.family.table(numbering)}
        untold = sorted(set(weights) - set(rows))
        if untold:
            raise CheckpointError(
                f"the checkpoint tables of {self.family.name} have no row for {', '.join(untold[:4])}: this "
                "configuration cannot be filled from an official checkpoint."
            )
        missing = [n for name in weights for n in self._names(rows[name]) if entry(n)[0] not in self.names]
        known = {entry(n)[0] for row in rows.values() for n in self._names(row)}
        known |= {self._stripped(name) for name in self.family.constants}
        if self.layout == "hf":  # a plain name whose twin was taken
            known |= {self._stripped(entry(name)[0]) for row in rows.values() for name in row.names("hf")}
        ignored = [re.compile(pattern) for pattern in self.family.ignore]
        extra = [n for n in self.names if n not in known and not any(p.search(n) for p in ignored)]
        self._complain(missing, extra)
        gone = set(missing)
        arrays = {}
        for name in weights:
            theirs = self._names(rows[name])
            if not gone.intersection(theirs):
                arrays[name] = self._assemble(rows[name], theirs, shapes[name])
        self._check_copies(arrays)
        return self._regrouped(sources, arrays)

    def _regrouped(
        self, sources: Mapping[str, Sequence[str]], arrays: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Arrays by our names from those by the names of the stored blocks."""
        out = {}
        for name, names in sources.items():
            present = [source for source in names if source in arrays]
            if not present:
                continue
            first = present[0]
            for other in present[1:]:
                if not np.array_equal(arrays[first], arrays[other]):
                    raise CheckpointError(
                        f"{self.checkpoint.path}: {first} and {other} differ, so that one block cannot stand for both. "
                        f"Load it with block_groups={self.regroup.stored.block_groups}."
                    )
            out[name] = arrays[first]
        return out

    def _stripped(self, name: str) -> str:
        return name.removeprefix(self.strip)

    def _names(self, row: Row) -> tuple[str, ...]:
        if self.layout == "hf" and row.twin is not None and self._stripped(row.twin) in self.names:
            return (self._stripped(row.twin),)
        return tuple(self._stripped(name) for name in row.names(self.layout))

    def _array(self, name: str) -> np.ndarray:
        name, index = entry(name)
        array = np.asarray(self.checkpoint[self.names[name]])
        if not is_numeric(array.dtype):
            raise CheckpointError(f"{self.checkpoint.path}: {name} must hold numbers. Received: dtype {array.dtype}")
        if index is None:
            return array
        if array.ndim == 0 or index >= len(array):
            raise CheckpointError(
                f"{self.checkpoint.path}: {name} must have an entry for block {index}. Received: shape {array.shape}"
            )
        return array[index]

    def _assemble(self, row: Row, theirs: Sequence[str], expected: tuple[int, ...]) -> np.ndarray:
        parts = [self._array(name) for name in theirs]
        found = " and ".join(f"{name} has shape {part.shape}" for name, part in zip(theirs, parts, strict=True))
        try:
            array = row.load(parts, self.layout)
        except ValueError:  # arrays that cannot stand side by side
            array = np.empty(())
        self._check_shape(array, expected, f"{row.ours} from {found}")
        return array

    def _check_shape(self, array: np.ndarray, expected: tuple[int, ...], what: str) -> None:
        if array.shape != expected:
            raise CheckpointError(
                f"{self.checkpoint.path}: {what}, which gives {array.shape}, but the configuration asks for "
                f"{expected}. Check that configuration and weights belong together."
            )

    def _check_copies(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Tensors that must hold what kexue takes from elsewhere: rotary angles, the tied output matrix."""
        if self.layout != "hf":
            return
        for name, make in self.family.constants.items():
            if (other := self._stripped(name)) in self.names:
                array = self._array(other)
                rows = len(array) if array.ndim else 1
                want = make(self.config.replace(max_length=max(rows, 1)))
                self._check_shape(array, want.shape, f"{other} has shape {array.shape}")
                self._check_equal(array, want, f"{other} differs from the rotary angles that kexue computes")
        tied = None if self.family.tied is None else self._stripped(self.family.tied)
        table = arrays.get("token_embedding/table")
        lm = any(name.startswith("lm_head/") for name in arrays) or not self.config.lm_transform
        if tied in self.names and self.config.tie_embeddings and lm and table is not None:
            array = self._array(tied)
            self._check_shape(array, table.shape, f"{tied} has shape {array.shape}")
            complaint = f"{tied} is no copy of the token table; load it with tie_embeddings=False. They differ"
            self._check_equal(array, table, complaint)

    def _check_equal(self, array: np.ndarray, want: np.ndarray, complaint: str) -> None:
        worst = float(np.abs(array.astype("float32") - want.astype("float32")).max(initial=0.0))
        precision = max(_epsilon(array.dtype), _epsilon(want.dtype))
        if not worst <= max(1e-3, precision):
            raise CheckpointError(f"{self.checkpoint.path}: {complaint} by up to {worst:.3g}.")

    def _read_own(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        sources = {name: self.regroup.sources(name) for name in shapes}
        shapes = {source: shapes[name] for name, names in sources.items() for source in names}
        theirs = {name: name.replace("/", ".") for name in shapes}
        missing = [other for name, other in theirs.items() if other not in self.names and not _CONDITION.search(name)]
        heads = ("lm_head.", "pooler.", "nsp_head.", "discriminator_head.")
        extra = [
            name
            for name in self.names
            if name not in theirs.values()
            and not name.startswith(heads)
            and not (name.startswith("decoder_") and self.config.decoder_layers is None)
            and not _CONDITION.search(f"/{name.rsplit('.')[-1]}")
        ]
        self._complain(missing, extra)
        arrays = {name: self._array(other) for name, other in theirs.items() if other in self.names}
        for name, array in arrays.items():
            self._check_shape(array, shapes[name], f"{theirs[name]} has shape {array.shape}")
        return self._regrouped(sources, arrays)

    def _complain(self, missing: Sequence[str], extra: Sequence[str]) -> None:
        """Raise, or warn where ``strict`` is off, about what does not fit."""
        parts = []
        if missing:
            parts.append(f"lacks {_list(missing)}")
        if extra:
            parts.append(f"has unknown tensors {_list(extra)}")
        if not parts:
            return
        message = f"{self.checkpoint.path} {' and '.join(parts)} (family {self.family.name})."
        if self.strict:
            raise CheckpointError(
                f"{message} Check the family, the configuration and the heads, rename tensors with rename=, or pass "
                "strict=False to keep initial values for missing tensors and leave unknown ones."
            )
        warnings.warn(message, stacklevel=4)


def _epsilon(dtype: np.dtype) -> float:
    return 0.0 if dtype.kind in "biu" else float(ml_dtypes.finfo(dtype).eps)


def _list(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
