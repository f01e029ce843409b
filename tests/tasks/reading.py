"""Questions about "key: value" passages, and small readers for them."""

from typing import Any

import numpy as np

from kexue.tasks import Reader, SpanReader
from kexue.text import Tokenizer

KEYS, VALUES = "abcdefgh", "甲乙丙丁戊己庚辛壬癸"
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ":", ",", *KEYS, *VALUES]
CONFIG = {
    "hidden_size": 32, "num_layers": 2, "num_heads": 4, "intermediate_size": 64, "position": "rotary", "dropout": 0.0,
    "attention_dropout": 0.0, "norm_order": "pre", "max_length": 64, "initializer": 0.1,
}  # fmt: skip
SIZES = {"max_passage": 24, "max_question": 4, "max_answer": 6}


def tokenizer() -> Tokenizer:
    return Tokenizer.from_vocab(TOKENS)


def records(
    count: int, seed: int, passages: int = 2, keys: int = 2, unanswered: float = 0.0, letters: int = len(KEYS)
) -> list[dict[str, Any]]:
    """``{"question": "c", "passages": ["a:甲乙,c:丙", ...], "answers": ["丙"], "spans": [...]}``; the share
    ``unanswered`` asks for a key that no passage has."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        order = rng.permutation(list(KEYS[:letters]))
        texts, facts = [], {}
        for p in range(passages):
            parts = []
            for key in order[p * keys : (p + 1) * keys]:
                value = "".join(rng.choice(list(VALUES), rng.integers(1, 3)))
                start = len(",".join(parts)) + (3 if parts else 2)
                facts[str(key)] = (p, start, value)
                parts.append(f"{key}:{value}")
            texts.append(",".join(parts))
        if rng.random() < unanswered:
            found.append({"question": str(order[-1]), "passages": texts, "answers": [], "spans": []})
            continue
        key = str(rng.choice(sorted(facts)))
        p, start, value = facts[key]
        span = {"passage": p, "start": start, "end": start + len(value)}
        found.append({"question": key, "passages": texts, "answers": [value], "spans": [span]})
    return found


def reader(seed: int = 0, **options: Any) -> Reader:
    changes = {name: options.pop(name) for name in list(options) if name in CONFIG}
    return Reader.from_pretrained(CONFIG | changes, tokenizer=tokenizer(), seed=seed, **SIZES | options)


def pointer(seed: int = 0, **options: Any) -> SpanReader:
    changes = {name: options.pop(name) for name in list(options) if name in CONFIG}
    return SpanReader.from_pretrained(
        CONFIG | changes, tokenizer=tokenizer(), seed=seed, **{"head_size": 16} | SIZES | options
    )
