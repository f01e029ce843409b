"""Numbers and texts that the tasks refuse, before anything is trained or written."""

import json
from pathlib import Path
from typing import Any

import pytest

from kexue.decoding import Greedy
from kexue.errors import CheckpointError, ConfigError, DataError
from kexue.tasks import NER, ConditionalLM, Reader, Seq2Seq, SpanReader
from kexue.text import Tokenizer

TOKENIZER = Tokenizer.from_vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"甲乙丙丁"])
CONFIG = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "intermediate_size": 8, "max_length": 48}
PAIR, LABELLED = {"source": "甲乙", "target": "丙"}, {"text": "甲乙", "label": "丙"}
QUESTION = {"question": "甲", "passages": ["乙丙"], "answers": ["丙"]}
MARKED = {"text": "甲乙", "entities": [{"start": 0, "end": 1, "label": "丙"}]}
SIZES = {"max_passage": 16, "max_question": 8, "max_answer": 4}


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    options: dict[str, Any] = {"tokenizer": TOKENIZER, "seed": 0}
    return {
        "seq2seq": Seq2Seq.from_pretrained(CONFIG, max_source=16, max_target=8, **options),
        "reader": Reader.from_pretrained(CONFIG, **SIZES, **options),
        "span": SpanReader.from_pretrained(CONFIG, **SIZES, **options),
        "conditional": ConditionalLM.from_pretrained(CONFIG, labels=["丙", "丁"], max_length=16, **options),
        "ner": NER.from_pretrained(CONFIG, labels=["丙"], **options),
    }


DATA = {"seq2seq": [PAIR], "reader": [QUESTION], "span": [QUESTION], "conditional": [LABELLED], "ner": [MARKED]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0), ("learning_rate", float("nan")), ("learning_rate", "1e-3"),
        ("weight_decay", float("nan")), ("clip", 0), ("clip", float("nan")), ("steps_per_epoch", 0),
        ("save_every", 0), ("batch_size", 0), ("epochs", 0),
    ],
)  # fmt: skip
def test_numbers_of_a_training(tasks: dict[str, Any], name: str, value: Any) -> None:
    for task, data in DATA.items():
        with pytest.raises(ConfigError, match=name):
            tasks[task].fit(data, **({"epochs": 1, "verbose": 0} | {name: value}))


def test_rates_of_parts(tasks: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="head_learning_rate"):
        tasks["span"].fit([QUESTION], head_learning_rate=float("nan"))
    with pytest.raises(ConfigError, match="condition_learning_rate"):
        tasks["conditional"].fit([LABELLED], condition_learning_rate=float("nan"))
    with pytest.raises(ConfigError, match="transition_learning_rate"):
        tasks["ner"].fit([MARKED], transition_learning_rate=float("nan"))


def test_texts_and_searches(tasks: dict[str, Any]) -> None:
    for wrong in (None, 3, {"source": "甲"}):
        with pytest.raises(DataError, match="list of texts"):
            tasks["seq2seq"].predict(wrong)
    with pytest.raises(DataError, match="list of texts"):
        tasks["seq2seq"].generate("甲乙")
    with pytest.raises(ConfigError, match="batch_size"):
        tasks["seq2seq"].evaluate([PAIR], batch_size=0, metrics=())
    with pytest.raises(ConfigError, match="search must be"):
        tasks["reader"].predict(QUESTION, search=Greedy)
    for wrong in (float("nan"), "x"):
        with pytest.raises(ConfigError, match="threshold"):
            tasks["span"].predict(QUESTION, threshold=wrong)
    with pytest.raises(ConfigError, match="max_source must be an integer"):
        Seq2Seq.from_pretrained(CONFIG, tokenizer=TOKENIZER, max_source=9.5)  # type: ignore[arg-type]
    for name in ("max_passage", "max_answer", "stride"):
        with pytest.raises(ConfigError, match=f"{name} must be an integer"):
            Reader.from_pretrained(CONFIG, tokenizer=TOKENIZER, **(SIZES | {name: 8.5}))  # type: ignore[arg-type]


def test_a_size_that_does_not_fit_its_file(tasks: dict[str, Any], tmp_path: Path) -> None:
    """Nothing of that size is made."""
    tasks["conditional"].save(tmp_path / "task")
    path = tmp_path / "task" / "task.json"
    for size in (-5, 10**12):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"condition_size": size}))
        with pytest.raises(CheckpointError, match="condition_size"):
            ConditionalLM.load(tmp_path / "task")
