"""The tasks of `benchmarks.downstream`: data, settings, training and scores of each."""

import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import kexue  # noqa: F401  chooses the backend

# isort: split
import numpy as np

from benchmarks import downstream_reading as reading
from benchmarks.downstream_train import Progress, Row, network, outputs, train
from kexue.models import Transformer
from kexue.tasks import NER
from kexue.text import Tokenizer, read_entities
from kexue.training.seeding import seeded_weights

DROPOUT = {"dropout": 0.1, "attention_dropout": 0.1}
WEIGHTS = ("all", "tokens", "none")
"""What is taken from the checkpoint: all weights, the token table only, or nothing; the rest is random."""


@dataclass(frozen=True)
class Settings:
    """How a task is trained; the rates of the encoder are those of `WEIGHTS`, in that order."""

    epochs: int
    batch_size: int
    length: int
    rates: tuple[float, float, float]
    head_rate: float
    head: str = ""

    def rate(self, weights: str) -> float:
        """Greatest learning rate of the encoder."""
        return self.rates[WEIGHTS.index(weights)]


class Start(NamedTuple):
    """Where the weights come from."""

    path: str
    weights: str
    seed: int
    dtype: str
    limit: int | None

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_pretrained(self.path)

    def pretrained(self) -> Transformer:
        """With all weights of the checkpoint."""
        return Transformer.from_pretrained(self.path, mask="bidirectional", dtype=self.dtype, **DROPOUT)

    def encoder(self) -> Transformer:
        """The same configuration with the weights that are asked for."""
        encoder = self.pretrained()
        if self.weights == "all":
            return encoder
        with seeded_weights(self.seed):
            fresh = Transformer(encoder.config, mask="bidirectional", dtype=self.dtype)
        self.take_tokens(fresh, encoder)
        return fresh

    def take_tokens(self, encoder: Transformer, pretrained: Transformer) -> None:
        """Put the checkpoint's token table into ``encoder`` where only that is asked for."""
        if self.weights == "tokens":
            table = "token_embedding"
            encoder.get_layer(table).set_weights(pretrained.get_layer(table).get_weights())

    def first(self, examples: list[Any]) -> list[Any]:
        """Training examples: all or the first ones."""
        return examples[: self.limit]


class Result(NamedTuple):
    """Scores in percent by name, the number of training examples, seconds of training and of all."""

    scores: Mapping[str, float]
    examples: int
    training: float
    seconds: float


def entities(start: Start, settings: Settings, name: str, files: list[Path], heads: list[str]) -> Result:
    """NER: trained on the first file, scored on the others."""
    begin = time.perf_counter()
    training, *tests = (read_entities(path) for path in files)
    labels = sorted(
        {entity["label"] for part in (training, *tests) for example in part for entity in example["entities"]}
    )
    training = start.first(training)
    source: Any = start.path
    options: dict[str, Any] = {"mask": "bidirectional", **DROPOUT}
    pretrained = start.pretrained()
    if start.weights != "all":
        source = pretrained.config
        options["tokenizer"] = start.tokenizer()
    ner = NER.from_pretrained(
        source,
        labels,
        head=settings.head,
        max_length=settings.length,
        dtype=start.dtype,
        seed=start.seed,
        **options,
    )
    start.take_tokens(ner.encoder, pretrained)
    trained = time.perf_counter()
    rate = settings.rate(start.weights)
    ner.fit(
        training,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        learning_rate=rate,
        head_learning_rate=max(settings.head_rate, rate),
        seed=start.seed,
        callbacks=[Progress(name, settings.epochs)],
        verbose=0,
    )
    trained = time.perf_counter() - trained
    scores = {head: 100 * ner.evaluate(test).f1 for head, test in zip(heads, tests, strict=True)}
    return Result(scores, len(training), trained, time.perf_counter() - begin)


def cluener(start: Start, settings: Settings, data: Path) -> Result:
    """Ten types in news; the test set has no labels."""
    folder = data / "ner" / "cluener"
    return entities(start, settings, "cluener", [folder / "train.json", folder / "dev.json"], ["dev F1"])


def weibo(start: Start, settings: Settings, data: Path) -> Result:
    """Named and nominal mentions in posts, second version of the annotation."""
    folder = data / "ner" / "weibo"
    files = [folder / f"weiboNER_2nd_conll.{part}" for part in ("train", "dev", "test")]
    return entities(start, settings, "weibo", files, ["dev F1", "test F1"])


def fitted(
    start: Start, settings: Settings, name: str, kind: str, rows: list[Row], tests: list[Row]
) -> tuple[float, list[Any]]:
    """Seconds of training, and the trained network's outputs for the test rows."""
    encoder = start.encoder()
    with seeded_weights(start.seed):
        model = network(encoder, kind)
    rate = settings.rate(start.weights)
    begin = time.perf_counter()
    train(
        model,
        encoder,
        rows,
        kind,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        max_length=settings.length,
        learning_rate=rate,
        head_learning_rate=max(settings.head_rate, rate),
        seed=start.seed,
        name=name,
    )
    trained = time.perf_counter() - begin
    return trained, outputs(model, tests, kind, batch_size=64, max_length=settings.length)


def both_ends(text: str, size: int) -> str:
    """At most ``size`` characters, without the middle: the ends of a review tell most."""
    return text if len(text) <= size else text[: size - size // 2] + text[len(text) - size // 2 :]


def sentiment(start: Start, settings: Settings, data: Path) -> Result:
    """Reviews of goods, books and hotels: good or bad. A third of the test reviews stand in the training file too, word
    for word; the second score leaves them out."""
    begin = time.perf_counter()
    parts, written = {}, {}
    tokenizer = start.tokenizer()
    with zipfile.ZipFile(data / "cls" / "sentiment" / "datasets" / "sentiment.zip") as archive:
        for part in ("train", "test"):
            lines = archive.read(f"sentiment/sentiment.{part}.data").decode("utf-8").splitlines()
            pairs = [line.rsplit("\t", 1) for line in lines if line.strip()]
            pairs = start.first(pairs) if part == "train" else pairs
            written[part] = [text for text, _ in pairs]
            texts = [both_ends(text, settings.length - tokenizer.special_count()) for text, _ in pairs]
            encodings = tokenizer.encode_batch(texts, max_length=settings.length)
            parts[part] = [Row((e,), int(label)) for e, (_, label) in zip(encodings, pairs, strict=True)]
    rows, tests = parts["train"], parts["test"]
    trained, logits = fitted(start, settings, "sentiment", "class", rows, tests)
    right = np.array([value.argmax() == row.target for value, row in zip(logits, tests, strict=True)])
    known = set(written["train"])
    new = np.array([text not in known for text in written["test"]])
    scores = {"test accuracy": 100 * right.mean(), "of new reviews": 100 * right[new].mean()}
    return Result(scores, len(rows), trained, time.perf_counter() - begin)


def stsb_file(path: Path) -> list[tuple[str, str, float]]:
    """Pairs of sentences with a similarity from 0 to 5."""
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [(first, second, float(score)) for first, second, score in lines]


def stsb(start: Start, settings: Settings, data: Path) -> Result:
    """Similarity of two sentences; ``head`` is "cosine" of two vectors or "score" of the pair in one sequence."""
    from scipy.stats import spearmanr

    begin = time.perf_counter()
    tokenizer = start.tokenizer()
    folder = data / "sts" / "zh" / "Chinese-STS-B"
    parts = {}
    for part in ("train", "test"):
        pairs = stsb_file(folder / f"sts-b-{part}.txt")
        pairs = start.first(pairs) if part == "train" else pairs
        cut = {"max_length": settings.length}
        if settings.head == "cosine":
            both = [tokenizer.encode_batch([pair[i] for pair in pairs], **cut) for i in (0, 1)]
            encodings: list[Any] = list(zip(*both, strict=True))
        else:
            encodings = [(e,) for e in tokenizer.encode_batch([pair[:2] for pair in pairs], **cut)]
        parts[part] = [Row(e, pair[2] / 5) for e, pair in zip(encodings, pairs, strict=True)]
    rows, tests = parts["train"], parts["test"]
    trained, values = fitted(start, settings, f"stsb ({settings.head})", settings.head, rows, tests)
    rank = float(spearmanr(values, [row.target for row in tests]).statistic)
    return Result({"test Spearman": 100 * rank}, len(rows), trained, time.perf_counter() - begin)


def read(start: Start, settings: Settings, name: str, training: list[Any], tests: list[Any]) -> Result:
    """Extractive reading: windows, first and last token of the answer."""
    begin = time.perf_counter()
    tokenizer = start.tokenizer()
    training = start.first(training)
    tests = tests if start.limit is None else tests[: start.limit]
    stride = settings.length // 2
    rows = [
        Row((window,), place)
        for window, place in reading.training_windows(
            tokenizer, training, settings.length, stride, negatives=0.5, seed=start.seed
        )
    ]
    cut = [reading.windows(tokenizer, question, settings.length, stride) for question in tests]
    flat = [Row((window,), (0, 0)) for windows in cut for window in windows]
    trained, scores = fitted(start, settings, name, "span", rows, flat)
    places = iter(zip((row.encodings[0] for row in flat), scores, strict=True))
    answers = [reading.answer([next(places) for _ in windows], longest=30) for windows in cut]
    pairs = list(zip(answers, tests, strict=True))
    found = {
        "EM": 100 * float(np.mean([reading.exact_match(answer, question.answers) for answer, question in pairs])),
        "F1": 100 * float(np.mean([reading.f1(answer, question.answers) for answer, question in pairs])),
    }
    return Result(found, len(training), trained, time.perf_counter() - begin)


def cmrc(start: Start, settings: Settings, data: Path) -> Result:
    """CMRC 2018: of its development set 80 % of the articles to train on, the rest to score."""
    path = data / "mrc" / "cmrc2018" / "squad-style-data" / "cmrc2018_dev.json"
    return read(start, settings, "reading", *reading.split_by_article(reading.read_squad(path), 0.8, seed=0))


def drcd(start: Start, settings: Settings, data: Path) -> Result:
    """DRCD, traditional characters: trained on its development set, scored on articles of its test set only."""
    training, tests = (reading.read_squad(data / "mrc" / "drcd" / f"DRCD_{part}.json") for part in ("dev", "test"))
    seen = {question.article for question in training}
    return read(start, settings, "drcd", training, [question for question in tests if question.article not in seen])


class Task(NamedTuple):
    title: str
    run: Callable[[Start, Settings, Path], Result]
    needs: str
    settings: Settings


TASKS: Mapping[str, Task] = {
    "cluener": Task(
        "CLUENER",
        cluener,
        "ner/cluener/train.json",
        Settings(4, 16, 64, (1e-3, 1e-3, 1e-3), 1e-3, "crf"),
    ),
    "weibo": Task(
        "Weibo NER",
        weibo,
        "ner/weibo/weiboNER_2nd_conll.train",
        Settings(6, 16, 128, (1e-3, 1e-3, 1e-3), 1e-3, "crf"),
    ),
    "sentiment": Task(
        "sentiment",
        sentiment,
        "cls/sentiment/datasets/sentiment.zip",
        Settings(1, 32, 80, (5e-4, 5e-4, 5e-4), 1e-3),
    ),
    "stsb": Task(
        "Chinese STS-B, two vectors",
        stsb,
        "sts/zh/Chinese-STS-B/sts-b-train.txt",
        Settings(3, 32, 64, (5e-4, 5e-4, 5e-4), 1e-3, "cosine"),
    ),
    "stsb-pair": Task(
        "Chinese STS-B, one sequence",
        stsb,
        "sts/zh/Chinese-STS-B/sts-b-train.txt",
        Settings(3, 32, 96, (5e-4, 5e-4, 5e-4), 1e-3, "score"),
    ),
    "reading": Task(
        "CMRC 2018 reading",
        cmrc,
        "mrc/cmrc2018/squad-style-data/cmrc2018_dev.json",
        Settings(2, 16, 128, (1e-3, 1e-3, 1e-3), 1e-3),
    ),
    "drcd": Task(
        "DRCD reading",
        drcd,
        "mrc/drcd/DRCD_dev.json",
        Settings(2, 16, 128, (1e-3, 1e-3, 1e-3), 1e-3),
    ),
}
