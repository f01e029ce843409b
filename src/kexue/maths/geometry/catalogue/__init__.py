"""Known spacetimes and manifolds, each with its best frame, its source and known invariants.

``metric("kerr")`` builds one, ``names()`` lists them, ``entry("kerr")`` is the data.
"""

import difflib
from typing import TYPE_CHECKING, Any

from kexue.errors import ConfigError
from kexue.maths.geometry.catalogue.black_holes import BLACK_HOLES
from kexue.maths.geometry.catalogue.cosmologies import COSMOLOGIES
from kexue.maths.geometry.catalogue.entry import Entry
from kexue.maths.geometry.catalogue.manifolds import MANIFOLDS

if TYPE_CHECKING:
    from kexue.maths.geometry.metric import Metric

__all__ = ["Entry", "entry", "metric", "names"]

_ENTRIES: dict[str, Entry] = BLACK_HOLES | COSMOLOGIES | MANIFOLDS


def names() -> tuple[str, ...]:
    """Names of all entries."""
    return tuple(_ENTRIES)


def entry(name: str) -> Entry:
    """One entry; spaces and hyphens may stand for underscores.

    Raises:
        ConfigError: there is none of that name.
    """
    if not isinstance(name, str):
        raise ConfigError(f"The name of a metric was expected, received {name!r}.")
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    if plain not in _ENTRIES:
        near = difflib.get_close_matches(plain, _ENTRIES, 3)
        hint = f" Did you mean {' or '.join(near)}?" if near else f" Known: {', '.join(_ENTRIES)}."
        raise ConfigError(f"No metric {name!r} in the catalogue.{hint}")
    return _ENTRIES[plain]


def metric(name: str, **options: Any) -> "Metric":
    """A metric of the catalogue; options as for :class:`Metric` (conventions, backend, parameters ...)."""
    return entry(name).build(**options)
