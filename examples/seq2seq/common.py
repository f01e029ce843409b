"""What the scripts of this folder share: the arguments, the training, the scores."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import kexue  # noqa: F401  chooses the Keras backend before Keras is imported
from kexue.decoding import Beam, Greedy
from kexue.files import shipped
from kexue.models import Transformer
from kexue.tasks import Seq2Seq
from kexue.text import Tokenizer
from kexue.text.scores import score_texts

Pair = dict[str, str]


class Data(NamedTuple):
    """Pairs ``{"source": str, "target": str}``."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]


def pairs_of(sides: Iterable[Sequence[str]]) -> list[Pair]:
    """Of tuples of two texts."""
    return [{"source": source, "target": target} for source, target in sides]


def trained(
    parts: Data,
    settings: Mapping[str, Any],
    model: str,
    output: Path,
    *,
    scratch: bool = False,
    dtype: str | None = "mixed_bfloat16",
    verbose: int | str = "auto",
) -> Seq2Seq:
    """The task in ``output``; trained first, or further after an interruption, where there is none yet."""
    if (output / "task.json").exists():
        return Seq2Seq.load(output)
    options = dict(settings)
    sizes = {name: options.pop(name) for name in ("max_source", "max_target")}
    if scratch:
        # The same network and tokenizer, random weights.
        config = Transformer.from_pretrained(shipped(model)).config
        task = Seq2Seq.from_pretrained(config, tokenizer=Tokenizer.from_pretrained(model), dtype=dtype, seed=0, **sizes)
    else:
        task = Seq2Seq.from_pretrained(model, dtype=dtype, **sizes)
    state = output.with_name(output.name + ".training")
    task.fit(parts.train, parts.valid, seed=0, resume=state, save_every=200, verbose=verbose, **options)
    task.save(output)
    shutil.rmtree(state)
    return task


def written(task: Seq2Seq, test: Sequence[Pair], beam: int) -> Any:
    """Scores of the test pairs, greedily with ``beam=1``."""
    return task.evaluate(test, Greedy() if beam == 1 else Beam(beam, length_penalty=1.0), batch_size=32)


def row(name: str, scores: Mapping[str, float], perplexity: float | None = None) -> str:
    """A line of the table."""
    figures = [f"{scores[key]:.2f}" for key in ("bleu", "chrf", "rouge1", "rouge2", "rouge_l")]
    return f"| {name} | " + " | ".join([*figures, "-" if perplexity is None else f"{perplexity:.1f}"]) + " |"


HEADER = "| model | BLEU | chrF | ROUGE-1 | ROUGE-2 | ROUGE-L | perplexity |\n|---|---|---|---|---|---|---|"


def main(
    about: str | None,
    data: Callable[[Path], Data],
    settings: Mapping[str, Any],
    trivial: Callable[[str], str],
) -> None:
    """Train, score, show a few."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("KEXUE_DATA"), help="default: KEXUE_DATA")
    parser.add_argument("--model", default="zh-mini", help="checkpoint to begin with")
    parser.add_argument("--scratch", action="store_true", help="its network from random weights instead")
    parser.add_argument("--output", type=Path, help="folder of the task; an interrupted training goes on there")
    parser.add_argument("--beam", type=int, default=4, help="beams beside the greedy search")
    options = parser.parse_args()
    if options.data is None:
        parser.error("set KEXUE_DATA to the folder of the data, or give --data")
    parts = data(Path(options.data))
    print(f"pairs: {len(parts.train):,} to train, {len(parts.valid):,} to validate, {len(parts.test):,} to test")
    kind = "scratch" if options.scratch else "pretrained"
    output = options.output or Path("runs") / f"{Path(sys.argv[0]).stem}-{kind}"
    task = trained(parts, settings, options.model, output, scratch=options.scratch)
    targets = [pair["target"] for pair in parts.test]
    print(f"\n{HEADER}")
    print(row("trivial", score_texts([trivial(pair["source"]) for pair in parts.test], targets)), flush=True)
    outputs: list[str] = []
    for beam in (1, options.beam):
        scores = written(task, parts.test, beam)
        print(row("greedy" if beam == 1 else f"beam {beam}", scores.scores, scores.perplexity), flush=True)
        outputs = scores.outputs
    for pair, text in zip(parts.test[:3], outputs, strict=False):
        print(f"\n{pair['source'][:80]}\n-> {text}\n({pair['target']})")
