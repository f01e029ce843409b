"""Masks against double loops over (query, key), and against the algebra of sets."""

import itertools
import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from tests.nn.harness import BACKEND

from kexue.errors import ConfigError
from kexue.nn import masks
from kexue.nn.attention.plumbing import AttentionMask
from kexue.nn.masks import Bidirectional, Causal, Mask, Permuted, Prefix, SameDocument, Window

few = settings(max_examples=25)


def dense(mask, length=None, **facts):
    """`Mask.dense` as NumPy, (batch, queries, keys)."""
    out = ops.convert_to_numpy(mask.dense(length, **facts))
    assert out.dtype == bool
    assert out.shape[1] == 1
    return out[:, 0]


def sees(mask: Mask, q: int, k: int, row: dict[str, np.ndarray]) -> bool:
    """The rule by its definition in words, one pair at a time."""
    if isinstance(mask, masks._Inverted):
        return not sees(mask.inner, q, k, row)
    if isinstance(mask, masks._Combined):
        both = (sees(mask.left, q, k, row), sees(mask.right, q, k, row))
        return all(both) if mask.kind == "and" else any(both)
    if isinstance(mask, Causal):
        return k >= q if mask.reverse else k <= q
    if isinstance(mask, Window):
        distance = k - q
        return not (mask.left is not None and -distance > mask.left) and not (
            mask.right is not None and distance > mask.right
        )
    if isinstance(mask, Prefix):
        # All that stands before the next target token, seen from the query.
        targets = row["segment_ids"]
        return sum(targets[: k + 1]) <= sum(targets[: q + 1])
    if isinstance(mask, Permuted):
        order = row["order"] if mask.order is None else mask.order
        return order[k] < order[q] if mask.strict else order[k] <= order[q]
    if isinstance(mask, SameDocument):
        return row["document_ids"][q] == row["document_ids"][k]
    assert isinstance(mask, Bidirectional)
    return True


def brute(mask, length, rows, padding=None, documents=False):
    out = np.zeros((len(rows), length, length), bool)
    for b, q, k in itertools.product(range(len(rows)), range(length), range(length)):
        out[b, q, k] = sees(mask, q, k, rows[b])
        if padding is not None:
            out[b, q, k] &= bool(padding[b][k])
        if documents:
            out[b, q, k] &= rows[b]["document_ids"][q] == rows[b]["document_ids"][k]
    return out


limit = st.none() | st.integers(0, 4)
leaves = st.one_of(
    st.just(Bidirectional()),
    st.builds(Causal, st.booleans()),
    st.builds(Window, limit, limit),
    st.just(Prefix()),
    st.builds(Permuted, st.none(), st.booleans()),
    st.just(SameDocument()),
)
rules = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=4,
)


@st.composite
def batches(draw):
    length, rows = draw(st.integers(1, 7)), draw(st.integers(1, 3))
    bits, documents = (st.lists(st.integers(0, most), min_size=length, max_size=length) for most in (1, 2))
    facts = {
        "segment_ids": np.array([draw(bits) for _ in range(rows)], "int32"),
        "document_ids": np.array([draw(documents) for _ in range(rows)], "int32"),
        "order": np.array([draw(st.permutations(range(length))) for _ in range(rows)], "int32"),
    }
    padding = np.array([draw(bits) for _ in range(rows)], bool)
    return length, facts, padding


def by_row(facts):
    return [{name: value[i] for name, value in facts.items()} for i in range(len(facts["order"]))]


@few
@given(rules, batches())
def test_any_rule_equals_the_double_loop(rule, batch):
    length, facts, padding = batch
    got = dense(rule, length, padding_mask=padding, **facts)
    np.testing.assert_array_equal(got, brute(rule, length, by_row(facts), padding, documents=True))


@few
@given(rules.filter(lambda rule: "document" not in rule.needs), batches())
def test_without_documents_and_padding(rule, batch):
    length, facts, _ = batch
    del facts["document_ids"]
    want = brute(rule, length, by_row(facts))
    np.testing.assert_array_equal(np.broadcast_to(dense(rule, length, **facts), want.shape), want)


@few
@given(leaves, leaves, batches())
def test_combinations_obey_boolean_algebra(a, b, batch):
    length, facts, _ = batch

    def m(mask):
        return np.broadcast_to(dense(mask, length, **facts), (len(facts["order"]), length, length))

    same = m(Bidirectional())  # documents are ANDed in outside of every rule
    np.testing.assert_array_equal(m(a & b), m(a) & m(b))
    np.testing.assert_array_equal(m(a | b), m(a) | m(b))
    np.testing.assert_array_equal(m(~a), ~m(a) & same)
    np.testing.assert_array_equal(m(~~a), m(a))
    np.testing.assert_array_equal(m(~(a & b)), m(~a | ~b))
    np.testing.assert_array_equal(m(a & ~a), np.zeros_like(same))
    np.testing.assert_array_equal(m(a | ~a), same)


@few
@given(rules)
def test_configuration_round_trip(rule):
    config = json.loads(json.dumps(masks.to_config(rule)))
    again = masks.get(config)
    assert again == rule
    assert hash(again) == hash(rule)
    assert again.needs == rule.needs
    assert repr(again) == repr(rule)
    assert masks.get(rule) is rule


@few
@given(rules, batches(), st.integers(0, 4))
def test_query_offset_is_a_slice_of_the_full_mask(rule, batch, start):
    """Cached decoding: queries start in the middle of the keys."""
    length, facts, padding = batch
    start = min(start, length - 1)
    full = dense(rule, length, padding_mask=padding, **facts)
    part = dense(rule, length, query_length=length - start, query_offset=start, padding_mask=padding, **facts)
    np.testing.assert_array_equal(part, full[:, start:])
    one = dense(rule, length, query_length=1, query_offset=ops.convert_to_tensor(start), **facts)
    np.testing.assert_array_equal(one, dense(rule, length, **facts)[:, start : start + 1])


simple = st.one_of(st.just(Bidirectional()), st.builds(Causal, st.booleans()), st.builds(Window, limit, limit))
pairs = st.recursive(
    simple,
    lambda inner: st.builds(lambda a, b, c: (a & b) if c else (a | b), inner, inner, st.booleans()),
    max_leaves=4,
)


@few
@given(pairs, st.integers(1, 8))
def test_lowering_is_exact(rule, length):
    want, low = dense(rule, length)[0], rule.lowering()
    places = np.arange(length)
    if low.everything:
        assert want.all()
    if low.causal:
        np.testing.assert_array_equal(want, places[None] <= places[:, None])
    if low.window is not None:
        left, right = (length if x is None else x for x in low.window)
        distance = places[None] - places[:, None]
        np.testing.assert_array_equal(want, (distance >= -left) & (distance <= right))
    assert low.everything or low.causal or low.window or low.dense


def test_lowering_takes_the_cheap_forms():
    assert Bidirectional().lowering().everything
    assert Causal().lowering().causal
    assert (Causal() & Bidirectional()).lowering().causal
    assert (Causal() & Window(5, 5)).lowering().window == (5, 0)
    assert Window(None, 0).lowering().causal
    assert Window(None, None).lowering().everything
    assert (Causal() | Bidirectional()).lowering().everything
    for rule in (Prefix(), Permuted(), SameDocument(), ~Causal(), Causal() & Prefix(), Causal() | Window(1, 1)):
        assert rule.lowering().dense, rule


@few
@given(rules, batches(), st.booleans(), st.booleans())
def test_attention_mask_layer_and_causal_flag_equal_dense(rule, batch, pad, documents):
    """What attention is told, the tensor and the flag together, is the rule."""
    length, facts, padding = batch
    if not documents and "document" not in rule.needs:
        facts.pop("document_ids")
    layer = AttentionMask(rule)
    got = layer(np.ones((len(facts["order"]), length), "int32"), padding if pad else None, **facts)
    visible = np.ones((1, 1, 1, length), bool) if got is None else ops.convert_to_numpy(got)
    if layer.causal_flag:
        visible = visible & np.tril(np.ones((length, length), bool))
    want = dense(rule, length, padding_mask=padding if pad else None, **facts)[:, None]
    np.testing.assert_array_equal(*np.broadcast_arrays(visible, want, np.ones((1, 1, length, length), bool))[:2])


def test_unilm_golden():
    """Six source and four target tokens (spec 24.3): the source sees all of itself and nothing of the target."""
    segments = np.array([[0] * 6 + [1] * 4])
    got = dense(Prefix(), segment_ids=segments)[0].astype(int)
    assert got[:6, :6].all()
    assert not got[:6, 6:].any()
    assert got[6:].tolist() == [[1] * n + [0] * (10 - n) for n in (7, 8, 9, 10)]


def test_unilm_pads_need_the_padding_mask():
    """Padding has segment 0 and would share the last target's count."""
    segments, padding = np.array([[0, 0, 1, 1, 0, 0]]), np.array([[1, 1, 1, 1, 0, 0]])
    assert dense(Prefix(), segment_ids=segments)[0, 3, 4]
    assert not dense(Prefix(), segment_ids=segments, padding_mask=padding)[0, :, 4:].any()


def test_several_source_and_target_parts():
    """Source tokens after a target share its count: both ways among themselves and with it."""
    got = dense(Prefix(), segment_ids=np.array([[0, 1, 0, 0, 1]]))[0].astype(int)
    assert got.tolist() == [[1, 0, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_the_permuted_example_of_the_article():
    """Order <s> 迎 京 你 欢 北 <e> over the sentence <s> 北 京 欢 迎 你 <e>."""
    sentence, order = "s北京欢迎你e", "s迎京你欢北e"
    rank = [order.index(c) for c in sentence]
    got = dense(Permuted(rank, strict=True), len(sentence))[0]

    def seen(token):
        return {sentence[k] for k in np.flatnonzero(got[sentence.index(token)])}

    assert seen("迎") == {"s"}
    assert seen("京") == {"s", "迎"}
    assert seen("北") == {"s", "迎", "京", "你", "欢"}
    # The plain form also sees the token itself; sorted by the order it is the causal mask.
    plain = dense(Permuted(rank), len(sentence))[0]
    np.testing.assert_array_equal(plain, got | np.eye(len(sentence), dtype=bool))
    places = np.argsort(rank)
    np.testing.assert_array_equal(plain[places][:, places], dense(Causal(), len(sentence))[0])


def test_order_of_the_rule_or_of_the_batch():
    order = [2, 0, 1]
    want = dense(Permuted(order), 3)
    np.testing.assert_array_equal(dense(Permuted(), 3, order=np.array([order])), want)
    np.testing.assert_array_equal(dense(Permuted(), 3, order=np.array(order)), want)


def test_packed_documents_hide_each_other():
    documents = np.array([[1, 1, 2, 2, 2, 0]])
    got = dense(Causal(), document_ids=documents)[0]
    want = np.tril(np.ones((6, 6), bool)) & (documents[0][:, None] == documents[0][None])
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(
        dense(Bidirectional(), document_ids=documents), dense(SameDocument(), document_ids=documents)
    )


def test_documents_are_anded_into_a_rule_that_speaks_of_them():
    documents = np.array([[1, 1, 2, 2]])
    got = dense(SameDocument() | Causal(), document_ids=documents)[0]
    np.testing.assert_array_equal(got, dense(SameDocument(), document_ids=documents)[0])
    assert not dense(~SameDocument(), document_ids=documents).any()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Window(-1, 0), "left=-1"),
        (lambda: Window(0, 1.5), "right=1.5"),
        (lambda: Permuted([0, 0, 1]), r"\[0, 0, 1\]"),
        (lambda: Permuted([1, 2]), r"\[1, 2\]"),
        (lambda: masks.get("casual"), "casual"),
        (lambda: masks.get(3), "3"),
        (lambda: masks.get({"name": "window", "config": {"lft": 1}}), "lft"),
        (lambda: masks.get({"config": {}}), "config"),
        (lambda: Causal() & "prefix", "prefix"),
        (lambda: Causal() | None, "None"),
        (lambda: Causal().dense(), "length"),
        (lambda: Prefix().dense(4), "segment_ids"),
        (lambda: SameDocument().dense(4), "document_ids"),
        (lambda: Permuted().dense(4), "order"),
        (lambda: Permuted([0, 1]).dense(4), "2 ranks"),
        (lambda: (Permuted([0, 1]) & Permuted([1, 0])).dense(2), "one order"),
        (lambda: (Permuted([0, 1]) & Permuted()).dense(2, order=np.array([0, 1])), "one order"),
    ],
)
def test_errors_name_what_is_wrong(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_rule_of_ones_own():
    class EverySecond(Mask):
        def rule(self, q, k):
            return (q.index - k.index) % 2 == 0

    got = dense(EverySecond() & Causal(), 4)[0].astype(int)
    assert got.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1]]
    with pytest.raises(ConfigError, match="of your own"):
        masks.to_config(EverySecond())


def test_names():
    assert masks.get(None) == Bidirectional()
    assert masks.get("causal") == Causal()
    assert masks.get("causal") != Causal(reverse=True)
    assert masks.get({"name": "window", "config": {"left": 2, "right": 0}}) == Window(2, 0)


def test_keras_serialisation():
    rule = Causal() & ~Window(2, 1)
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rule)) == rule


def flex_equals_dense(rule, length, facts, padding):
    import torch
    from torch.nn.attention.flex_attention import create_mask

    from kexue.nn.attention.flex import mask_mod

    mod = mask_mod(rule, length, padding_mask=torch.tensor(padding), **{n: torch.tensor(v) for n, v in facts.items()})
    got = create_mask(mod, len(padding), 1, length, length, device="cpu")
    want = np.broadcast_to(dense(rule, length, padding_mask=padding, **facts)[:, None], got.shape)
    np.testing.assert_array_equal(got.numpy(), want)


only_torch = pytest.mark.skipif(BACKEND != "torch", reason="FlexAttention is PyTorch's")


@only_torch
@settings(max_examples=15)
@given(rules.filter(lambda rule: "document" not in rule.needs), batches())
def test_flex_attention_sees_the_same(rule, batch):
    flex_equals_dense(rule, *batch)


@only_torch
def test_flex_attention_hides_other_documents_from_any_rule():
    documents = np.array([[1, 2, 2]], "int32")
    flex_equals_dense(SameDocument() | Causal(), 3, {"document_ids": documents}, np.ones((1, 3), bool))
