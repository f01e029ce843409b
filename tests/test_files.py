"""The lock of a folder: who is refused, and that no death leaves it behind."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from kexue.errors import ConfigError
from kexue.files import folder_lock

pytest.importorskip("fcntl")

HOLDER = textwrap.dedent(
    """
    import sys
    from kexue.files import folder_lock

    with folder_lock(sys.argv[1]):
        print("held", flush=True)
        sys.stdin.readline()
    print("released", flush=True)
    sys.stdin.readline()
    """
)


@pytest.fixture
def holder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_another_process_is_refused(holder, tmp_path):
    with pytest.raises(ConfigError, match="another process works in"), folder_lock(tmp_path / "run"):
        pass
    with folder_lock(tmp_path / "other"):
        pass
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "released\n"
    with folder_lock(tmp_path / "run"):
        pass


def test_ends_with_sigkill(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with folder_lock(tmp_path / "run"):
        pass


def test_same_process_may_take_it_again(tmp_path):
    with folder_lock(tmp_path):
        with folder_lock(tmp_path / "." / ""):
            pass
        code = f"from kexue.files import folder_lock\nwith folder_lock({str(tmp_path)!r}): pass"
        inner = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert inner.returncode  # the inner block released nothing
        assert "another process works in" in inner.stderr
    subprocess.run([sys.executable, "-c", code], check=True)
