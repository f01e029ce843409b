"""The data of the worked examples: what is tested was neither trained on nor seen in the pretraining."""

import sys
from pathlib import Path

import numpy as np
import pytest

from kexue.text.corpus import held_out

FOLDER = Path(__file__).parents[2] / "examples" / "seq2seq"


@pytest.fixture
def examples(monkeypatch):
    """The scripts as modules."""
    for name in ("common", "classical", "titles", "couplets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))

    def get(name):
        import importlib

        return importlib.import_module(name)

    return get


def test_classical_pairs_are_apart(examples, monkeypatch):
    """Test and validation: held out in the pretraining, of later books, neither side twice in the corpus."""
    classical = examples("classical")
    rng = np.random.default_rng(0)
    documents = [[f"古{n}", f"今{n}"] for n in range(60_000)]
    for twice in rng.integers(0, 60_000, 20_000):  # repeated sides, as refrains are
        documents[twice][rng.integers(2)] = "再"
    monkeypatch.setattr(classical, "read_corpus", lambda path: iter(documents))
    monkeypatch.setattr(classical, "TRAIN", 3000)
    parts = classical.data(Path("anywhere"))
    assert len(parts.train) == 3000
    places = [[int((p["source"] if p["source"] != "再" else p["target"])[1:] or 0) for p in part] for part in parts[1:]]
    for part, (first, last), held in zip(parts[1:], ((42_000, 48_000), (48_000, 60_000)), places, strict=True):
        assert len(part) > 10
        assert all(first <= n < last and held_out(0, "classical_modern", n, 0.005) for n in held)
        assert all("再" not in pair.values() for pair in part)
    wanted = [n for n in range(48_000, 60_000) if held_out(0, "classical_modern", n, 0.005)]
    assert set(places[1]) == {n for n in wanted if "再" not in documents[n]}
    sides = {text for pair in parts.train for text in pair.values()}
    assert not sides & {text for part in parts[1:] for pair in part for text in pair.values()}
    assert max(int(p["source"][1:] or 0) for p in parts.train if p["source"] != "再") < 42_000


def test_couplets_are_apart(examples, tmp_path):
    folder = tmp_path / "seq" / "couplet" / "test"
    folder.mkdir(parents=True)
    for name in ("in", "out"):
        (folder / f"{name}.txt").write_text("".join(f"{name} {n} \n" for n in range(900)), encoding="utf-8")
    parts = examples("couplets").data(tmp_path)
    assert [len(part) for part in parts] == [100, 300, 500]
    assert parts.test[-1] == {"source": "in899", "target": "out899"}
    assert parts.train[-1]["source"] == "in99"


def test_trivial_titles(examples):
    assert examples("titles").trivial("目的:了解情况.方法:分析") == "目的"
    assert examples("titles").trivial("无标点") == "无标点"
