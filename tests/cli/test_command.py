"""The command as a whole: light import, version, help, exit codes, errors as one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import kexue
from kexue.cli._common import write_json
from kexue.errors import DataError

HEAVY = {"keras", "jax", "torch", "tensorflow", "numpy", "tokenizers", "safetensors", "matplotlib"}


def run(*arguments, stdin=None, **changes):
    """A process of its own."""
    env = dict(os.environ) | {"PYTHONPATH": str(Path(kexue.__file__).parents[1])} | changes
    command = [sys.executable, "-m", "kexue.cli", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, env=env, check=False)


@pytest.mark.parametrize("module", ["kexue.cli", "kexue.cli.__main__", "kexue.demo.__main__"])
def test_nothing_heavy_is_imported(module):
    code = f"import sys, {module}; print(sorted({HEAVY!r} & set(sys.modules)))"
    env = dict(os.environ) | {"PYTHONPATH": str(Path(kexue.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip() == "[]"


def test_help_imports_nothing_heavy_either():
    code = (
        "import sys\nfrom kexue.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit as e: assert e.code == 0\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    env = dict(os.environ) | {"PYTHONPATH": str(Path(kexue.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_version_and_help(command):
    assert command("--version").stdout == f"kexue {kexue.__version__}\n"
    for name in ("train ner", "evaluate", "predict", "convert", "inspect"):
        result = command(*name.split(), "--help")
        assert result.exit_code == 0
        assert "Example" in result.stdout


def test_usage_errors_exit_2(command):
    for arguments in (["frobnicate"], ["inspect"], ["convert", "a", "b"], ["convert", "a", "b", "--to", "onnx"]):
        result = command(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stdout == ""
        assert "Traceback" not in result.stderr


def test_a_process_ends_with_one_line(tmp_path):
    done = run("inspect", tmp_path / "none")
    assert done.returncode == 2
    assert done.stdout == b""
    line = done.stderr.decode().strip().splitlines()[-1]
    assert line.startswith("Error: ")
    assert b"Traceback" not in done.stderr
    done = run("inspect", tmp_path / "none", KEXUE_DEBUG="1")
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert b"CheckpointError" in done.stderr


def test_an_unknown_backend_is_a_mistake(tmp_path):
    done = run("inspect", tmp_path, KERAS_BACKEND="abacus")
    assert done.returncode == 2
    assert b"abacus" in done.stderr
    assert b"Traceback" not in done.stderr


def guarded_exit(error):
    from kexue.cli._common import guarded

    @guarded
    def command():
        raise error

    with pytest.raises(typer.Exit) as caught:
        command()
    return caught.value.exit_code


def test_exit_codes(capsys):
    assert guarded_exit(DataError("line 1\n  of two")) == 2
    assert capsys.readouterr().err == "Error: line 1 of two\n"
    assert guarded_exit(PermissionError(13, "Permission denied", "x.json")) == 2
    assert capsys.readouterr().err == "Error: x.json: Permission denied\n"
    assert guarded_exit(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "Error: interrupted.\n"


@pytest.mark.parametrize("error", [RuntimeError("a defect"), ValueError("a defect"), OSError(5, "I/O error")])
def test_defects_are_not_hidden(error):
    from kexue.cli._common import guarded

    @guarded
    def command():
        raise error

    with pytest.raises(type(error)):
        command()


def test_files_hold_json_that_everyone_reads(tmp_path):
    """Python would write NaN, which is no JSON."""
    write_json(tmp_path / "a.json", {"scale": [1.5, float("inf"), (float("nan"), 2)], "名": True})
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found == {"scale": [1.5, None, [None, 2]], "名": True}


INTERRUPTED = """
import gc, signal, sys, time
from kexue.cli._common import guarded

signal.signal(signal.SIGINT, signal.default_int_handler)  # a process of tests may hand down that it is ignored
sent = []

def interrupted(*_):
    if not sent:
        sent.append(True)
        signal.raise_signal(signal.SIGINT)

class Waste:
    def __del__(self):
        interrupted()

@guarded
def command():
    if sys.argv[1] == "callback":
        gc.callbacks.append(interrupted)
    else:
        waste = Waste()
        waste.itself = waste
        del waste
    gc.collect()
    time.sleep(60)  # until the signal comes again
    print("slept on")

try:
    command()
except BaseException as error:
    print(type(error).__name__, getattr(error, "exit_code", None), bool(sent))
"""


@pytest.mark.parametrize("place", ["callback", "finalizer"])
def test_an_interrupt_inside_the_garbage_collector_is_not_lost(place):
    """Python drops what is raised there; libraries have such callbacks and finalizers."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, place], capture_output=True, text=True, check=False)
    assert done.stdout == "Exit 130 True\n"
    assert "Error: interrupted.\n" in done.stderr
