"""One catalogue entry: a known metric as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kexue.maths.geometry.metric import Metric

__all__ = ["Entry"]


@dataclass(frozen=True)
class Entry:
    """A known metric.

    Attributes:
        title: what it is called.
        coordinates: names in one string.
        coframe: covectors of its best frame; () where the line element serves as well.
        eta: the frame metric: a diagonal, or rows; () for the unit matrix.
        line: the line element, where there is no coframe.
        definitions: abbreviations in the strings.
        source: where it comes from.
        known: invariants known from the literature, by the names of :meth:`Metric.invariants`, and "Petrov".
        constant: k of R_ab = k g_ab for Einstein metrics, "0" for vacuum; None for others.
    """

    title: str
    coordinates: str
    source: str
    coframe: tuple[str, ...] = ()
    eta: tuple[Any, ...] = ()
    line: str = ""
    definitions: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, str] = field(default_factory=dict)
    constant: str | None = None

    def build(self, **options: Any) -> Metric:
        """The metric."""
        from kexue.maths.geometry.metric import Metric

        options.setdefault("name", self.title)
        if self.coframe:
            return Metric.from_coframe(
                self.coframe, self.eta or None, self.coordinates, definitions=dict(self.definitions), **options
            )
        lines = [f"{name} = {value}" for name, value in self.definitions.items()]
        return Metric.from_line_element("\n".join([*lines, f"ds^2 = {self.line}"]), self.coordinates, **options)
