"""The package as a whole: a light import, the choice of the backend, errors, files that are never half written."""

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import kexue
from kexue import errors, files

HEAVY = ("keras", "jax", "jaxlib", "torch", "tensorflow", "numpy", "scipy", "transformers", "tokenizers", "matplotlib")


def run_python(code, home, **changes):
    """Run ``code`` in a new process without the user's Keras settings; None in ``changes`` unsets a variable."""
    env = {k: v for k, v in os.environ.items() if k not in {"KERAS_BACKEND", "KERAS_HOME"}}
    source = str(Path(kexue.__file__).parents[1])
    env |= {"HOME": str(home), "USERPROFILE": str(home), "PYTHONPATH": source}
    env |= {k: str(v) for k, v in changes.items()}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Import.


@pytest.mark.parametrize("module", ["kexue", "kexue.errors", "kexue.files", "kexue.demo.notices"])
def test_import_is_light(module, tmp_path):
    code = f"import sys, {module}; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    assert run_python(code, tmp_path) == "[]"


@pytest.mark.parametrize("module", ["kexue.text", "kexue.checkpoints"])
def test_text_and_formats_need_no_framework(module, tmp_path):
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {{'keras', 'jax', 'torch', 'tensorflow'}}))"
    assert run_python(code, tmp_path) == "[]"


def test_version_is_that_of_the_installed_package():
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("kexue")
    except PackageNotFoundError:
        pytest.skip("kexue is on the path but not installed")
    assert kexue.__version__ == installed


# Choice of the backend.

SHOW = "import kexue, os; print(os.environ.get('KERAS_BACKEND'))"


def test_jax_is_the_default(tmp_path):
    assert run_python(SHOW, tmp_path) == "jax"
    assert run_python("import kexue, keras; print(keras.backend.backend())", tmp_path) == "jax"


@pytest.mark.parametrize("backend", ["torch", "tensorflow", "numpy"])
def test_the_environment_variable_wins(backend, tmp_path):
    assert run_python(SHOW, tmp_path, KERAS_BACKEND=backend) == backend
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps({"backend": "jax"}))
    assert run_python(SHOW, tmp_path, KERAS_BACKEND=backend) == backend


def test_a_keras_configuration_file_is_respected(tmp_path):
    folder = tmp_path / ".keras"
    folder.mkdir()
    (folder / "keras.json").write_text(json.dumps({"backend": "numpy"}))
    assert run_python(SHOW, tmp_path) == "None"
    assert run_python("import kexue, keras; print(keras.backend.backend())", tmp_path) == "numpy"


def test_the_file_that_keras_writes_by_itself_is_no_decision(tmp_path):
    # The first import of Keras leaves a file behind that names TensorFlow, whatever backend is in use.
    show = "import kexue, keras; print(keras.backend.backend())"
    assert run_python(show, tmp_path) == "jax"
    assert run_python(show, tmp_path) == "jax"
    (tmp_path / ".keras").mkdir(exist_ok=True)
    for content in ('{"backend": "tensorflow"}', "not json", "[]", "{}"):
        (tmp_path / ".keras" / "keras.json").write_text(content)
        assert run_python(SHOW, tmp_path) == "jax"


def test_a_keras_configuration_file_in_keras_home_is_respected(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "keras.json").write_text(json.dumps({"backend": "numpy"}))
    home = tmp_path / "home"
    home.mkdir()
    assert run_python(SHOW, home, KERAS_HOME=tmp_path / "elsewhere") == "None"
    assert run_python(SHOW, home, KERAS_HOME=tmp_path / "nowhere") == "jax"


def test_an_imported_keras_is_respected(tmp_path):
    code = "import sys, types; sys.modules['keras'] = types.ModuleType('keras')\n" + SHOW
    assert run_python(code, tmp_path) == "None"


# Errors.


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_are_value_errors(name):
    error = getattr(errors, name)
    assert issubclass(error, errors.KexueError)
    with pytest.raises(ValueError, match="expected 2, received 3"):
        raise error("expected 2, received 3")


# Files.


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_atomic_write_replaces_a_file_and_makes_folders(tmp_path):
    target = tmp_path / "a" / "b.txt"
    for text in ("first", "second"):
        with files.atomic_write(target) as path:
            assert path.parent == target.parent  # a rename across file systems would not be atomic
            path.write_text(text)
            assert not target.exists() or target.read_text() == "first"
        assert target.read_text() == text
        assert names(target.parent) == ["b.txt"]


def test_an_error_inside_atomic_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def write():
        with files.atomic_write(target) as path:
            path.write_text("half of the n")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_files_follow_the_umask(tmp_path, umask):
    with files.atomic_write(tmp_path / "file") as path:
        path.write_text("x")
    assert mode(tmp_path / "file") == 0o666 & ~umask
    with files.atomic_folder(tmp_path / "folder"):
        pass
    assert mode(tmp_path / "folder") == 0o777 & ~umask
    assert os.umask(umask) == umask


def test_atomic_folder_replaces_its_files_and_keeps_others(tmp_path):
    target = tmp_path / "deep" / "model"
    for content, expected in (
        (["config.json", "weights"], ["config.json", "weights"]),
        (["config.json", "vocab.txt"], ["config.json", "vocab.txt", "weights"]),
    ):
        with files.atomic_folder(target, last="config.json") as folder:
            for name in content:
                (folder / name).write_text(" ".join(content))
        assert names(target) == sorted(expected)
        assert names(target.parent) == ["model"]
    assert (target / "config.json").read_text() == "config.json vocab.txt"
    assert (target / "weights").read_text() == "config.json weights"


def test_atomic_folder_puts_the_named_file_last(tmp_path, monkeypatch):
    target = tmp_path / "model"
    target.mkdir()
    order, replace = [], files.os.replace

    def record(source, place):
        order.append(Path(place).name)
        replace(source, place)

    monkeypatch.setattr(files.os, "replace", record)
    with files.atomic_folder(target, last="config.json") as folder:
        for name in ("a", "config.json", "weights"):
            (folder / name).write_text(name)
    assert order == ["a", "weights", "config.json"]


def test_atomic_folder_refuses_a_file(tmp_path):
    (tmp_path / "model").write_text("not a folder")
    with pytest.raises(FileExistsError, match="is a file"), files.atomic_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text() == "not a folder"


def test_an_error_inside_atomic_folder_leaves_the_old_folder(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "weights").write_text("old")

    def write():
        with files.atomic_folder(target) as folder:
            (folder / "weights").write_text("new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write()
    assert (target / "weights").read_text() == "old"
    assert names(tmp_path) == ["model"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("kind", ["atomic_write", "atomic_folder"])
def test_a_kill_in_the_middle_leaves_the_old_content(kind, tmp_path):
    target = tmp_path / "target"
    inner = target if kind == "atomic_write" else target / "weights"
    inner.parent.mkdir(exist_ok=True)
    inner.write_text("old")
    code = f"""
        import sys, time
        from kexue.files import {kind}
        with {kind}({str(target)!r}) as path:
            file = open(path if {kind!r} == "atomic_write" else path / "weights", "w")
            file.write("half of the n")
            file.flush()
            print("writing", flush=True)
            time.sleep(60)
    """
    env = {**os.environ, "PYTHONPATH": str(Path(kexue.__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, env=env)
    assert process.stdout.readline() == b"writing\n"
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    assert inner.read_text() == "old"
    # What the dead process left must not be in the way of the next one.
    with getattr(files, kind)(target) as path:
        (path if kind == "atomic_write" else path / "weights").write_text("new")
    assert inner.read_text() == "new"
