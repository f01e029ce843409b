"""Readers of entity data sets: every format, every kind of damage."""

import gzip
import json
import lzma
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue.errors import ConfigError, DataError
from kexue.text import DataWarning, read_entities, split, statistics, to_tags, write_jsonl


def entity(start, end, label):
    return {"start": start, "end": end, "label": label}


EXAMPLE = {"text": "他在北京。", "entities": [entity(2, 4, "LOC")]}
BIO = "他 O\n在 O\n北 B-LOC\n京 I-LOC\n。 O\n"


def file(tmp_path, content, name="data.txt"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


# ---------------------------------------------------------------- formats, each also found by itself

FORMATS = {
    "jsonl": json.dumps(EXAMPLE, ensure_ascii=False) + "\n",
    "cluener": '{"text": "他在北京。", "label": {"LOC": {"北京": [[2, 3]]}}}\n',
    "cmeee": '[{"text": "他在北京。", "entities": [{"start_idx": 2, "end_idx": 3, "type": "LOC"}]}]',
    "bio": BIO,
    "iob1": "他 O\n在 O\n北 I-LOC\n京 I-LOC\n。 O\n",
    "bmes": "他\tO\n在\tO\n北\tB-LOC\n京\tE-LOC\n。\tO\n",
    "bioes": "他 O\n在 O\n北 B-LOC\n京 E-LOC\n。 O\n",
    "germeval": "# eine Quelle, lang [2009]\n1\t他\tO\tO\n2\t在\tO\tO\n3\t北\tB-LOC\tO\n4\t京\tI-LOC\tO\n5\t。\tO\tO\n",
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path, name):
    path = file(tmp_path, FORMATS[name])
    assert read_entities(path, name) == [EXAMPLE]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_entities(path) == [EXAMPLE]
    crlf = file(tmp_path, FORMATS[name].replace("\n", "\r\n"), "crlf")
    assert read_entities(crlf, name) == [EXAMPLE]
    bom = file(tmp_path, b"\xef\xbb\xbf" + FORMATS[name].encode(), "bom")
    assert read_entities(bom) == [EXAMPLE]


@pytest.mark.parametrize("name", ["jsonl", "cluener", "cmeee"])
def test_arrays_and_lines(tmp_path, name):
    record = json.loads(FORMATS[name])
    record = record[0] if isinstance(record, list) else record
    for content in (json.dumps([record, record], indent=1), f"{json.dumps(record)}\n\n{json.dumps(record)}"):
        assert read_entities(file(tmp_path, content)) == [EXAMPLE, EXAMPLE]


def test_containers(tmp_path):
    plain = BIO.encode()
    assert read_entities(file(tmp_path, gzip.compress(plain), "a.gz")) == [EXAMPLE]
    assert read_entities(file(tmp_path, lzma.compress(plain), "a.xz")) == [EXAMPLE]
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("folder/x.txt", BIO)
        archive.writestr("__MACOSX/folder/._x.txt", b"\0\1")
    assert read_entities(tmp_path / "one.zip") == [EXAMPLE]
    assert read_entities(tmp_path / "one.zip" / "x.txt") == [EXAMPLE]
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        archive.writestr("x.dev.txt", BIO)
        archive.writestr("x.train.txt", BIO + "\n" + BIO)
    assert len(read_entities(tmp_path / "many.zip", split="train")) == 2
    assert len(read_entities(tmp_path / "many.zip", split="valid")) == 1
    assert len(read_entities(tmp_path / "many.zip/x.train.txt")) == 2
    with pytest.raises(DataError, match=r"x\.dev\.txt, x\.train\.txt"):
        read_entities(tmp_path / "many.zip")
    with pytest.raises(DataError, match="no member"):
        read_entities(tmp_path / "many.zip" / "y.txt")
    folder = tmp_path / "folder"
    folder.mkdir()
    file(folder, BIO, "train.txt")
    file(folder, BIO + "\n" + BIO, "test.txt")
    assert len(read_entities(folder, split="test")) == 2
    with pytest.raises(DataError, match="found 2"):
        read_entities(folder)
    for name, data in [
        ("a.gz", gzip.compress(plain)),
        ("a.xz", lzma.compress(plain)),
        ("b.zip", (tmp_path / "one.zip").read_bytes()),
    ]:
        with pytest.raises(DataError, match=name.replace(".", r"\.")):
            read_entities(file(tmp_path, data[:-9], name))
    with pytest.raises(DataError, match="no such file"):
        read_entities(tmp_path / "nowhere.txt")


def test_joining(tmp_path):
    english = "-DOCSTART- -X- O O\n\nNew NNP B-NP B-LOC\nYork NNP I-NP I-LOC\nis VBZ B-VP O\n"
    assert read_entities(file(tmp_path, english)) == [{"text": "New York is", "entities": [entity(0, 8, "LOC")]}]
    words = "北京市 B-LOC\n的 O\niPhone B-P\n15 I-P\n很 O\n好看 O\n"
    assert read_entities(file(tmp_path, words))[0]["text"] == "北京市的iPhone 15很好看"
    assert read_entities(file(tmp_path, words))[0]["entities"] == [entity(0, 3, "LOC"), entity(4, 13, "P")]
    assert read_entities(file(tmp_path, words), join="_")[0]["text"] == "北京市_的_iPhone_15_很_好看"
    digits = "1 O\n9 O\n年 O\na O\nb O\n"
    assert read_entities(file(tmp_path, digits))[0]["text"] == "19年ab"
    weibo = "北0\tB-GPE.NAM\n京1\tI-GPE.NAM\n10\tO\n，0\tO\n"
    assert read_entities(file(tmp_path, weibo)) == [{"text": "北京1，", "entities": [entity(0, 2, "GPE.NAM")]}]
    spaces = "a O\n  O\n\u3000 O\nb B-X\n"  # a space and an ideographic space as tokens
    assert read_entities(file(tmp_path, spaces)) == [{"text": "a \u3000b", "entities": [entity(3, 4, "X")]}]
    tabs = "Empire\tB-location\n\t\nState\tO\n"
    assert [e["text"] for e in read_entities(file(tmp_path, tabs))] == ["Empire", "State"]
    order = "O x 1\nB-A y 2\n"
    assert read_entities(file(tmp_path, order), columns=(1, 0))[0] == {"text": "xy", "entities": [entity(1, 2, "A")]}


def test_nested_levels(tmp_path):
    rows = "1\tUni\tB-ORG\tO\n2\tvon\tI-ORG\tO\n3\tBonn\tI-ORG\tB-LOC\n4\t#\tO\tO\n"
    expected = {"text": "Uni von Bonn #", "entities": [entity(0, 12, "ORG"), entity(8, 12, "LOC")]}
    assert read_entities(file(tmp_path, rows)) == [expected]
    three = "\n".join(line.split("\t", 1)[1] for line in rows.strip().split("\n"))
    assert read_entities(file(tmp_path, three)) == [expected]
    conll = "He\tB-NP\tO\nvisited\tB-VP\tO\nBonn\tB-NP\tB-LOC\n"  # a chunk column is no outer level
    assert read_entities(file(tmp_path, conll))[0]["entities"] == [entity(11, 15, "LOC")]


def test_cmeee_ends(tmp_path):
    def record(end, surface):
        return json.dumps(
            [{"text": "他在北京。", "entities": [{"start_idx": 2, "end_idx": end, "type": "LOC", "entity": surface}]}]
        )

    assert read_entities(file(tmp_path, record(3, "北京"))) == [EXAMPLE]
    assert read_entities(file(tmp_path, record(4, "北京"))) == [EXAMPLE]  # a release with exclusive ends
    assert read_entities(file(tmp_path, FORMATS["cmeee"].replace("3", "4")), end_inclusive=False) == [EXAMPLE]
    with pytest.raises(DataError, match="is not what stands"):
        read_entities(file(tmp_path, record(3, "上海")))


# ---------------------------------------------------------------- damage

GOOD = json.dumps(EXAMPLE, ensure_ascii=False) + "\n"
DAMAGE = [
    ("", "no examples"),
    (" \n\n", "no examples"),
    (GOOD + "{\n", r":2: not valid JSON"),
    (GOOD + GOOD[:20], r":2: not valid JSON"),
    (GOOD + "[1]\n", r":2: .*JSON object"),
    (GOOD + "3\n", r":2: .*JSON object"),
    (GOOD + '{"entities": []}\n', r":2: .*lacks the key 'text'"),
    (GOOD + '{"text": "a"}\n', r":2: .*lacks the key 'entities'.*labelled=False"),
    (GOOD + '{"text": 3, "entities": []}\n', r":2: 'text' must be a string"),
    (GOOD + '{"text": "a", "entities": {}}\n', r":2: 'entities' must be a list"),
    (GOOD + '{"text": "a", "entities": [3]}\n', r":2: an entity must be a JSON object"),
    (GOOD + '{"text": "a", "entities": [{"start": 0, "end": 1}]}\n', r":2: an entity lacks the key 'label'"),
    (GOOD + '{"text": "a", "entities": [{"start": 0, "end": 1, "label": ""}]}\n', r":2: the label"),
    (GOOD + '{"text": "a", "entities": [{"start": 0.0, "end": 1, "label": "X"}]}\n', r":2: the start"),
    (GOOD + '{"text": "a", "entities": [{"start": 0, "end": true, "label": "X"}]}\n', r":2: the end"),
    (GOOD + '{"text": "a", "entities": [{"start": 0, "end": 2, "label": "X"}]}\n', r":2: .*end <= 1"),
    (GOOD + '{"text": "a", "entities": [{"start": -1, "end": 1, "label": "X"}]}\n', r":2: .*start=-1"),
    (GOOD + '{"text": "ab", "entities": [{"start": 1, "end": 1, "label": "X"}]}\n', r":2: .*start < end"),
    (GOOD + '{"text": "ab", "entities": [{"start": 1, "end": 2, "label": "X", "text": "a"}]}\n', r":2: .*'a' is not"),
    (GOOD.encode() + b'{"text": "\xff", "entities": []}\n', r":2: not valid UTF-8"),
    (FORMATS["cluener"] + '{"text": "他在北京。", "label": {"LOC": {"上海": [[2, 3]]}}}', r":2: .*'上海' is not what"),
    (FORMATS["cluener"] + '{"text": "他在北京。", "label": {"LOC": {"北京": [[2]]}}}', r":2: .*pairs"),
    (FORMATS["cluener"] + '{"text": "他在北京。", "label": {"LOC": ["北京"]}}', r":2: .*an object"),
    (FORMATS["cluener"] + '{"text": "他在北京。"}', r":2: .*lacks the key 'label'"),
    ('[{"text": "a", "entities": []},\n{"text": "b"}]', r":2: .*lacks the key 'entities'"),
    ('[{"text": "a", "entities": []},\n{"text" "b"}]', r":2: not valid JSON"),
    ('[{"text": "a", "entities": []}\n', "not closed"),
    ('[{"text": "a", "entities": []},\n', "not closed"),
    ('[{"text": "a", "entities": []},]', "not closed"),
    ('[{"text": "a", "entities": []}] x', "follows"),
    ("[]", "no examples"),
    ('{"a":' * 99999, ":1: "),
    (BIO + "\n上 X-LOC\n", r":7: unknown tag 'X-LOC'"),
    (BIO + "\n上 LOC\n", r":7: unknown tag 'LOC'"),
    (BIO + "\n上 B-\n", r":7: unknown tag"),
    (BIO + "\n上 M-LOC\n", r":7: unknown tag 'M-LOC' in the scheme bio"),
    (BIO + "\n上\n", r":7: expected a token and its tag"),
    (BIO + "\n\tO\n", r":7: the token is empty"),
    (BIO + "\n上 B-LOC,B-ORG\n", r":7: .*several tags"),
    (BIO.encode() + b"\n\xff O\n", r":7: not valid UTF-8"),
    ("a O\n".encode("utf-16"), "UTF-16"),
]


@pytest.mark.parametrize(("content", "message"), DAMAGE)
def test_damage_is_named(tmp_path, content, message):
    path = file(tmp_path, content, "broken.txt")
    with pytest.raises(DataError, match=message) as caught:
        read_entities(path)
    assert "broken.txt" in str(caught.value)


# what breaks one example only; a syntax error in an array breaks all that follows
ONE_BROKEN = [d for d in DAMAGE if d[1][:4] in (":2: ", ":7: ") and '"text" "b"' not in str(d[0])]


@pytest.mark.parametrize(("content", "message"), ONE_BROKEN)
def test_skip_leaves_out_only_the_broken(tmp_path, content, message):
    path = file(tmp_path, content)
    with pytest.warns(DataWarning, match=r"skipped 1 of 2 examples.*" + message):
        assert len(read_entities(path, on_error="skip")) == 1


def test_unlabelled(tmp_path):
    path = file(tmp_path, '{"id": 0, "text": "四川"}\n{"id": 1, "text": "b"}')
    assert read_entities(path, labelled=False) == [{"text": "四川", "entities": []}, {"text": "b", "entities": []}]


@pytest.mark.parametrize("name", ["jsonl", "cluener", "cmeee"])
def test_conditions_are_kept(tmp_path, name):
    record = json.loads(FORMATS[name])
    record = record[0] if isinstance(record, list) else record
    lines = [json.dumps(record | {"condition": c}) for c in ([1, -0.5], None)]
    examples = [{**EXAMPLE, "condition": [1.0, -0.5]}, EXAMPLE]
    assert read_entities(file(tmp_path, "\n".join(lines))) == examples
    write_jsonl(tmp_path / "written.jsonl", [{**EXAMPLE, "condition": np.asarray([1, -0.5], "float32")}, EXAMPLE])
    assert read_entities(tmp_path / "written.jsonl") == examples
    for wrong in ("1", [], [[1.0]], [1.0, "x"], [True], [float("nan")], [10**400], {"a": 1}, 2.0):
        broken = file(tmp_path, f"{lines[0]}\n{json.dumps(record | {'condition': wrong})}", "broken.txt")
        with pytest.raises(DataError, match=r"broken\.txt:2: the condition must be a list of"):
            read_entities(broken)
        with pytest.raises(DataError, match=r"example 1: the condition must be a list of"):
            write_jsonl(tmp_path / "never.jsonl", [{**EXAMPLE, "condition": wrong}])
    assert not (tmp_path / "never.jsonl").exists()


def test_labels_are_checked(tmp_path):
    for content, line in ((FORMATS["jsonl"], 1), (BIO, 3), (FORMATS["cluener"], 1)):
        path = file(tmp_path, content)
        assert read_entities(path, labels={"LOC", "X"})
        with pytest.raises(DataError, match=f"data.txt:{line}: unknown label 'LOC'. Expected one of: ORG, PER"):
            read_entities(path, labels=["PER", "ORG"])


def test_illegal_sequences(tmp_path):
    path = file(tmp_path, "a O\nb I-X\n\nc B-X\nd I-Y\n")
    with pytest.warns(DataWarning, match=r"2 entities do not begin .*line 2"):
        examples = read_entities(path, "bio")
    assert [e["entities"] for e in examples] == [[entity(1, 2, "X")], [entity(0, 1, "X"), entity(1, 2, "Y")]]
    with pytest.raises(DataError, match=r"data.txt:2: .*'I-X' after 'O'"):
        read_entities(path, "bio", strict=True)


def test_wrong_options(tmp_path):
    path = file(tmp_path, BIO)
    with pytest.raises(ConfigError, match="format"):
        read_entities(path, "conll")
    with pytest.raises(ConfigError, match="on_error"):
        read_entities(path, on_error="ignore")


def test_wrong_format_is_an_error_not_a_guess(tmp_path):
    with pytest.raises(DataError, match=":1: "):
        read_entities(file(tmp_path, BIO), "jsonl")
    with pytest.raises(DataError, match=":1: "):
        read_entities(file(tmp_path, GOOD), "bio")


@given(
    data=st.binary(max_size=80),
    start=st.sampled_from([b"", b'{"text": ', b"[{", b"a B-X\n", b"1\ta\tO\tO\n", b"PK\x03\x04", b"\x1f\x8b"]),
)
def test_any_bytes_give_data_or_a_data_error(tmp_path_factory, data, start):
    path = tmp_path_factory.getbasetemp() / "fuzz.txt"
    path.write_bytes(start + data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            examples = read_entities(path)
        except DataError as error:
            examples, message = [], str(error)
        else:
            message = str(path)
    assert "fuzz.txt" in message
    for example in examples:
        for e in example["entities"]:
            assert 0 <= e["start"] < e["end"] <= len(example["text"])


# ---------------------------------------------------------------- writing, splitting, counting


@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=5), st.data())
def test_write_and_read_back(tmp_path_factory, texts, data):
    examples = []
    for text in texts:
        found = set()
        for _ in range(data.draw(st.integers(0, 3))):
            start = data.draw(st.integers(0, len(text) - 1))
            found.add((start, data.draw(st.integers(start + 1, len(text))), data.draw(st.sampled_from(["X", "类"]))))
        examples.append({"text": text, "entities": [entity(*f) for f in sorted(found)]})
    path = tmp_path_factory.getbasetemp() / "written.jsonl"
    write_jsonl(path, examples)
    assert read_entities(path, "jsonl") == examples


def test_write_refuses(tmp_path):
    path = file(tmp_path, "before")
    for broken in ({"text": "a"}, {"text": "a", "entities": [entity(0, 2, "X")]}, None):
        with pytest.raises(DataError, match="example 2"):
            write_jsonl(path, [EXAMPLE, broken])
    assert path.read_text() == "before"
    write_jsonl(path, [{"text": "\ud83d", "entities": []}])
    assert read_entities(path) == [{"text": "\ud83d", "entities": []}]


@given(
    st.integers(0, 50),
    st.sampled_from([(1.0,), (0.8, 0.1, 0.1), (0.5, 0.2), (0.0, 1.0), (0.3, 0.3, 0.4)]),
    st.integers(0, 3),
)
def test_split(n, fractions, seed):
    parts = split(range(n), fractions, seed)
    flat = [i for part in parts for i in part]
    assert len(set(flat)) == len(flat)
    assert len(flat) == round(n * sum(fractions))
    assert all(abs(len(part) - n * f) <= 1 for part, f in zip(parts, fractions, strict=True))
    assert parts == split(range(n), fractions, seed)


def test_split_errors():
    for fractions in ((), (0.9, 0.2), (-0.1, 0.5)):
        with pytest.raises(ConfigError, match="fractions"):
            split([1, 2], fractions)


def test_statistics():
    examples = [
        {"text": "abcdef", "entities": [entity(0, 4, "A"), entity(1, 2, "B"), entity(4, 6, "A")]},
        {"text": "ab", "entities": []},
    ]
    found = statistics(examples)
    assert found["examples"] == 2
    assert found["empty"] == 1
    assert found["labels"] == {"A": 2, "B": 1}
    assert found["nested"] == pytest.approx(2 / 3)
    assert found["characters"] == {"mean": 4.0, "median": 4.0, "p95": pytest.approx(5.8), "max": 6.0}
    assert statistics([])["entities"] == 0


# ---------------------------------------------------------------- real sets

ROWS = [
    ("cluener/train.json", {}, 10748),
    ("cluener/dev.json", {}, 1343),
    ("cluener/test.json", {"labelled": False}, 1345),
    ("people_daily/NER_chi/example.dev", {}, 2318),
    ("people_daily/NER_chi/example.test.zip", {}, 4636),
    ("msra/peopledaily/peopledaily.zip/dev.txt", {}, 4631),
    ("weibo/weiboNER_2nd_conll.train", {}, 1350),
    ("weibo/weiboNER_2nd_conll.dev", {}, 270),
    ("weibo/weiboNER_2nd_conll.test", {}, 270),
    ("resume/ResumeNER/train.char.bmes", {}, 3821),
    ("resume/ResumeNER/dev.char.bmes", {}, 463),
    ("resume/ResumeNER/test.char.bmes", {}, 477),
    ("wnut17/wnut17train.conll", {}, 3394),
    ("wnut17/emerging.dev.conll", {}, 1009),
    ("wnut17/emerging.test.annotated", {}, 1287),
    ("germeval14/GermEval2014.zip", {"split": "valid"}, 2200),
    ("germeval14/GermEval2014.zip", {"split": "test"}, 5100),
]


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::kexue.text.DataWarning")
@pytest.mark.parametrize(("name", "options", "rows"), ROWS)
def test_real_sets(data_folder, name, options, rows):
    assert len(read_entities(data_folder / "ner" / name, **options)) == rows


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "scheme"), [("resume/ResumeNER/dev.char.bmes", "bmes"), ("people_daily/NER_chi/example.dev", "bio")]
)
def test_tags_written_back_equal_the_file(data_folder, name, scheme):
    path = data_folder / "ner" / name
    blocks = [
        [line.rsplit(" ", 1) for line in block.split("\n") if line] for block in path.read_text("utf-8").split("\n\n")
    ]
    blocks = [block for block in blocks if block]
    for example, rows in zip(read_entities(path), blocks, strict=True):
        assert example["text"] == "".join(token for token, _ in rows)
        if len(example["text"]) == len(rows):
            spans = [(e["start"], e["end"], e["label"]) for e in example["entities"]]
            assert to_tags(example["text"], spans, scheme) == [tag for _, tag in rows]
