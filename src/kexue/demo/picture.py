"""A picture of the pointer scores of one sentence: a heat map for each label, start downwards, end to the right."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kexue.errors import ConfigError

__all__ = ["chinese_font", "draw"]

GLOSSES = {
    "地点": "place",
    "机构": "organisation",
    "景点": "sight",
    "路线": "route",
    "时间": "time",
    "天气": "phenomenon",
    "预警": "warning",
    "数值": "value",
}
_CLIP = 10.0  # logits beyond it are equally certain to the eye
_PANELS = 4


def chinese_font(text: str) -> str | None:
    """Path of an installed font that has every character of ``text``, None if there is none.

    No font is shipped, and matplotlib draws empty boxes for what a font lacks, so the character tables are looked at.
    """
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    wanted = {ord(c) for c in text if not c.isspace()}
    # Fonts made for Chinese first: the others have the characters, but in Japanese or Korean shapes.
    preferred = ("CJKsc", "CJK SC", "SourceHanSans", "wqy", "WenQuan", "msyh", "simhei", "PingFang", "Heiti", "CJK")
    # Fonts of last resort, one of which matplotlib brings, claim every character and draw a box for it.
    fonts = (
        font for font in font_manager.fontManager.ttflist if "lastresort" not in font.name.lower().replace(" ", "")
    )
    paths = sorted({font.fname for font in fonts})
    paths.sort(key=lambda path: next((i for i, n in enumerate(preferred) if n.lower() in path.lower()), len(preferred)))
    for path in paths:
        try:
            if wanted <= set(FT2Font(path).get_charmap()):
                return path
        except (OSError, RuntimeError, ValueError):  # gone since the cache was built, or damaged
            continue
    return None


def draw(
    path: str | os.PathLike[str],
    tokens: Sequence[str],
    scores: np.ndarray,
    labels: Sequence[str],
    *,
    gold: Sequence[tuple[int, int, str]] = (),
    font: str | None = None,
) -> list[str]:
    """Write the picture.

    Args:
        path: the PNG.
        tokens: n tokens.
        scores: ``(labels, n, n)`` logits, start token then end token; very negative where there is no span.
        labels: names of the first axis.
        gold: ``(first token, last token, label)`` of the true entities, which get a frame.
        font: a font that has the tokens' characters; None: numbers stand for tokens, and English for labels.

    Returns:
        The labels that were drawn: those with most true entities.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.font_manager import FontProperties
        from matplotlib.patches import Rectangle
    except ImportError as error:
        raise ConfigError("the picture needs matplotlib: pip install matplotlib") from error

    count = {label: sum(entity[2] == label for entity in gold) for label in labels}
    highest = {label: float(scores[i].max()) for i, label in enumerate(labels)}
    drawn = sorted(labels, key=lambda label: (-count[label], -highest[label]))[:_PANELS]
    drawn = [label for label in drawn if count[label] or highest[label] > 0] or drawn[:1]
    n = len(tokens)
    columns = min(len(drawn), 2)
    rows = -(-len(drawn) // columns)
    side = max(4.0, 0.19 * n)
    figure = Figure(figsize=(columns * side + 1.2, rows * side + 0.9), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    text: dict[str, Any] = {} if font is None else {"fontproperties": FontProperties(fname=font)}
    below = np.tril(np.ones((n, n), bool), -1)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    image: Any = None
    for axis, label in zip(axes, drawn, strict=False):
        values = np.ma.masked_array(np.clip(scores[list(labels).index(label)], -_CLIP, _CLIP), below)
        image = axis.imshow(values, cmap="magma_r", vmin=-_CLIP, vmax=_CLIP, interpolation="nearest")
        axis.set_facecolor("0.93")
        for first, last, name in gold:
            if name == label:
                axis.add_patch(
                    Rectangle((last - 0.5, first - 0.5), 1, 1, fill=False, edgecolor="tab:blue", linewidth=1.4)
                )
        gloss = GLOSSES.get(label, label if label.isascii() else f"label {list(labels).index(label)}")
        axis.set_title(gloss if font is None else f"{label}  {gloss}", **text)
        if font is None:
            step = 1 if n <= 30 else 5
            axis.set_xticks(range(0, n, step))
            axis.set_yticks(range(0, n, step))
            axis.tick_params(labelsize=6)
        else:
            axis.set_xticks(range(n), tokens, **text, fontsize=7)
            axis.set_yticks(range(n), tokens, **text, fontsize=7)
        axis.set_xlabel("last token")
        axis.set_ylabel("first token")
    for axis in axes[len(drawn) :]:
        axis.set_axis_off()
    figure.colorbar(image, ax=axes.tolist(), label="score (above 0: an entity; frames: the true ones)", shrink=0.6)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return drawn
