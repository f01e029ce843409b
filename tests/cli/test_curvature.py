"""The command ``kexue curvature``."""

import pytest
from typer.testing import CliRunner

pytest.importorskip("sympy")

from kexue.cli import app

KERR = """# Kerr
Sigma = r^2 + a^2*cos(theta)^2
Delta = r^2 - 2*M*r + a^2
ds² = -Delta/Sigma*(dt - a*sin(θ)²*dphi)² + Sigma*(dr²/Delta + dtheta²) + sin(theta)^2/Sigma*((r^2+a^2)*dphi - a*dt)^2
"""


def run(*arguments, text=None):
    return CliRunner().invoke(app, ["curvature", *arguments], input=text)


def test_line_element():
    result = run("dtheta^2 + sin(theta)^2*dphi^2", "--show", "christoffel,ricci,scalar")
    assert result.exit_code == 0
    assert "Gamma^theta_phi phi = -sin(theta)*cos(theta)" in result.stdout
    assert "\n2\n" in result.stdout
    assert "coordinates theta, phi" in result.stderr


def test_name_and_all_that_can_be_shown():
    listed = run("--show", "help")
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    result = run("schwarzschild", "--show", ",".join(names))
    assert result.exit_code == 0, result.output
    assert "48*M**2/r**6" in result.stdout
    assert "first = holds" in result.stdout


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_file_and_stdin(way, tmp_path):
    path = tmp_path / "kerr.txt"
    path.write_text(KERR, encoding="utf-8")
    result = (
        run(str(path), "--show", "ricci,petrov") if way == "file" else run("-", "--show", "ricci,petrov", text=KERR)
    )
    assert result.exit_code == 0, result.output
    assert "Ric = 0" in result.stdout
    assert "\nD\n" in result.stdout


def test_latex():
    result = run("schwarzschild", "--latex", "--show", "kretschmann")
    assert r"\frac{48 M^{2}}{r^{6}}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["keer"], "Did you mean kerr"),
        (["dx^2 + ("], "ends early"),
        (["dx^2 + 2*dx*dy + dy^2"], "degenerate"),
        (["dx^2 + dy^3"], "quadratic"),
        (["sphere", "--show", "weyl"], "3 dimensions"),
        (["sphere", "--show", "nonsense"], "nonsense"),
        (["sphere", "--basis", "odd"], "basis"),
        (["sphere", "--conventions", "mine"], "mtw"),
        ([], "catalogue"),
        (["1 + 1"], "differentials"),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_catalogue_is_listed():
    result = run("--list")
    assert "kerr_newman" in result.stdout
    assert len(result.stdout.splitlines()) >= 30


@pytest.mark.parametrize(
    "arguments",
    [["-dt^2 + dx^2"], ["-(1-x)*dt^2+dx^2"], ["- dt dt + dx dx"], ["-dt² + dx²"], ["--basis", "frame", "-dt^2+dx^2"]],
)
def test_line_element_that_begins_with_a_minus(arguments):
    result = run(*arguments, "--show", "scalar")
    assert result.exit_code == 0, result.output
    assert "coordinates t, x" in result.stderr


def test_options_still_are_options():
    assert "METRIC_OR_NAME" in run("-h").stdout
    assert run("-zx", "kerr").exit_code == 2
    assert "coordinates y, x" in run("dx^2+dy^2", "-cy x", "--show", "scalar").stderr


def test_file_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "plane.txt"
    path.write_text("dx^2 + x^2*dy^2", encoding="utf-8-sig")
    assert run(str(path), "--show", "ricci").exit_code == 0


def test_what_would_be_ignored_is_refused(tmp_path):
    assert "has its own" in run("schwarzschild", "-c", "t r h p").stderr
    assert "no file" in run(str(tmp_path)).stderr


def test_latex_of_vectors_and_names():
    shown = run("dx^2 + dtheta^2", "--latex", "--show", "killing,invariants,connection").stdout
    assert r"\left(- \theta\right) \partial_{x} + \left(x\right) \partial_{\theta}" in shown
    assert r"R_{abcd} R^{abcd} = 0" in shown
    assert r"\omega^{1}{}_{2} = " in run("schwarzschild", "--latex", "--show", "connection").stdout
