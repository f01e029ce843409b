"""The demonstration: its figures, its picture, and one small run of the whole."""

import json
import sys

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from kexue.demo.__main__ import _chosen, demo, main, table
from kexue.demo.comparison import HEADS, Result, inner_recall
from kexue.demo.picture import chinese_font, draw


def spans(*triples):
    return [{"start": a, "end": b, "label": c} for a, b, c in triples]


def test_inner_recall_counts_only_entities_inside_others():
    gold = [
        spans((0, 5, "机构"), (0, 2, "地点"), (7, 9, "地点")),
        spans((0, 4, "路线"), (0, 1, "地点"), (3, 4, "地点")),
    ]
    assert inner_recall(gold, gold) == 1
    outer = [spans((0, 5, "机构"), (7, 9, "地点")), spans((0, 4, "路线"))]
    assert inner_recall(outer, gold) == 0
    some = [spans((0, 2, "地点")), spans((3, 4, "机构"))]  # one of three; the label counts
    assert inner_recall(some, gold) == pytest.approx(1 / 3)
    assert inner_recall([[]], [spans((0, 1, "地点"))]) == 0


def test_heads_are_checked():
    assert _chosen(None, HEADS) == list(HEADS)
    assert _chosen("crf, softmax,crf", HEADS) == ["crf", "softmax"]
    for wrong in ("biaffine", "", "crf,biaffine"):
        with pytest.raises(typer.BadParameter, match="global_pointer"):
            _chosen(wrong, HEADS)


def test_table_has_a_line_a_head():
    rows = [Result(head, None, 0.5, 0.25, 1 / 3, 0.125, 12.3, 456.7) for head in HEADS]
    lines = table(rows).splitlines()
    assert [line.split()[0] for line in lines[1:-1]] == list(HEADS)
    assert lines[1].split()[1:] == ["0.5000", "0.2500", "0.3333", "12.5%", "12.3", "457"]


def test_a_font_is_only_taken_if_it_has_the_characters():
    pytest.importorskip("matplotlib")
    latin = chinese_font("abc")  # matplotlib brings DejaVu
    assert latin is not None
    assert "lastresort" not in latin.lower()
    font = chinese_font("青阳气象局")
    if font is not None:
        from matplotlib.ft2font import FT2Font

        assert {ord(c) for c in "青阳气象局"} <= set(FT2Font(font).get_charmap())
        assert "lastresort" not in font.lower()
    assert chinese_font("\U0010fffd") is None  # private use: only a font of last resort claims it


@pytest.mark.filterwarnings("error")  # matplotlib warns of each character that a font lacks
def test_picture(tmp_path):
    pytest.importorskip("matplotlib")
    scores = np.full((3, 6, 6), -20.0, "float32")
    scores[1, 0, 1] = 5
    tokens = list("青阳有暴雨。")
    drawn = draw(tmp_path / "a" / "x.png", tokens, scores, ["机构", "地点", "天气"], gold=[(3, 4, "天气")])
    assert drawn == ["天气", "地点"]  # what is true first, then what was found; nothing of the third
    assert (tmp_path / "a" / "x.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_whole(tmp_path):
    pytest.importorskip("matplotlib")
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(demo)
    options = ["--heads", "efficient_global_pointer", "--epochs", "1", "--sentences", "64", "--text", "青阳今天有雨。"]
    result = CliRunner().invoke(app, [*options, "--output", str(tmp_path / "out")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "efficient_global_pointer" in result.stdout
    assert "青阳今天有雨。" in result.stdout
    assert (tmp_path / "out" / "pointer_scores.png").stat().st_size > 10_000
    task = json.loads((tmp_path / "out" / "task" / "task.json").read_text())
    assert task["head"] == "efficient_global_pointer"


def test_wrong_options_exit_2(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for options in (["--heads", "biaffine"], ["--output", str(tmp_path / "file")], ["--sentences", "many"]):
        monkeypatch.setattr(sys, "argv", ["demo", *options])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 2
        assert "Traceback" not in capsys.readouterr().err
