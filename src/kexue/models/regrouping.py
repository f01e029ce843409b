"""Blocks of a checkpoint that shares them in another way than the model to be filled."""

import re

from kexue.errors import ConfigError
from kexue.models.config import TransformerConfig

__all__ = ["Regrouping"]

_BLOCK = re.compile(r"block_(\d+)_")


class Regrouping:
    """Which stored blocks each block of a model comes from.

    One block that several layers shared fills all of theirs; several that one is to stand for must be equal.

    Attributes:
        stored: the checkpoint's configuration.
        numbering: the configuration whose blocks the names of `sources` count.

    Args:
        config: of the model.
        stored: of the checkpoint.

    Raises:
        ConfigError: the blocks are shared otherwise and the numbers of layers differ, too.
    """

    def __init__(self, config: TransformerConfig, stored: TransformerConfig) -> None:
        self.stored = stored
        self.same = config.block_groups == stored.block_groups
        self.numbering = config if self.same else stored
        if not self.same and config.num_layers != stored.num_layers:
            raise ConfigError(
                "block_groups and num_layers cannot both change while a checkpoint is loaded. Received: "
                f"num_layers={config.num_layers}, the checkpoint has {stored.num_layers}"
            )
        self._from: dict[int, list[int]] = {}
        for layer in range(config.num_layers):
            found = self._from.setdefault(config.group(layer), [])
            if stored.group(layer) not in found:
                found.append(stored.group(layer))

    def sources(self, name: str) -> tuple[str, ...]:
        """Names, by the checkpoint's blocks, of what the weight ``name`` is filled from."""
        match = _BLOCK.search(name)
        if self.same or match is None:
            return (name,)
        first, last = match.span(1)
        return tuple(f"{name[:first]}{block}{name[last:]}" for block in self._from[int(match[1])])
