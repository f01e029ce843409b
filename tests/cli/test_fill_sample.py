"""The commands ``kexue fill`` and ``kexue sample``."""

import functools
import json
import math

import pytest

from kexue.cli import _language


@pytest.fixture(autouse=True, scope="module")
def loaded_once():
    """The model is read once for each mask, not once a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_language, "load_language", functools.cache(_language.load_language))
        yield


def test_fill(command):
    result = command("fill", "人民法[MASK]应当依法裁决。", "--top-k", 3)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "人民法[MASK]应当依法裁决。"
    assert lines[1].split()[:2] == ["1:", "院"]
    assert len(lines) == 2


def test_fill_several(command):
    arguments = ("fill", "中华人民共[MASK][MASK]刑法", "--samples", 3, "--sweeps", 2, "--json", "--seed", 5)
    first, second = command(*arguments), command(*arguments)
    assert first.exit_code == 0, first.output
    assert first.stdout == second.stdout
    record = json.loads(first.stdout)
    assert record["text"] == "中华人民共[MASK][MASK]刑法"
    assert len(record["blanks"]) == 2
    for blank in record["blanks"]:
        shares = [one["probability"] for one in blank]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1
    assert 1 <= len(record["fillings"]) <= 3
    for filling in record["fillings"]:
        assert filling["text"].startswith("中华人民共")
        assert filling["text"].endswith("刑法")
        assert "[MASK]" not in filling["text"]
    scores = [filling["log_probability"] for filling in record["fillings"]]
    assert scores == sorted(scores, reverse=True)


def test_fill_reads_lines(command):
    result = command("fill", "-", "--json", stdin="人民法[MASK]\n\n\ufeff[MASK]囍龘\r\n".encode())
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["人民法[MASK]", "\ufeff[MASK]囍龘"]
    assert "does not know" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fill"], "Nothing to do"),
        (["fill", "没有空"], "no [MASK]"),
        (["fill", ""], "empty"),
        (["fill", "[MASK]", "--temperature", "0"], "--temperature"),
        (["fill", "[MASK]", "--model", "nowhere"], "nowhere"),
        (["fill", "[MASK]" * 600], "510"),
        (["sample", ""], "empty"),
        (["sample", "--keywords", ","], "commas"),
        (["sample", "--keywords", "囍"], "囍"),
        (["sample", "人民", "--keywords", "人民"], "not both"),
        (["sample", "--paraphrase"], "needs a TEXT"),
        (["sample", "人民", "--paraphrase", "--keep", "法院"], "lacks"),
        (["sample", "人民", "--keep", "法院"], "could stay"),
        (["sample", "人民", "--keep", "人民"], "no token that may change"),
        (["sample", "--keywords", "人民", "--length", "30"], "--longest"),
        (["sample", "--keywords", "人民", "--longest", "6000"], "510"),
        (["sample", "人" * 600, "--paraphrase"], "510"),
        (["sample", "--temperature", "-1"], "--temperature"),
        (["sample", "--temperature", "nan"], "--temperature"),
        (["sample", "--temperature", "1e-320"], "--temperature"),
        (["sample", "--keep", "人民"], "words of a TEXT"),
        (["sample", "--keywords", "人民", "--keep", "人民"], "words of a TEXT"),
        (["sample", "--keywords", "[MASK]"], "[MASK]"),
        (["sample", "--length", "600"], "510"),
    ],
)
def test_mistakes(mistake, arguments, message):
    assert message in mistake(*arguments)


def test_broken_stdin(mistake):
    assert "UTF-8" in mistake("fill", "-", stdin=b"\xff\xfe[MASK]")
    assert "no text" in mistake("fill", "-", stdin=b"\n \n")


def test_gibbs(command):
    arguments = ("sample", "人民法院应当依法作出判决。", "--keep", "人民,。", "--chains", 2, "--steps", 3, "--json")
    result = command(*arguments)
    assert result.exit_code == 0, result.output
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(records) == 2
    for record in records:
        assert record["text"].startswith("人民")
        assert record["text"].endswith("。")
        assert len(record["text"]) == 13
        assert math.isfinite(record["score"])
    assert command(*arguments).stdout == result.stdout
    unknown = command("sample", "囍人民", "--keep", "人民", "--chains", 1, "--steps", 1)
    assert "1 token(s) that the vocabulary does not know" in unknown.stderr
    blank = command("sample", "--length", 5, "--chains", 1, "--steps", 12)
    assert blank.exit_code == 0, blank.output


def test_keywords(command):
    result = command("sample", "--keywords", "人民、法院", "--length", 5, "--chains", 2, "--steps", 3, "--json")
    assert result.exit_code == 0, result.output
    texts = [json.loads(line)["text"] for line in result.stdout.splitlines()]
    assert len(texts) == 2
    assert all("人民" in text and "法院" in text and len(text) >= 5 for text in texts)


def test_paraphrase(command):
    result = command("sample", "人民法院依法判决。", "--paraphrase", "--keep", "法院", "--chains", 2, "--steps", 3)
    assert result.exit_code == 0, result.output
    assert all("法院" in line for line in result.stdout.splitlines())


def test_interrupted_search_shows_what_it_has(command, monkeypatch):
    """Ctrl-C in the middle: the sentences so far on stdout, one line on stderr, exit code 130."""
    from kexue.decoding.search.mlm_gibbs import MaskedGibbs
    from kexue.decoding.search.writers import CGMH

    drawn, propose, calls = MaskedGibbs._drawn, CGMH.propose, []

    def gibbs(self, texts, chosen, rngs, step):
        if step == 3:
            raise KeyboardInterrupt
        return drawn(self, texts, chosen, rngs, step)

    def move(self, sentences, rng):
        calls.append(sentences)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return propose(self, sentences, rng)

    monkeypatch.setattr(MaskedGibbs, "_drawn", gibbs)
    monkeypatch.setattr(CGMH, "propose", move)
    for arguments in (["人民法院"], ["--keywords", "人民", "--length", 4], ["人民法院", "--paraphrase"]):
        calls.clear()
        result = command("sample", *arguments, "--chains", 2, "--steps", 1000)
        assert result.exit_code == 130, result.output
        assert len(result.stdout.splitlines()) == 2
        assert result.stderr.strip().splitlines()[-1] == "Error: interrupted after 3 of 1000 steps."
