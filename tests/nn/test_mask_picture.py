"""Pictures of masks."""

import numpy as np
import pytest

from kexue.errors import ConfigError
from kexue.nn.mask_picture import draw, show
from kexue.nn.masks import Causal, Permuted, Prefix, Window


def test_show_draws_queries_as_lines():
    assert show(Causal(), 3) == "■ · ·\n■ ■ ·\n■ ■ ■"
    assert show(Window(0, 1), 3) == "■ ■ ·\n· ■ ■\n· · ■"
    assert show(Prefix(), segment_ids=np.array([[0, 0, 1]])) == "■ ■ ·\n■ ■ ·\n■ ■ ■"


def test_show_with_labels_and_rows():
    text = show(Causal(), 2, labels=["上", "海"])
    assert text == "上\t■ ·\n海\t■ ■"
    padding = np.array([[1, 1], [1, 0]])
    assert show(Causal(), padding_mask=padding, row=1) == "■ ·\n■ ·"
    assert show(Causal(), 3, query_length=1, query_offset=2, labels=["海"]) == "海\t■ ■ ■"


def test_show_errors():
    with pytest.raises(ConfigError, match="labels"):
        show(Causal(), 2, labels=["a"])
    with pytest.raises(ConfigError, match="row=1"):
        show(Causal(), 2, row=1)
    with pytest.raises(ConfigError, match="order"):
        show(Permuted(), 2)


def test_draw(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ax = draw(Causal(), 4, labels=list("abcd"))
    np.testing.assert_array_equal(ax.images[0].get_array(), np.tril(np.ones((4, 4))))
    assert [t.get_text() for t in ax.get_xticklabels()] == list("abcd")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key", "query")
    ax.figure.savefig(tmp_path / "mask.png")
    assert (tmp_path / "mask.png").stat().st_size > 1000
    _, mine = plt.subplots()
    assert draw(Causal(), 3, ax=mine, query_length=1, query_offset=2, labels=list("abc")) is mine
    assert [t.get_text() for t in mine.get_yticklabels()] == ["c"]
    with pytest.raises(ConfigError, match="labels"):
        draw(Causal(), 3, labels=["a"])
    plt.close("all")
