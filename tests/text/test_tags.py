"""Tags and spans: round trips, strictness, parity with seqeval."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue.errors import ConfigError, DataError
from kexue.text.data.tags import SCHEMES, Span, from_tags, to_tags


@st.composite
def flat_spans(draw):
    length = draw(st.integers(0, 12))
    cuts = sorted(draw(st.sets(st.integers(0, length))))
    spans = [
        Span(a, b, draw(st.sampled_from(["PER", "LOC", "a-b"])))
        for a, b in itertools.pairwise(cuts)
        if draw(st.booleans())
    ]
    return length, spans


@pytest.mark.parametrize("scheme", SCHEMES)
@given(case=flat_spans())
def test_round_trip(scheme, case):
    length, spans = case
    tags = to_tags(length, spans, scheme)
    assert len(tags) == length
    assert from_tags(tags, scheme, strict=True) == spans
    assert from_tags(tags) == spans


@pytest.mark.peer
@given(st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in "BIES" for t in ("X", "Y"))]), max_size=12))
def test_lenient_equals_seqeval(tags):
    sequence_labeling = pytest.importorskip("seqeval.metrics.sequence_labeling")
    expected = [Span(start, end + 1, label) for label, start, end in sequence_labeling.get_entities(tags)]
    assert from_tags(tags) == expected
    bmes = [tag.replace("I-", "M-") for tag in tags]
    assert from_tags(bmes) == expected


def brute_force_legal(tags, scheme):
    """A sequence is legal if some set of spans writes it."""
    return to_tags(len(tags), from_tags(tags), scheme) == list(tags)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(data=st.data())
def test_strict_accepts_what_can_be_written(scheme, data):
    letters = {"bio": "BI", "iob1": "BI", "bioes": "BIES", "bmes": "BMES"}[scheme]
    tags = data.draw(st.lists(st.sampled_from(["O", *(f"{p}-{t}" for p in letters for t in "XY")]), max_size=6))
    if brute_force_legal(tags, scheme):
        assert to_tags(tags, from_tags(tags, scheme, strict=True), scheme) == tags
    else:
        with pytest.raises(DataError, match="tag"):
            from_tags(tags, scheme, strict=True)


@pytest.mark.parametrize("tag", ["", "B", "X-PER", "B-", "PER", "o", "O-PER", "BPER", "-PER"])
def test_unknown_tag(tag):
    with pytest.raises(DataError, match="tag 1: unknown tag"):
        from_tags(["O", tag])


@pytest.mark.parametrize(
    "spans", [[(0, 0, "A")], [(2, 1, "A")], [(-1, 1, "A")], [(2, 4, "A")], [(0, 2, "A"), (1, 3, "B")]]
)
def test_impossible_spans(spans):
    with pytest.raises(DataError):
        to_tags(3, spans)


def test_unknown_scheme():
    with pytest.raises(ConfigError, match="scheme"):
        to_tags(3, [], "xyz")


def test_scheme_letters_are_checked():
    with pytest.raises(DataError, match="not a tag of the scheme"):
        from_tags(["S-X"], "bio", strict=True)
