"""Raw text to training rows: speed of tokenising in one process, of planning an epoch, and how full rows are.

Reads the corpora of the data folder (skips those absent) with the vocabulary of BERT-base Chinese. ``tokenizer`` is
the Rust tokenizer alone on the first 2 million characters, without reading or writing. Times are processor time, one
thread, so that other work on the machine does not count.
"""

import os
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from benchmarks.report import data_folder
from kexue.text import Tokenizer
from kexue.text.corpus import Corpus, PackedRows, build_shards, read_corpus

NAMES = ("novels.txt", "laws.txt", "poetry.jsonl", "classical_modern.tsv", "imdb.tsv")


def main() -> None:
    data = data_folder()
    tokenizer = Tokenizer.from_vocab(data / "vocab/bert_base_chinese/albert_config/vocab.txt")
    print(
        "| corpus | characters | read, tokenise, write: M char/s | M tokens/s | Rust tokenizer alone: M char/s |",
        end="",
    )
    print(" plan of an epoch, s | filled at 128 | at 512 |\n|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for file in NAMES:
            path = data / "corpora" / f"{file}.xz"
            if not path.exists():
                continue
            corpus = Corpus(path, text_fields=[1] if file.startswith("imdb") else None)
            name = file.split(".")[0]
            start = time.process_time()
            shards = build_shards({name: corpus}, tokenizer, Path(folder) / name, progress=False)
            took = time.process_time() - start
            counts = shards.counts(name)
            texts: list[str] = []
            size = 0
            for document in read_corpus(path, text_fields=corpus.text_fields):
                texts += document
                size += sum(map(len, document))
                if size > 2e6:
                    break
            start = time.process_time()
            tokenizer._rust.encode_batch_fast(texts, add_special_tokens=False)
            alone = size / (time.process_time() - start)
            cells = []
            for length in (128, 512):
                start = time.process_time()
                rows = PackedRows([shards.split(name)], length=length, seed=0, epoch=0, cls_id=101, sep_id=102)
                cells.append((time.process_time() - start, rows.filled))
            print(
                f"| {name} | {counts['characters'] / 1e6:.1f} M | {counts['characters'] / took / 1e6:.1f} "
                f"| {counts['tokens'] / took / 1e6:.1f} | {alone / 1e6:.2f} | {cells[1][0]:.2f} "
                f"| {cells[0][1]:.1%} | {cells[1][1]:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
