"""The measures and pictures of `examples/conditional`."""

import numpy as np
import pytest
from examples.conditional import sentiment, shapes


def test_variety() -> None:
    """Counted by hand: characters, pairs, repeated fours, copied tens."""
    found = sentiment.variety(["abab", "abcdabcd", "0123456789"], {"0123456789"})
    assert found["characters"] == pytest.approx(22 / 3)
    assert found["distinct-1"] == 14 / 22
    assert found["distinct-2"] == (5 + 9) / (3 + 7 + 9)  # ab ba bc cd da, and those of the digits
    assert found["repeating"] == pytest.approx(1 / 3)
    assert found["copied"] == 1.0


def test_pictures_show_what_captions_say() -> None:
    """The colour lies in the part of the canvas that the caption names; larger shapes cover more."""
    covered: dict[str, list[int]] = {"small": [], "large": []}
    for attributes in shapes.COMBINATIONS:
        colour, _, size, (row, column) = attributes
        image = shapes.draw(attributes, np.random.default_rng(0))
        tint = np.array(shapes.COLOURS[colour])
        near = np.linalg.norm(image - tint, axis=-1) < 0.3
        y, x = np.argwhere(near).mean(0)
        assert (y < 16) == (row == "top")
        assert (x < 16) == (column == "left")
        covered[size].append(int(near.sum()))
        words = shapes.caption(attributes, "en").split()
        assert {colour, size, row, column} <= set(words)
    assert np.mean(covered["large"]) > 2 * np.mean(covered["small"])
    assert len({shapes.caption(one, "zh") for one in shapes.COMBINATIONS}) == len(shapes.COMBINATIONS)
