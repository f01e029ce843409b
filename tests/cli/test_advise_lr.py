"""The command ``kexue advise-lr``."""

import csv
import json
import math

import numpy as np
import pytest

from kexue.training.batch_size import NoiseLog, surge
from kexue.training.batch_size.advice import advise

NORM2, TRACE = 2.0, 1000.0  # noise scale 500


def write_run(path, batch=64, parts=4, steps=400, rate=1e-3, s_min=20, kappa2=500.0, seed=0):
    """A log as the noise of these numbers gives it; the loss falls as the steps against samples law says."""
    rng = np.random.default_rng(seed)
    b = batch // parts
    log = NoiseLog(path)
    for step in range(1, steps + 1):
        log.append(
            {
                "step": step,
                "loss": math.exp(-step / (s_min * (1 + TRACE / NORM2 / batch))),
                "learning_rate": rate,
                "batch_size": batch,
                "micro_batch": b,
                "grad_norm2_micro": NORM2 + TRACE / b + rng.normal() * 0.1,
                "grad_norm2_full": NORM2 + TRACE / batch + rng.normal() * 0.1,
                "sign_agreement": 1 / (1 + math.pi * kappa2 / 2 / b) + rng.normal() * 0.002,
            }
        )
    log.close()
    return path


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run.csv")


def write_grid(path, laws, columns=("batch_size", "learning_rate", "loss")):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for batch, best in laws.items():
            for rate in best * np.array([0.2, 0.45, 0.8, 1.3, 2.2, 5]):
                row = {"batch_size": batch, "learning_rate": rate, "loss": 1 + math.log(rate / best) ** 2}
                writer.writerow([row[name] for name in columns])
    return path


def answer(command, *arguments):
    result = command("advise-lr", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_sgd_from_a_log(command, run):
    found = answer(command, run, "-b", 4000, "--optimizer", "sgd")
    assert found["learning_rate"] == pytest.approx(1e-3 * (1 + 500 / 64) / (1 + 500 / 4000), rel=0.05)
    assert found["interval"][0] < found["learning_rate"] < found["interval"][1]
    assert found["noise"]["noise_scale"] == pytest.approx(500, rel=0.05)
    assert found["critical_batch"] == found["noise"]["noise_scale"]
    assert found["regime"] == "saturated"
    assert answer(command, run, "-b", 32, "--optimizer", "sgd")["regime"] == "linear"


def test_adam_from_a_log(command, run):
    found = answer(command, run, "-b", 1024)
    law = surge(math.inf, 500)
    assert found["learning_rate"] == pytest.approx(1e-3 * law.rate(1024) / law.rate(64), rel=0.05)
    assert found["peak_batch"] is None
    known = answer(command, run, "-b", 1024, "--beta-noise", 0.5)
    law = surge(0.5, 500)
    assert known["learning_rate"] == pytest.approx(1e-3 * law.rate(1024) / law.rate(64), rel=0.05)
    assert known["peak_batch"] == pytest.approx(law.b_noise, rel=0.05)
    assert known["critical_batch"] == pytest.approx(law.b_2, rel=0.05)
    assert known["regime"] == "past the optimum"


def test_log_without_signs_takes_the_noise_scale(command, run, tmp_path):
    lines = [line.rsplit(",", 1)[0] for line in run.read_text(encoding="utf-8").splitlines()]
    path = tmp_path / "pretrain.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    found = answer(command, path, "-b", 1024)
    assert found["noise"]["kappa2"] == found["noise"]["noise_scale"] == found["scale"]


def test_grids_fit_the_law(command, run, tmp_path):
    law = surge(0.6, 500, 0.01)
    grid = write_grid(tmp_path / "grid.csv", {b: float(law.rate(b)) for b in (16, 128, 1024)})
    found = answer(command, run, "-b", 8192, "--grid", grid)
    assert found["beta_noise"] == pytest.approx(0.6, rel=0.1)
    assert found["learning_rate"] == pytest.approx(float(law.rate(8192)), rel=0.1)
    assert found["regime"] == "past the optimum"
    grid = write_grid(tmp_path / "sgd.csv", {b: 0.5 / (1 + 300 / b) for b in (16, 256)})
    found = answer(command, "-b", 4096, "--grid", grid, "--optimizer", "sgd")  # no log is needed
    assert found["critical_batch"] == pytest.approx(300, rel=0.05)
    assert found["learning_rate"] == pytest.approx(0.5 / (1 + 300 / 4096), rel=0.05)


def test_grid_at_one_batch_is_the_base(command, run, tmp_path):
    grid = write_grid(tmp_path / "grid.csv", {64: 0.02}, ("learning_rate", "loss"))
    found = answer(command, run, "-b", 64, "--grid", grid)
    assert found["base"] == pytest.approx([64, 0.02], rel=0.05)
    assert found["learning_rate"] == pytest.approx(0.02, rel=0.05)
    assert not any("largest learning rate" in line for line in found["text"])


def test_steps_against_samples(command, tmp_path):
    paths = [write_run(tmp_path / f"{b}.jsonl", batch=b, steps=1500) for b in (64, 256, 1024)]
    found = answer(command, *paths, "-b", 512, "--optimizer", "sgd", "--target-loss", 0.1)["steps_samples"]
    assert found["b_noise"] == pytest.approx(500, rel=0.1)
    assert found["s_min"] == pytest.approx(20 * math.log(10), rel=0.1)


def test_text_and_picture(command, run, tmp_path):
    picture = tmp_path / "advice.png"
    result = command("advise-lr", run, "-b", 4000, "--plot", picture)
    assert result.exit_code == 0
    assert "saturated" in result.stdout
    assert "beta_noise is not known" in result.stdout
    from matplotlib.image import imread

    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(np.unique(imread(picture))) > 20


def test_advice_at_the_base_is_the_base(run):
    log = NoiseLog.read(run)
    for optimizer in ("adam", "sgd"):
        advice = advise([log], target_batch=64, optimizer=optimizer)
        assert advice.learning_rate == pytest.approx(1e-3)
        assert advice.rate(64) == pytest.approx(1e-3)


def test_no_gradient_above_the_noise(tmp_path, command):
    """The scale is infinite, and the laws are their limits of small batches."""
    log = NoiseLog(tmp_path / "run.csv")
    for step in range(1, 30):
        log.append({"step": step, "loss": 1, "learning_rate": 0.1, "batch_size": 4, "micro_batch": 1}
                   | {"grad_norm2_micro": 8, "grad_norm2_full": 1.9 + step % 2 * 0.05})  # fmt: skip
    log.close()
    found = answer(command, tmp_path / "run.csv", "-b", 16, "--optimizer", "sgd")
    assert found["learning_rate"] == pytest.approx(0.4)
    assert found["critical_batch"] is None
    assert answer(command, tmp_path / "run.csv", "-b", 16)["learning_rate"] == pytest.approx(0.2)


def test_mistakes(mistake, run, tmp_path):
    assert "--target-batch" in mistake("advise-lr", run)
    assert "log of a run, a grid" in mistake("advise-lr", "-b", 8)
    assert "target_batch must be a positive number" in mistake("advise-lr", run, "-b", -8)
    assert "'adam' or 'sgd'" in mistake("advise-lr", run, "-b", 8, "--optimizer", "lamb")
    assert "skip must be in [0, 1)" in mistake("advise-lr", run, "-b", 8, "--skip", 1)
    assert "--plot writes PNG" in mistake("advise-lr", run, "-b", 8, "--plot", "a.pdf")
    assert "beta_noise must be" in mistake("advise-lr", run, "-b", 8, "--beta-noise", -1)
    assert "No such file" in mistake("advise-lr", tmp_path / "none.csv", "-b", 8)
    grid = write_grid(tmp_path / "grid.csv", {16: 0.01, 128: 0.02})
    assert "beta_noise must be" in mistake("advise-lr", run, "-b", 8, "--grid", grid, "--beta-noise", 0)
    for text, message in [
        ("learning_rate,loss\n0.1,1\n", "missing columns batch_size"),
        ("batch_size,learning_rate,loss\n8,0,1\n", ":2: learning_rate and batch_size must be positive"),
        ("batch_size,learning_rate,loss\n8,0.1,1\n8,0.1,2\n", ":3: the learning rate 0.1 stands twice"),
        ("batch_size,learning_rate,loss\n8,0.1,nan\n", "finite loss"),
        ("batch_size,learning_rate,loss\n8,0.1,1\n", "a grid alone"),
    ]:
        grid.write_text(text, encoding="utf-8")
        assert message in mistake("advise-lr", "-b", 8, "--grid", grid)
