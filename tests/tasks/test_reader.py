"""Both readers: rows and their targets, places in the passages, windows, training that resumes, folders, complaints.

What an answer is does not depend on what a network has learnt; only the last tests train one to the end.
"""

import functools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from tests.tasks.reading import CONFIG, SIZES, TOKENS, pointer, reader, records, tokenizer

from kexue.decoding import Beam
from kexue.errors import CheckpointError, ConfigError, DataError
from kexue.models import Transformer
from kexue.tasks import Reader, SpanReader
from kexue.tasks._passages import Choices, Question, Sizes, check_question, documents, draw_rows, spans_in, target_in
from kexue.tasks.reader import _place
from kexue.text import DataWarning

EAGER = keras.backend.backend() == "torch"
many = pytest.mark.skipif(not EAGER, reason="many programs to compile; the search is tested on all backends elsewhere")
LONG = "a:甲乙,b:丙,c:丁戊,d:己,e:庚辛,f:壬癸,g:甲,h:乙丙"
MAKERS = [reader, pointer]
QUICK = MAKERS if EAGER else [reader]  # elsewhere training the pointer too is many compilations more
FRESH = functools.cache(lambda make: make())
"""A reader that no test changes."""


def arrays(model: Any) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(w.value) for w in model.weights]


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("stride", range(1, 8))
def test_windows_hold_every_token(stride: int) -> None:
    sizes = Sizes.checked(tokenizer(), 12, 4, stride)
    (document,) = documents(tokenizer(), [check_question({"question": "c", "passages": [LONG]}, "x")], sizes, "x")[0]
    ids = tokenizer().encode(LONG).token_ids[1:-1]
    seen = set()
    for window in document.windows:
        row = window.token_ids.tolist()
        assert len(row) <= 12 + 2
        assert (row[0], row[window.first + window.size], row[-1]) == (2, 3, 3)
        assert row[window.first + window.size + 1 : -1] == [TOKENS.index("c")]
        part = ids[window.start : window.start + window.size].tolist()
        assert row[window.first : window.first + window.size] == part
        seen |= set(range(window.start, window.start + window.size))
    assert seen == set(range(len(ids)))
    assert [w.start for w in document.windows] == [stride * n for n in range(len(document.windows))]


@pytest.mark.parametrize("known", [True, False])
def test_targets(known: bool) -> None:
    """A window holds the answer where its place is wholly inside, or where its parts occur when no place is known."""
    place = LONG.index("丁戊")
    spans = ((0, place, place + 2),) if known else ()
    question = Question("c", (LONG,), ("丁戊",), spans)
    sizes = Sizes.checked(tokenizer(), 12, 4, 2)
    (document,) = documents(tokenizer(), [question], sizes, "x")[0]
    assert spans_in(question, 0, document) == [(place, place + 2)]  # one token a character
    for window in document.windows:
        inside = window.start <= place and place + 2 <= window.start + window.size
        assert target_in(question, 0, document, window, {}) == ("丁戊" if inside else None)


def test_parts_of_an_answer_are_joined() -> None:
    """The article's rule for answers of several parts; separators of the passage count as commas."""
    question = Question("c", ("丁、丙 戊",), ("戊 己", "戊 丁"))
    marks = {ord(c): "," for c in " 、；，"}
    (document,) = documents(tokenizer(), [question], Sizes(12, 4, 4), "x", marks=marks)[0]
    assert document.encoding.texts[0] == "丁,丙,戊"
    assert target_in(question, 0, document, document.windows[0], marks) == "戊,丁"


def test_training_rows_of_both() -> None:
    """The seq2seq target and the pointer's span say the same; windows without the answer say nothing."""
    data = records(12, 0, unanswered=0.3)
    questions = [check_question(one, "x", answered=True) for one in data]
    writer, span_reader = reader(), pointer()
    rows, choices, _ = writer._training_rows(questions, writer._read(questions, "x"))
    others, same, _ = span_reader._training_rows(questions, span_reader._read(questions, "x"))
    assert choices == same
    assert sum(bool(one.answered) for one in choices) == sum(bool(one["answers"]) for one in data) > 0
    for row, other in zip(rows, others, strict=True):
        target = row.token_ids[row.source :].tolist()
        assert target[-1] == writer.stop
        assert row.token_ids[: row.source].tolist() == other.token_ids.tolist()
        for start, end, _ in other.spans.tolist():
            assert other.token_ids[start : end + 1].tolist() == target[:-1]
        assert bool(len(other.spans)) == (len(target) > 1)


def test_draws() -> None:
    """Passages are drawn evenly however many windows they have; with a share, answers are."""
    choices = [Choices(((0, 1, 2, 3), (4,)), frozenset({1})), Choices(((5,),), frozenset())]
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_rows(choices, None, rng) for _ in range(2000)])
    assert (drawn[:, 1] == 5).all()
    counts = Counter(drawn[:, 0].tolist())
    assert counts[4] == pytest.approx(1000, abs=100)
    assert counts[1] == pytest.approx(250, abs=70)
    drawn = np.stack([draw_rows(choices, 0.25, rng) for _ in range(2000)])
    assert (drawn[:, 0] == 1).mean() == pytest.approx(0.75, abs=0.05)
    again = [draw_rows(choices, 0.25, np.random.default_rng([1, 2])).tolist() for _ in range(2)]
    assert again[0] == again[1]


# ---------------------------------------------------------------- answers of any network


def check_place(record: dict[str, Any], found: dict[str, Any]) -> None:
    if found["text"]:
        assert record["passages"][found["passage"]][found["start"] : found["end"]] == found["text"]
    else:
        assert (found["passage"], found["start"], found["end"]) == (None, None, None)


@pytest.mark.parametrize("make", MAKERS)
def test_answers_stand_where_they_say(make: Any) -> None:
    """Characters of the passage as it was given, whatever the tokenizer and the separators make of it."""
    task = make(max_passage=12, stride=4)
    data = records(4, 1)
    texts = [" A:甲、乙；B:丙", "？c:丁 戊，", "[SEP]a:甲[SEP]"]
    data += [{"question": "a", "passages": [texts[n], texts[n - 1]]} for n in range(3)]
    found = task.predict(data, must_answer=True)
    for record, one in zip(data, found, strict=True):
        assert one["text"]
        check_place(record, one)
    if EAGER:
        assert task.answer("a", texts[1], must_answer=True) in texts[1]
    free = task.predict(data)
    for record, one in zip(data, free, strict=True):
        check_place(record, one)


def test_places_of_tokens() -> None:
    """The characters of any tokens of a window are read as these tokens; of several places the first."""
    task = reader(max_passage=9, stride=3)
    text = " A:甲、乙；B: 丙ａ:甲"
    (document,) = task._read([Question("a", (text,))], "x")[0]
    for window in document.windows:
        ids = window.token_ids[window.first : window.first + window.size].tolist()
        for i in range(len(ids)):
            for j in range(i + 1, len(ids) + 1):
                place = _place(document, window, ids[i:j])
                assert place is not None
                again = task.tokenizer.encode(text[slice(*place)].translate(task.marks)).token_ids[1:-1].tolist()
                assert again == ids[i:j]
                first = next(k for k in range(i + 1) if ids[k : k + j - i] == ids[i:j])
                assert place[0] == document.encoding.offsets[document.first + window.start + first, 0]
        assert _place(document, window, [TOKENS.index("h")]) is None
        assert _place(document, window, ids * 2) is None


@many
@pytest.mark.parametrize("make", MAKERS)
def test_order_padding_and_company_change_nothing(make: Any) -> None:
    task = make(max_passage=12, stride=4)
    data = [*records(6, 2, passages=3), {"question": "b", "passages": [LONG, "a:甲"]}]
    together = task.predict(data, must_answer=True)
    for record, expected in zip(data, together, strict=True):
        alone = task.predict(record, must_answer=True)
        assert alone["text"] == expected["text"]
        assert alone["score"] == pytest.approx(expected["score"], abs=1e-4)
        turned = task.predict(record | {"passages": record["passages"][::-1]}, must_answer=True)
        assert turned["text"] == expected["text"]
        assert turned["score"] == pytest.approx(expected["score"], abs=1e-4)
        check_place(record | {"passages": record["passages"][::-1]}, turned)


@many
def test_searches_and_modes() -> None:
    task = reader(max_passage=12, stride=4)
    data = records(6, 3)
    uncached = task.predict(data, must_answer=True, cached=False)
    assert [one["text"] for one in uncached] == [one["text"] for one in task.predict(data, must_answer=True)]
    for record, one in zip(data, task.predict(data, search=Beam(4, n_best=3), n_best=3, must_answer=True), strict=True):
        assert one["alternatives"][0]["text"] == one["text"]
        scores = [other["score"] for other in one["alternatives"]]
        assert scores == sorted(scores, reverse=True)
        for other in one["alternatives"]:
            check_place(record, other)
    written = task.predict(data, mode="generative", must_answer=True)
    assert any(one["text"] not in "".join(record["passages"]) for record, one in zip(data, written, strict=True))
    for record, one in zip(data, written, strict=True):
        assert len(one["support"]) == len(record["passages"])
        best = max((value, -p) for p, value in enumerate(one["support"]) if value is not None)
        if one["start"] is None:
            assert one["passage"] == -best[1]


@many
def test_pointer_is_brute_force() -> None:
    """The best span over passages and windows, each judged where it has most context, no longer than allowed."""
    task = pointer(max_passage=14, stride=4, max_answer=3)
    record = {"question": "c", "passages": [LONG, "a:丙,c:丁"]}
    question = check_question(record, "x")
    best: dict[tuple[int, int, int], tuple[float, float]] = {}
    for p, document in enumerate(task._read([question], "x")[0]):
        for window in document.windows:
            batch = {"token_ids": window.token_ids[None], "padding_mask": np.ones((1, len(window)), bool)}
            batch["entity_mask"] = batch["padding_mask"]
            scores = keras.ops.convert_to_numpy(task.model(batch))[0, 0]
            for i in range(window.size):
                for j in range(i, min(i + 3, window.size)):
                    left = i if window.start else np.inf
                    right = window.size - 1 - j if window.start + window.size < document.size else np.inf
                    key = (p, window.start + i, window.start + j)
                    value = float(scores[window.first + i, window.first + j])
                    if key not in best or min(left, right) > best[key][0]:
                        best[key] = (min(left, right), value)
    (p, i, j), (_, score) = max(best.items(), key=lambda item: item[1][1])
    found = task.predict(record, must_answer=True)
    assert (found["passage"], found["start"], found["end"]) == (p, i, j + 1)
    assert found["score"] == pytest.approx(score, abs=1e-4)
    assert task.predict(record, threshold=score + 0.1)["text"] == ""
    assert task.predict(record, threshold=score - 0.1)["text"] == found["text"]
    texts = [one["text"] for one in task.predict(record, n_best=5, must_answer=True)["alternatives"]]
    assert len(set(texts)) == 5


# ---------------------------------------------------------------- training and files


@pytest.mark.parametrize("make", QUICK)
def test_a_training_that_was_stopped_goes_on(make: Any, tmp_path: Path) -> None:
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 1:
                raise KeyboardInterrupt

    train, valid = records(24, 4), records(8, 5)
    options: dict[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2, "verbose": 0, "negatives": 0.3}
    straight = make(dropout=0.1)
    expected = straight.fit(train, valid, **options)
    assert set(expected.history) >= {"loss", "val_loss"}
    task = make(dropout=0.1)
    state = {"resume": tmp_path / "state", "save_every": 1}
    with pytest.raises(KeyboardInterrupt):
        task.fit(train, valid, **options, **state, callbacks=[Stop()])
    again = make(dropout=0.1)
    history = again.fit(train, valid, **options, **state)
    assert history.history == expected.history
    assert again.best_epoch == straight.best_epoch
    for one, other in zip(arrays(again.model), arrays(straight.model), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ConfigError, match=r"another job: negatives was 0\.3"):
        again.fit(train, valid, **options | {"negatives": 0.5}, **state)
    task_folder = tmp_path / "task"
    again.save(task_folder)
    loaded = type(again).load(task_folder)
    for one, other in zip(arrays(again.model), arrays(loaded.model), strict=True):
        np.testing.assert_array_equal(one, other)
    data = records(4, 6)
    assert loaded.predict(data) == again.predict(data)
    assert (loaded.sizes, loaded.max_answer) == (again.sizes, again.max_answer)


def test_damaged_folders(tmp_path: Path) -> None:
    reader(vote="mean", mode="generative", separators="、").save(tmp_path / "one")
    loaded = Reader.load(tmp_path / "one")
    assert (loaded.vote, loaded.mode, loaded.separators) == ("mean", "generative", "、")
    pointer(threshold=1.5).save(tmp_path / "two")
    assert SpanReader.load(tmp_path / "two").threshold == 1.5
    with pytest.raises(CheckpointError, match="kind reader"):
        Reader.load(tmp_path / "two")
    with pytest.raises(CheckpointError, match="does not exist"):
        SpanReader.load(tmp_path)
    path = tmp_path / "one" / "task.json"
    task = json.loads(path.read_text())
    for changes, message in (
        ({"mode": "x"}, "mode must be"),
        ({"max_passage": 1}, "max_passage must"),
        ({}, "lacks vote"),
    ):
        content = task | changes
        if not changes:
            del content["vote"]
        path.write_text(json.dumps(content))
        with pytest.raises(CheckpointError, match=message):
            Reader.load(tmp_path / "one")
    (tmp_path / "two" / "head.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"head\.safetensors is missing"):
        SpanReader.load(tmp_path / "two")


# ---------------------------------------------------------------- complaints


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": "a", "passages": []}, "no passages to read"),
        ({"question": "a", "passages": ["a:甲", " "]}, "passage 1 must be a text that is not empty"),
        ({"question": " ", "passages": ["a:甲"]}, "the question must be a text that is not empty"),
        ({"question": "a", "passages": "a:甲"}, "passages must be a list"),
        ({"question": "a", "passages": ["a", 3]}, "passage 1 must be a text"),
        ({"passages": ["a"]}, "the question must be a text"),
        ({"question": "aaa bb cc d", "passages": ["a"]}, r"the question has \d+ tokens, and the reader takes 3"),
        ({"question": "a", "passages": ["\u200b"]}, "passage 0 has no token"),
        ("a", "expected"),
    ],
)
def test_broken_questions(record: Any, message: str) -> None:
    for make in MAKERS:
        with pytest.raises(DataError, match=f"record 1: .*{message}"):
            FRESH(make).predict([{"question": "a", "passages": ["a:甲"]}, record])


def test_broken_training_data() -> None:
    task = FRESH(reader)
    good = {"question": "a", "passages": ["a:甲"], "answers": ["甲"]}
    for data, message in (
        ([], "train holds no questions"),
        ([good, good | {"answers": "甲"}], "train 1: the answers must be a list"),
        ([good | {"spans": [{"passage": 0, "start": 2, "end": 9}]}], "train 0: a span must be"),
        ([{"question": "a", "passages": ["a"]}], "train 0: the answers"),
        ("text", "must be a list of records"),
    ):
        with pytest.raises(DataError, match=message):
            task.fit(data, verbose=0)
    with pytest.warns(DataWarning, match="1 of 2 questions of data are longer than max_question=4"):
        task.evaluate([good, good | {"question": "a b c d e"}])
    with pytest.warns(DataWarning, match="1 of 1 questions of record"):  # a program that is there already
        assert task.predict(good | {"question": "a b c d e"}, cut=True) == task.predict(good | {"question": "a b"})
    for options, message in (
        ({"epochs": 0}, "epochs"),
        ({"negatives": 2}, "negatives"),
        ({"head_learning_rate": 1e-3}, "SpanReader"),
    ):
        with pytest.raises(ConfigError, match=message):
            task.fit([good], verbose=0, **options)
    assert task.predict([]) == []


def test_options_that_cannot_work() -> None:
    for options, message in (
        ({"mode": "abstractive"}, "mode must be one of"),
        ({"vote": "majority"}, "vote must be one of"),
        ({"max_passage": 2}, "max_passage must be above"),
        ({"max_answer": 1}, "max_answer must be at least 2"),
        ({"stride": 30}, r"stride must lie in \[1, 22\]"),
        ({"position": "learned", "max_length": 16}, "positions end at 16"),
    ):
        with pytest.raises(ConfigError, match=message):
            reader(**options)
    with pytest.raises(ConfigError, match="positions end at 16"):
        pointer(position="learned", max_length=16)
    task, record = FRESH(reader), {"question": "a", "passages": ["a:甲"]}
    for options, message in (({"n_best": 2}, "n_best"), ({"mode": "x"}, "mode"), ({"vote": "x"}, "vote")):
        with pytest.raises(ConfigError, match=message):
            task.predict(record, **options)
    with pytest.raises(ConfigError, match="batch_size"):
        FRESH(pointer).predict(record, batch_size=0)
    causal = Transformer(CONFIG | {"vocabulary_size": len(TOKENS)}, mask="causal", head="lm")
    with pytest.raises(ConfigError, match="mask='prefix'"):
        Reader(causal, tokenizer(), **SIZES)
    with pytest.raises(ConfigError, match="pass tokenizer="):
        SpanReader.from_pretrained(CONFIG)
