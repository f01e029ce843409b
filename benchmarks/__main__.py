"""Run all benchmarks one after the other and write ``RESULTS.md``: ``python -m benchmarks`` (an hour or more)."""

import subprocess
import sys

NAMES = (
    "startup",
    "parity",
    "corruption",
    "speed",
    "performer",
    "long",
    "packing",
    "pretraining",
    "kills",
    "ner_speed",
    "ner_heads",
    "geometry",
    "geodesics",
    "corpora",
    "loading",
    "decoding",
)


def main() -> int:
    failed = [name for name in NAMES if subprocess.call([sys.executable, "-m", f"benchmarks.{name}", "--write"]) != 0]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
