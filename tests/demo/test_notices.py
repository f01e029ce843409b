"""The generated notices: what the training of the demonstration relies on."""

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations

import pytest
from tokenizers import BertWordPieceTokenizer

from kexue.demo import notices, words
from kexue.errors import ConfigError

SPLITS = ("train", "valid", "test")


@pytest.fixture(scope="module")
def sets():
    return notices.datasets(train=2000, valid=500, test=500, seed=3)


@pytest.fixture(scope="module")
def everything(sets):
    return [notice for split in SPLITS for notice in sets[split]]


def spans(notice, *labels):
    return [
        (e["start"], e["end"], notice["text"][e["start"] : e["end"]])
        for e in notice["entities"]
        if not labels or e["label"] in labels
    ]


def test_spans_lie_inside_and_are_unique(everything):
    for notice in everything:
        seen = set()
        for entity in notice["entities"]:
            assert 0 <= entity["start"] < entity["end"] <= len(notice["text"])
            assert set(entity) == {"start", "end", "label"}
            key = (entity["start"], entity["end"], entity["label"])
            assert key not in seen
            seen.add(key)
        order = [(e["start"], -e["end"]) for e in notice["entities"]]
        assert order == sorted(order)


def test_every_label_occurs_in_every_split_and_no_other(sets):
    for split in SPLITS:
        assert {e["label"] for n in sets[split] for e in n["entities"]} == set(notices.LABELS)


def test_entities_nest_or_are_apart(everything):
    """Crossing spans would have no reading; nesting is what the pointer heads are for."""
    nested = total = 0
    for notice in everything:
        stretches = [(s, e) for s, e, _ in spans(notice)]
        assert len(set(stretches)) == len(stretches)
        inner = set()
        for a, b in combinations(stretches, 2):
            (start, end), (later_start, later_end) = sorted((a, b), key=lambda s: (s[0], -s[1]))
            assert later_start >= end or later_end <= end, notice["text"]
            if later_end <= end:
                assert start <= later_start
                inner.add((later_start, later_end))
        nested += len(inner)
        total += len(stretches)
    assert 0.10 < nested / total < 0.35


def test_what_an_entity_looks_like(everything):
    """Labels checked against the surface, by rules that do not use the builder."""
    shape = {
        "数值": r"\d+([～至到-]\d+)?(℃|级|毫米|厘米|米|公里每小时|公里)",
        "预警": rf"({'|'.join(words.WARNED)})(蓝色|黄色|橙色|红色)预警(信号)?",
        "天气": rf"({'|'.join((*words.PHENOMENA, *words.WARNED))})",
        "地点": rf"[{words.FIRST}][{words.SECOND}]([{words.THIRD}]|[市县区镇州])?",
        "机构": r".*(局|台|队|部|站|中心|机场|公司|厅|集团)",
        "路线": r"(.+)(至|到|—)(.+)(高铁|高速公路|航线|列车|专列|国道|轮渡|快速路|直通车)",
    }
    for notice in everything:
        for label, pattern in shape.items():
            for _, _, text in spans(notice, label):
                assert re.fullmatch(pattern, text), (label, text)


def test_nothing_is_left_unlabelled(everything):
    """A phenomenon, a value or the name of a place that is marked once is marked wherever it stands."""
    weather = re.compile("|".join(sorted({*words.PHENOMENA, *words.WARNED}, key=len, reverse=True)))
    value = re.compile(r"\d+(℃|级|毫米|厘米|米|公里)")
    for notice in everything:
        text = notice["text"]
        for pattern, label in ((weather, "天气"), (value, "数值")):
            covered = spans(notice, label)
            for hit in pattern.finditer(text):
                assert any(s <= hit.start() and hit.end() <= e for s, e, _ in covered), (text, hit.group())
        for name in {found for _, _, found in spans(notice, "地点")}:
            for hit in re.finditer(name, text):
                # Characters of 通溪南部 may spell 溪南; they still touch an entity.
                assert any(s < hit.end() and hit.start() < e for s, e, _ in spans(notice)), (text, name)


def test_inner_places(everything):
    """A route holds its two ends, a sight its place, a warning its phenomenon."""
    for notice in everything:
        for label, inner, count in (("路线", "地点", 2), ("景点", "地点", 1), ("预警", "天气", 1)):
            for start, end, _ in spans(notice, label):
                inside = [s for s in spans(notice, inner) if start <= s[0] and s[1] <= end]
                assert len(inside) == count


def test_long_lists_of_places(everything):
    counts = Counter(min(len(spans(n, "地点")), 8) for n in everything)
    assert counts[8] / len(everything) > 0.3
    longest = max(len(re.findall("、", n["text"])) for n in everything)
    assert longest >= 9


def test_lengths_and_sentences_without_an_entity(everything):
    assert all(20 <= len(n["text"]) <= 120 for n in everything)
    plain = [n["text"] for n in everything if not n["entities"]]
    assert 0.04 < len(plain) / len(everything) < 0.15
    assert max(map(len, plain)) > 40


def test_names_of_the_splits_are_disjoint_but_their_characters_are_not(sets):
    stems = {split: set(notices.place_stems(split)) for split in SPLITS}
    names = {split: {text[:2] for n in sets[split] for _, _, text in spans(n, "地点")} for split in SPLITS}
    for a, b in combinations(SPLITS, 2):
        assert not stems[a] & stems[b]
        assert not names[a] & names[b]
    for split in SPLITS:
        assert names[split] <= stems[split]
        assert len(names[split]) > 250
    for index in (0, 1):
        seen = {name[index] for name in stems["train"]}
        assert {name[index] for name in stems["test"]} <= seen
        assert {name[index] for name in stems["valid"]} <= seen


def test_a_training_name_is_not_spelled_by_accident_in_the_test_set(sets):
    """Only where two names touch may their characters form a third; never at the start of an entity."""
    train = set(notices.place_stems("train"))
    assert not any(text[:2] in train for n in sets["test"] for _, _, text in spans(n, "地点", "景点", "路线"))


def test_same_arguments_same_notices():
    first = notices.generate(300, seed=7)
    assert first == notices.generate(300, seed=7)
    assert notices.generate(120, seed=7) == first[:120]
    assert notices.generate(300, seed=8) != first
    assert notices.generate(300, seed=7, split="test") != first
    assert len({n["text"] for n in first}) == 300


def test_same_notices_in_another_process():
    """Neither hash randomisation nor the state of `random` plays a part."""
    code = "import json; from kexue.demo.notices import generate; print(json.dumps(generate(40, 1)))"
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert json.loads(out) == notices.generate(40, 1)


def test_thousands_in_about_a_second():
    start = time.process_time()
    notices.generate(4000, seed=0)
    assert time.process_time() - start < 3


def test_every_slot_of_the_templates_exists():
    for template in words.TEMPLATES:
        for slot in re.findall(r"\{(.*?)\}", template):
            assert callable(getattr(notices._Notice, slot, None)), (template, slot)
        assert not re.search(r"[a-zA-Z{}]", re.sub(r"\{\w+\}", "", template))
    assert len(set(words.TEMPLATES)) == len(words.TEMPLATES)


def test_vocabulary_covers_every_text_and_every_boundary(everything):
    """Through a real WordPiece tokenizer: no unknown token, and each entity begins and ends with a token."""
    vocabulary = notices.vocabulary()
    assert len(set(vocabulary)) == len(vocabulary)
    assert tuple(vocabulary[:5]) == notices.SPECIALS
    tokenizer = BertWordPieceTokenizer(vocab={token: index for index, token in enumerate(vocabulary)})
    unknown = vocabulary.index("[UNK]")
    for notice in everything:
        encoding = tokenizer.encode(notice["text"])
        assert unknown not in encoding.ids, notice["text"]
        starts, ends = zip(*encoding.offsets[1:-1], strict=True)
        assert {s for s, _, _ in spans(notice)} <= set(starts)
        assert {e for _, e, _ in spans(notice)} <= set(ends)


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="count=-1"):
        notices.generate(-1, 0)
    with pytest.raises(ConfigError, match="split='dev'"):
        notices.generate(1, 0, split="dev")
    assert notices.generate(0, 0) == []
