"""Seconds of ``import kexue`` and ``kexue --help``, each in processes of their own."""

import subprocess
import sys
import time

from benchmarks.report import arguments, median, publish, table


def main() -> None:
    options = arguments(__doc__).parse_args()
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import kexue'": [sys.executable, "-c", "import kexue"],
        "kexue --help": [sys.executable, "-m", "kexue.cli", "--help"],
    }
    rows = []
    for name, command in commands.items():
        seconds = []
        for _ in range(11):
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            seconds.append(time.perf_counter() - start)
        rows.append((f"`{name}`", f"{median(seconds):.3f}", f"{max(seconds):.3f}"))
    body = "Whole process, the interpreter's own start included.\n\n" + table(("command", "median s", "worst s"), rows)
    publish("startup", "Start-up", "python -m benchmarks.startup", body, options.write)


if __name__ == "__main__":
    main()
