"""Pretraining that is killed again and again against the same run left alone: weights, optimizer, random states.

A tiny model is pretrained on a generated corpus in a process of its own (backend: KERAS_BACKEND), first without
disturbance. Then the same run is started in another folder and killed by SIGKILL, ``--kills`` times: in turns during a
step, during a validation and during the writing of a state, at a step and after a part of that phase that are drawn at
random. After each kill it is started anew. In the end every array of the two final states is compared bit by bit.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.report import arguments, publish, table

LETTERS = "天地玄黄宇宙洪荒日月盈昃辰宿列张"
PHASES = ("step", "validation", "saving")
SAVE_EVERY, VALID_EVERY = 2, 5


def corpus(folder: Path) -> Path:
    """Sentences in which each character follows from the last but one, some by chance."""
    rng = np.random.default_rng(0)

    def sentence() -> str:
        places = rng.integers(len(LETTERS), size=2).tolist()
        for i in range(int(rng.integers(4, 14))):
            places.append((places[i] + 1) % len(LETTERS) if rng.random() < 0.9 else int(rng.integers(len(LETTERS))))
        return "".join(LETTERS[i] for i in places) + "。"

    path = folder / "corpus.txt"
    documents = ("\n".join(sentence() for _ in range(5)) for _ in range(400))
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


def tokenizer() -> object:
    from kexue.text import Tokenizer

    return Tokenizer.from_vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, "。"])


def child(folder: Path, shards: Path, steps: int, objective: str) -> None:
    """The run itself; says on its standard output where it is."""
    import keras

    from kexue.models import TransformerConfig
    from kexue.tasks import Pretrainer
    from kexue.training.resume import Resume

    class Report(keras.callbacks.Callback):
        step = 0

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.offset = batches.start
            self.epoch = epoch

        def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
            self.step = self.epoch * VALID_EVERY + self.offset + batch
            self.say("step")

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:
            self.step += 1
            self.say("done")

        def on_test_begin(self, logs: object = None) -> None:
            self.say("validation")

        def on_test_end(self, logs: object = None) -> None:
            self.say("done")

        def say(self, phase: str) -> None:
            print(phase, self.step, flush=True)

    report = Report()
    save = Resume.save

    def reported(self: Resume, *arguments: object) -> None:
        report.say("saving")
        save(self, *arguments)
        report.say("done")

    Resume.save = reported
    tokens = tokenizer()
    config = TransformerConfig(
        family="roformer",
        position="rotary",
        vocabulary_size=len(tokens),
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        max_length=32,
    )
    trainer = Pretrainer(config, tokens, objective=objective, length=32)
    make = trainer._batches

    def remembered(*arguments: object, **options: object) -> object:
        nonlocal batches
        made = make(*arguments, **options)
        batches = batches or made  # those of the training come first
        return made

    batches = None
    trainer._batches = remembered
    trainer.fit(
        shards,
        steps=steps,
        batch_size=4,
        valid_every=VALID_EVERY,
        valid_rows=16,
        save_every=SAVE_EVERY,
        ema=0.9,
        folder=folder,
        log_every=None,
        callbacks=[report],
        verbose=0,
    )


class Process:
    """A run in a process of its own."""

    def __init__(self, folder: Path, shards: Path, steps: int, objective: str) -> None:
        command = [sys.executable, "-m", "benchmarks.kills", "--child", str(folder), "--shards", str(shards)]
        command += ["--steps", str(steps), "--objective", objective]
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  closed by `end`
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def events(self) -> object:
        """``(seconds, phase, step)`` as they come."""
        for line in self.process.stdout:
            phase, _, step = line.strip().partition(" ")
            if step.isdigit():
                yield time.perf_counter(), phase, int(step)

    def kill(self) -> bool:
        """False: it had ended before."""
        alive = self.process.poll() is None
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        self.errors.close()
        return alive and self.process.returncode == -signal.SIGKILL

    def end(self) -> None:
        """Wait for the end, which must be a good one."""
        self.process.communicate()
        if self.process.returncode:
            self.errors.seek(0)
            raise SystemExit(f"the run failed with {self.process.returncode}:\n{self.errors.read()[-3000:]}")
        self.errors.close()


def durations(run: Process) -> dict[str, float]:
    """Median seconds of each phase of a run that is left alone."""
    found: dict[str, list[float]] = {phase: [] for phase in PHASES}
    before = None
    for event in run.events():
        if before is not None and before[1] in found:
            found[before[1]].append(event[0] - before[0])
        before = event
    run.end()
    return {phase: float(np.median(values)) for phase, values in found.items()}


def killed(make: object, kills: int, steps: int, seconds: dict[str, float], seed: int) -> list[tuple[object, ...]]:
    """Kill the run again and again, then let it end; a row for each kill."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[object, ...]] = []
    last = steps - 2 * VALID_EVERY
    while len(rows) < kills:
        number = len(rows)
        phase = PHASES[number % len(PHASES)]
        threshold = int((number + rng.random()) / kills * last)
        wait = float(rng.uniform(0, seconds[phase]))
        run = make()
        for _, now, step in run.events():
            if now == phase and step >= threshold:
                break
        time.sleep(wait)
        if not run.kill():
            raise SystemExit("a run ended before it could be killed; give more --steps")
        rows.append((number + 1, step, phase, f"{1000 * wait:.1f}"))
        print(f"kill {number + 1}: step {step}, during {phase}, {1000 * wait:.1f} ms into it", flush=True)
    run = make()
    run.end()
    return rows


def final(folder: Path) -> dict[str, np.ndarray]:
    """All arrays of the state that a finished run left."""
    from kexue.checkpoints import open_checkpoint

    state = json.loads((folder / "state/state.json").read_text(encoding="utf-8"))
    if not state["finished"]:
        raise SystemExit(f"the run in {folder} is not finished")
    arrays = {}
    for name, file in state["files"].items():
        with open_checkpoint(folder / "state" / file) as checkpoint:
            arrays |= {f"{name}.{key}": np.array(checkpoint[key]) for key in checkpoint.names()}
    return arrays


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, help="of the run; by default six times the kills and 20")
    parser.add_argument("--objective", default="mlm=0.5,clm=0.25,unilm=0.25")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--child", type=Path, help="used by the benchmark itself")
    parser.add_argument("--shards", type=Path, help="used by the benchmark itself")
    options = parser.parse_args()
    if options.child:
        import kexue  # noqa: F401  chooses the backend

        child(options.child, options.shards, options.steps, options.objective)
        return 0
    from kexue.text.corpus import build_shards

    steps = options.steps or 6 * options.kills + 20
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_shards({"text": corpus(folder)}, tokenizer(), folder / "shards", holdout=0.1, progress=False)

        def start(run: str) -> Process:
            return Process(folder / run, folder / "shards", steps, options.objective)

        seconds = durations(start("whole"))
        rows = killed(lambda: start("killed"), options.kills, steps, seconds, options.seed)
        whole, other = final(folder / "whole"), final(folder / "killed")
    same = [key for key in whole if key in other and whole[key].tobytes() == other[key].tobytes()]
    equal = len(same) == len(whole) == len(other)
    values = sum(array.size for array in whole.values())
    body = (
        f"Keras backend {os.environ.get('KERAS_BACKEND', 'jax')}, objective {options.objective}, {steps} steps, a "
        f"state every {SAVE_EVERY}, a validation every {VALID_EVERY}. Final states (weights, their average, optimizer, "
        f"random states, metrics): {len(same)} of {len(whole)} arrays ({values:,} values) equal bit by bit.\n\n"
    ) + table(("kill", "at step", "during", "ms into it"), rows)
    title = f"A run killed {options.kills} times"
    publish("kills", title, f"python -m benchmarks.kills --kills {options.kills}", body, options.write)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
