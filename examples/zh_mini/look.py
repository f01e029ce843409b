"""What the encoder of zh-mini knows of other texts, and how it works inside: figures of docs/zh_mini.md.

python examples/zh_mini/look.py [--model zh-mini] [--texts 400]

It is loaded as tasks load it: bidirectional mask, segment 0, one text a row.
"""

import argparse
import json
import lzma
import os
import zipfile
from itertools import islice
from pathlib import Path

import kexue  # noqa: F401  chooses the backend
import keras
import numpy as np

from kexue.models import Transformer
from kexue.text import Tokenizer, pad
from kexue.training import probe

LONGEST = 100


def corpus(path, column=None, skip=2000):
    """Lines of a packed corpus."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in islice(file, skip, None):
            text = line.strip() if column is None else line.strip().split("\t")[column]
            if len(text) > 20:
                yield text


def reviews(path):
    """The test set of reviews."""
    with zipfile.ZipFile(path) as archive:
        for line in archive.read("sentiment/sentiment.test.data").decode("utf-8").splitlines():
            yield line.rsplit("\t", 1)[0]


def texts(data):
    """Name and texts: two of the corpora that it was trained on, and three data sets."""
    yield "laws", corpus(data / "corpora" / "laws.txt.xz")
    yield "the modern side of classical_modern", corpus(data / "corpora" / "classical_modern.tsv.xz", 1)
    sentences = (data / "sts" / "zh" / "Chinese-STS-B" / "sts-b-test.txt").read_text(encoding="utf-8").splitlines()
    yield "Chinese STS-B", (line.split("\t")[0] for line in sentences)
    yield "reviews", reviews(data / "cls" / "sentiment" / "datasets" / "sentiment.zip")
    news = (data / "ner" / "cluener" / "dev.json").read_text(encoding="utf-8").splitlines()
    yield "CLUENER (news)", (json.loads(line)["text"] for line in news)


def masked(model, tokenizer, batch, rng):
    """Hits and losses of 15 % of the tokens, all masked."""
    ids, real = batch["token_ids"], batch["padding_mask"]
    chosen = real & (rng.random(ids.shape) < 0.15) & ~np.isin(ids, [tokenizer.cls_id, tokenizer.sep_id])
    inputs = {"token_ids": np.where(chosen, tokenizer.mask_id, ids), "padding_mask": real}
    logits = keras.ops.convert_to_numpy(model(inputs)["logits"])[chosen].astype("float64")
    logits -= logits.max(-1, keepdims=True)
    own = np.take_along_axis(logits, ids[chosen][:, None], -1)[:, 0]
    return own == 0, np.log(np.exp(logits).sum(-1)) - own


def inside(model, batch):
    """Of each block: mean entropy of its attention, and the channel with most of the residual stream's energy."""
    real = batch["padding_mask"]
    found = probe(model, ["*/probabilities", "*_feedforward_residual"])(batch)
    for block in range(model.config.num_layers):
        p = found[f"block_{block}_attention/probabilities"]
        entropies = -(p * np.log(p + 1e-9)).sum(-1).transpose(0, 2, 1)[real].mean(0)
        energy = np.square(found[f"block_{block}_feedforward_residual"][real]).mean(0)
        yield block, entropies, np.sqrt(energy.mean()), energy.max() / energy.sum()


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="zh-mini")
    parser.add_argument("--data", type=Path, default=os.environ.get("KEXUE_DATA"), help="default: KEXUE_DATA")
    parser.add_argument("--texts", type=int, default=400, help="of each set")
    options = parser.parse_args()
    if options.data is None:
        parser.error("set KEXUE_DATA to the folder of the data, or give --data")
    tokenizer = Tokenizer.from_pretrained(options.model)
    model = Transformer.from_pretrained(options.model, head="lm")
    print("| texts | masked accuracy | perplexity | of the sample's own frequencies |\n|---|---|---|---|")
    for name, source in texts(Path(options.data)):
        encodings = tokenizer.encode_batch([text[:LONGEST] for text in islice(source, options.texts)])
        rng, hits, losses = np.random.default_rng(1), [], []
        counts = np.unique(np.concatenate([encoding.token_ids[1:-1] for encoding in encodings]), return_counts=True)[1]
        unigram = np.exp(-np.sum(counts / counts.sum() * np.log(counts / counts.sum())))
        for start in range(0, len(encodings), 50):
            batch = pad(encodings[start : start + 50])
            hit, loss = masked(model, tokenizer, batch, rng)
            hits.append(hit)
            losses.append(loss)
        accuracy, perplexity = np.concatenate(hits).mean(), np.exp(np.concatenate(losses).mean())
        print(f"| {name} | {100 * accuracy:.1f} % | {perplexity:.0f} | {unigram:.0f} |")
    print("\n| block | entropy of each head, nats | rms of the residual stream | its greatest channel |")
    print("|---|---|---|---|")
    for block, entropies, size, share in inside(model, {name: batch[name] for name in ("token_ids", "padding_mask")}):
        heads = ", ".join(f"{entropy:.2f}" for entropy in entropies)
        print(f"| {block} | {heads} | {size:.1f} | {100 * share:.0f} % of the energy |")


if __name__ == "__main__":
    main()
