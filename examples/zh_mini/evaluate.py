"""Held-out figures of a pretrained model, corpus by corpus: those of the model card of zh-mini.

python examples/zh_mini/evaluate.py [--model zh-mini] [--rows 2000]
"""

import argparse
import os
import tempfile
from pathlib import Path

from kexue.tasks import Pretrainer
from kexue.text import Tokenizer
from kexue.text.corpus import build_shards

CORPORA = {
    "laws": "laws.txt.xz",
    "classical_modern": "classical_modern.tsv.xz",
    "novels": "novels.txt.xz",
    "poetry": "poetry.jsonl.xz",
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="zh-mini")
    parser.add_argument("--data", type=Path, default=os.environ.get("KEXUE_DATA"), help="default: KEXUE_DATA")
    parser.add_argument("--rows", type=int, default=None, help="rows of 128 tokens of each corpus; all by default")
    options = parser.parse_args()
    if options.data is None:
        parser.error("set KEXUE_DATA to the folder that holds corpora/, or give --data")
    tokenizer = Tokenizer.from_pretrained(options.model)
    trainer = Pretrainer(options.model, tokenizer, objective="mlm=1,clm=1,unilm=1", length=128)
    with tempfile.TemporaryDirectory() as folder:
        corpora = {name: Path(options.data) / "corpora" / file for name, file in CORPORA.items()}
        shards = build_shards(corpora, tokenizer, folder, holdout=0.005)
        scores = trainer.evaluate(shards, rows=options.rows)
        columns = ["mlm_accuracy", "mlm_perplexity", "clm_accuracy", "clm_perplexity", "unilm_accuracy"]
        print("| corpus | held-out tokens | " + " | ".join(column.replace("_", " ") for column in columns) + " |")
        print("|---|" + "---|" * (len(columns) + 1))
        for name, row in scores.items():
            tokens = shards.counts(name, "valid")["tokens"]
            figures = " | ".join(
                f"{row[column]:.1f}" if "perplexity" in column else f"{100 * row[column]:.1f} %" for column in columns
            )
            print(f"| {name} | {tokens:,} | {figures} |")


if __name__ == "__main__":
    main()
