"""A tiny language with flat and nested entities, and recognisers that have learnt it."""

import random
from typing import Any

import pytest

from kexue.tasks import NER
from kexue.text import Tokenizer

FILLER = "的了在是我有和就不人都上也很到说要去你"
PLACE = "青阳临河江"
LABELS = ("place", "office")
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLER, *PLACE, "市", "局", "i", "s", "##i", "##s"]
CONFIG = {
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 64,
    "position": "rotary",
    "initializer": 0.1,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
HEADS = ("global_pointer", "efficient_global_pointer", "crf", "softmax")
POINTERS = HEADS[:2]


def sentence(rng: random.Random, nested: bool, pieces: int = 3) -> dict[str, Any]:
    """Filler, places like 青阳市, and offices like 青阳市局, which contain a place when ``nested``."""
    text, entities = "", []
    for _ in range(pieces):
        text += "".join(rng.choices(FILLER, k=rng.randint(2, 4)))
        start = len(text)
        text += "".join(rng.sample(PLACE, 2)) + "市"
        if rng.random() < 0.5:
            if nested:
                entities.append({"start": start, "end": len(text), "label": "place"})
            text += "局"
            entities.append({"start": start, "end": len(text), "label": "office"})
        else:
            entities.append({"start": start, "end": len(text), "label": "place"})
    text += rng.choice(FILLER)
    return {"text": text, "entities": entities}


def sentences(count: int, seed: int, nested: bool = True) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    found = [sentence(rng, nested, rng.randint(1, 4)) for _ in range(count - 2)]
    return [*found, {"text": "我有人和你", "entities": []}, {"text": "  ", "entities": []}]


def new(head: str = "global_pointer", seed: int = 0, **options: Any) -> NER:
    changes = {name: options.pop(name) for name in list(options) if name in CONFIG}
    options = {"max_length": 32, "head_size": 16} | options
    return NER.from_pretrained(
        CONFIG | changes, LABELS, head, tokenizer=Tokenizer.from_vocab(TOKENS), seed=seed, **options
    )


@pytest.fixture(scope="session")
def learnt() -> Any:
    """A function of the head's name; each recogniser is trained once."""
    known: dict[str, NER] = {}

    def get(head: str) -> NER:
        if head not in known:
            ner = new(head)
            train = sentences(96, 1, nested=head in POINTERS)
            ner.fit(train, epochs=40 if head == "softmax" else 25, batch_size=16, learning_rate=1e-2, verbose=0)
            known[head] = ner
        return known[head]

    return get
