"""The documented example of an encoding in user code runs, is short, and is what the page quotes."""

import ast
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tests.nn.harness import as_numpy

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "examples" / "own_position.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("own_position", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_class_is_short_and_quoted():
    source = SCRIPT.read_text(encoding="utf-8")
    node = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == "LogDistance")
    lines = source.splitlines()[node.decorator_list[0].lineno - 1 : node.end_lineno]
    assert len(lines) < 30
    assert "\n".join(lines) in (ROOT / "docs" / "positions.md").read_text(encoding="utf-8")


def test_the_script_runs(example, capsys):
    """Ten steps of training, a save and a load; tables end where they end, the encoding of our own does not."""
    results = example.main(examples=640, lengths=(32, 64))
    assert np.isfinite(results["own"]).all()
    assert np.isnan(results["learned"]).tolist() == [False, True]
    assert "own" in capsys.readouterr().out


def test_the_encoding(example, tmp_path):
    """Formula, shift, order, files."""
    encoding = example.LogDistance(heads=4)
    encoding.build()
    a, b = (np.log1p(np.exp(w.numpy() if hasattr(w, "numpy") else np.asarray(w))) for w in encoding.weights)
    near, far = np.array([[0, 1, 5]], "int32"), np.array([[100, 101, 105]], "int32")
    bias = as_numpy(encoding.tables(near, near)[0])
    distance = np.abs(near[:, None, :, None] - near[:, None, None, :])
    np.testing.assert_allclose(bias, -a * np.log(1 + b * distance), atol=1e-6)
    np.testing.assert_array_equal(bias, as_numpy(encoding.tables(far, far)[0]))
    model = example.make(encoding)
    ids, _ = example.texts(2, 9, seed=0)
    want = as_numpy(model(ids)["logits"])
    model.save_pretrained(tmp_path)
    again = example.Transformer.from_pretrained(tmp_path, head="lm")
    np.testing.assert_allclose(as_numpy(again(ids)["logits"]), want, atol=1e-6)
    assert {w.name for w in again.weights} >= {"a", "b"}
