"""Names of a package that are imported when they are first asked for."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["names_from"]


def names_from(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """What to bind to ``__getattr__`` of ``package``.

    Args:
        package: ``__name__``.
        home: for each name the module within the package that defines it, or a module's full name.
    """

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        place = home[name]
        return getattr(import_module(place if "." in place else f".{place}", package), name)

    return find
