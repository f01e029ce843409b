"""Pictures of what `kexue.nn.positions.analysis` measures. Needs matplotlib: ``pip install "kexue[plot]"``.

Each function returns a ``matplotlib.figure.Figure`` and, given a ``path``, writes it there; no window is opened.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kexue.errors import ConfigError
from kexue.files import atomic_write
from kexue.nn.positions.analysis import ExtrapolationCurve, OrderSensitivity, by_distance

__all__ = ["plot_decay", "plot_extrapolation", "plot_gram", "plot_order_sensitivity"]


def _figure(columns: int = 1) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError('pictures need matplotlib, which is not installed: pip install "kexue[plot]"') from None
    figure = Figure(figsize=(5.2 * columns, 3.9), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _finish(figure: Any, path: str | os.PathLike[str] | None) -> Any:
    if path is not None:
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format=Path(path).suffix[1:] or "png", dpi=150)
    return figure


def _several(curves: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    if not isinstance(curves, Mapping) or not curves:
        raise ConfigError(f"give a mapping of names to {what}. Received: {type(curves).__name__}")
    return curves


def _legend(axis: Any, count: int) -> None:
    if count > 1:
        axis.legend(frameon=False, fontsize="small")
    axis.spines[["top", "right"]].set_visible(False)


def _powers(axis: Any, values: np.ndarray) -> None:
    """A logarithmic axis with the values themselves at its ticks, not powers of ten."""
    axis.set_xscale("log", base=2)
    ticks = np.unique(values)
    ticks = ticks[:: -(-len(ticks) // 8)]
    axis.set_xticks(ticks, labels=[f"{t:g}" for t in ticks])
    axis.minorticks_off()


def plot_gram(gram: Any, title: str = "", path: str | os.PathLike[str] | None = None) -> Any:
    """The matrix of `position_gram`, and its mean along the diagonals with one standard deviation on each side.

    Args:
        gram: ``(length, length)``.
        title: over the picture.
        path: where to write it.
    """
    mean, deviation = by_distance(gram)
    figure, (left, right) = _figure(2)
    image = left.imshow(np.asarray(gram), cmap="viridis", interpolation="nearest")
    figure.colorbar(image, ax=left, fraction=0.046)
    left.set(xlabel="position n", ylabel="position m", title="inner products of rows m and n")
    places = np.arange(len(mean))
    right.fill_between(places, mean - deviation, mean + deviation, alpha=0.25, linewidth=0)
    right.plot(places, mean)
    right.set(xlabel="distance |m - n|", ylabel="mean inner product", title="along the diagonals")
    _legend(right, 1)
    if title:
        figure.suptitle(title)
    return _finish(figure, path)


def plot_decay(
    distances: Any, curves: Mapping[str, Any], title: str = "", path: str | os.PathLike[str] | None = None
) -> Any:
    """Curves over the distance, such as those of `decay_curve` and `oscillatory_decay`.

    Args:
        distances: ``(n,)``.
        curves: name to ``(n,)`` values.
        title: over the picture.
        path: where to write it.
    """
    figure, (axis,) = _figure()
    for place, (name, values) in enumerate(_several(curves, "values").items()):
        axis.plot(distances, values, label=name, linestyle=("-", "--", ":", "-.")[place % 4])
    axis.axhline(0, color="0.6", linewidth=0.8)
    axis.set(xlabel="distance", ylabel="normalised inner product", title=title)
    _legend(axis, len(curves))
    return _finish(figure, path)


def plot_order_sensitivity(
    results: Mapping[str, OrderSensitivity], title: str = "", path: str | os.PathLike[str] | None = None
) -> Any:
    """Bars of the change under permutations, and curves of the change under swaps over the distance.

    Args:
        results: name to the result of `order_sensitivity`.
        title: over the picture.
        path: where to write it.
    """
    figure, (left, right) = _figure(2)
    names = list(_several(results, "results of order_sensitivity"))
    colours = [f"C{i % 10}" for i in range(len(names))]
    left.barh(names, [results[name].value for name in names], height=0.6, color=colours)
    left.set_ylim(max(len(names), 4) - 0.4, -0.6)  # the first on top, a single bar no wall
    left.set(xlabel="relative change under permutations")
    _legend(left, 1)
    for result in results.values():
        right.plot(result.distances, result.by_distance, marker="o", markersize=3)
    _powers(right, np.concatenate([result.distances for result in results.values()]))
    right.set(xlabel="distance of two swapped tokens", ylabel="relative change", ylim=(0, None))
    _legend(right, 1)
    if title:
        figure.suptitle(title)
    return _finish(figure, path)


def plot_extrapolation(
    curves: Mapping[str, ExtrapolationCurve],
    ylabel: str = "accuracy",
    title: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Any:
    """Curves over the length, a line at the training length, and a cross where a model refuses to go on.

    Args:
        curves: name to the result of `extrapolation_curve`.
        ylabel: what was measured.
        title: over the picture.
        path: where to write it.
    """
    figure, (axis,) = _figure()
    for name, curve in _several(curves, "results of extrapolation_curve").items():
        (line,) = axis.plot(curve.lengths, curve.values, marker="o", markersize=3, label=name)
        known = np.flatnonzero(np.isfinite(curve.values))
        if curve.refused and len(known):
            end = known[-1]
            axis.plot(curve.lengths[end], curve.values[end], "x", color=line.get_color(), markersize=9)
    for length in {curve.train_length for curve in curves.values()} - {None}:
        axis.axvline(length, color="0.6", linewidth=0.8, linestyle="--")
        axis.annotate(" trained", (length, 1), xycoords=("data", "axes fraction"), va="top", fontsize="small")
    _powers(axis, np.concatenate([curve.lengths for curve in curves.values()]))
    refused = any(curve.refused for curve in curves.values())
    axis.set(xlabel="length (a cross: longer is refused)" if refused else "length", ylabel=ylabel, title=title)
    _legend(axis, len(curves))
    return _finish(figure, path)
