"""Sentences a second on CLUENER's validation texts: kexue's NER against transformers' token-classification pipeline.

Both tag with the same BERT-base encoder and the same classifier weights (random; the outside tag is favoured so that
entities are as rare as in text). The pipeline is measured at several batch sizes, and its best one counts; its texts
are also given sorted by length. kexue runs on the Keras backend in force.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.report import arguments, data_folder, median, publish, table

BATCH_SIZES = (1, 8, 16, 32, 64)


def texts(every: int) -> list[str]:
    path = data_folder() / "ner/cluener/dev.json"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines][::every]


def checkpoint(folder: Path, tags: list[str]) -> None:
    """A random BERT-base token classifier with the Chinese vocabulary, as transformers saves it."""
    import torch
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    vocabulary = data_folder() / "vocab/bert_base_chinese/albert_config/vocab.txt"
    torch.manual_seed(0)
    names = dict(enumerate(tags))
    config = BertConfig(vocab_size=21128, id2label=names, label2id={v: k for k, v in names.items()})
    model = BertForTokenClassification(config)
    torch.nn.init.normal_(model.classifier.weight, std=0.05)
    model.classifier.bias.data[0] = 2.0
    model.save_pretrained(folder)
    BertTokenizerFast(str(vocabulary)).save_pretrained(folder)


def seconds(function: Callable[[], object], rounds: int, warm: bool = True) -> float:
    if warm:
        function()
    values = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        values.append(time.perf_counter() - start)
    return median(values)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=9, help="take each n-th of the 1,343 texts")
    options = parser.parse_args()
    import torch
    from transformers import pipeline

    import kexue  # noqa: F401  chooses the backend
    from kexue.checkpoints import open_checkpoint
    from kexue.tasks import NER
    from kexue.text import read_entities

    labels = sorted({e["label"] for x in read_entities(data_folder() / "ner/cluener/dev.json") for e in x["entities"]})
    tags = ["O", *(f"{kind}-{label}" for label in labels for kind in "BI")]
    sentences = texts(options.every)
    results: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint(folder, tags)
        tagger = pipeline("token-classification", model=name, aggregation_strategy="simple", device="cpu")
        ordered = sorted(sentences, key=len)
        with torch.inference_mode():
            tagger(sentences[:16], batch_size=8)
            for size in BATCH_SIZES:
                for kind, given in (("", sentences), (", sorted by length", ordered)):
                    took = seconds(lambda size=size, given=given: tagger(given, batch_size=size), 1, warm=False)
                    results.append((f"transformers pipeline, batch {size}{kind}", len(sentences) / took))
        best = max(speed for _, speed in results)
        for head in ("softmax", "crf", "global_pointer", "efficient_global_pointer"):
            # Untrained pointers would call half of all spans entities; this threshold leaves next to none.
            threshold = 1e3 if "pointer" in head else 0.0
            ner = NER.from_pretrained(folder, labels, head=head, threshold=threshold, strict=False)
            if head == "softmax":
                with open_checkpoint(folder) as weights:
                    ner_tags = list(ner._head.tags)  # the order of the classifier
                    order = [tags.index(tag) for tag in ner_tags]
                    kernel, bias = weights["classifier.weight"][order].T, weights["classifier.bias"][order]
                _set_classifier(ner, kernel, bias)
            took = seconds(lambda ner=ner: ner.predict(sentences), options.rounds)
            results.append((f"kexue, {head}", len(sentences) / took))
    rows = [(name, f"{speed:.1f}", f"{speed / best:.2f}") for name, speed in results]
    lengths = [len(text) for text in sentences]
    body = (
        f"Keras backend {os.environ['KERAS_BACKEND']}; {len(sentences)} texts of {min(lengths)} to {max(lengths)} "
        f"characters, {np.mean(lengths):.1f} on average; the last column is relative to the pipeline's best.\n\n"
    ) + table(("tagger", "sentences a second", "ratio"), rows)
    publish("ner_speed", "Tagging CLUENER sentences, BERT-base", "python -m benchmarks.ner_speed", body, options.write)


def _set_classifier(ner: object, kernel: np.ndarray, bias: np.ndarray) -> None:
    from kexue.nn.heads import TokenClassifier

    layer = next(layer for layer in ner.model.layers if isinstance(layer, TokenClassifier))
    layer.set_weights([kernel, bias])


if __name__ == "__main__":
    main()
