"""Unusual arguments of the searches: they work, or the error says what was expected."""

from typing import Any

import numpy as np
import pytest
from keras import ops
from tests.decoding.test_generation import STOP, many, texts, toy

from kexue.decoding import Beam, Greedy, Sample, generate
from kexue.decoding.constraints import Automaton, Constraint, Contains, Regex, SpanOfSource, Trie
from kexue.decoding.filters import draw
from kexue.errors import ConfigError, DataError


def run(*search: Any, kind: str = "lm", prompts: Any = ((3, 4),), **options: Any) -> Any:
    return generate(toy(kind), prompts, *search, **({"max_tokens": 4, "stop": STOP} | options))


@many
def test_integers_of_any_kind() -> None:
    """NumPy's are as good as Python's."""
    plain = run(Sample(top_k=3, n=2), max_tokens=5, no_repeat_ngram=2)
    n = np.int64
    assert texts(run(Sample(top_k=n(3), n=n(2)), max_tokens=n(5), no_repeat_ngram=n(2), stop=n(STOP))) == texts(plain)
    assert texts(run(Beam(n(2), n_best=n(2)))) == texts(run(Beam(2, n_best=2)))
    assert texts(run(Sample(top_k=2**40))) == texts(run(Sample(top_k=7)))


@many
def test_ngrams_longer_than_the_room() -> None:
    assert run(no_repeat_ngram=500).best == run().best


@many
def test_stop_tokens() -> None:
    """A stop token that is named twice ends a sequence once; one that is forbidden never comes."""
    assert texts(run(Beam(4, n_best=4), stop=[STOP, STOP])) == texts(run(Beam(4, n_best=4)))
    assert (
        texts(run(Beam(4), stop={STOP})) == texts(run(Beam(4), stop=np.array(STOP))) == texts(run(Beam(4), stop=STOP))
    )
    for search in (Greedy(), Sample(2.0, n=4), Beam(3, n_best=3), Beam(3, rule="bert4keras")):
        for row in run(search, forbidden=[STOP]).sequences:
            assert all(one.reason == "length" and STOP not in one.tokens for one in row), search


@many
def test_one_text_without_a_stop_token_is_enough() -> None:
    assert run(constraint=Trie([[3, STOP], [STOP, 4], [5, 6]])).best == [[5, 6]]


@many
def test_bert4keras_rule_and_what_counts_steps() -> None:
    """A least length takes no room from a constraint and moves no n-gram."""
    search = Beam(4, rule="bert4keras")
    words = [[3, 4, 5], [6, 6, 6]]
    found = run(search, min_tokens=4, constraint=Trie(words)).sequences[0][0]
    assert found.reason == "stop"
    assert found.tokens in words
    for row in run(search, prompts=[[3], [4, 5], [6]], min_tokens=3, no_repeat_ngram=1, max_tokens=6).sequences:
        assert len(set(row[0].tokens)) == len(row[0].tokens)


@many
def test_dead_ends_hold_what_is_allowed() -> None:
    rule = Trie([[3, 4, 5]]) & Trie([[3, 4, 6]])
    for search in (Greedy(), Beam(2, rule="bert4keras")):
        found = run(search, constraint=rule).sequences[0][0]
        assert (found.tokens, found.reason) == ([3, 4], "dead end"), search
        assert -100 < found.score < 0
    nothing = [lambda logits, carry: ops.full_like(logits, -np.inf)]
    found = run(processors=nothing).sequences[0][0]
    assert (found.tokens, found.score, found.reason) == ([], 0.0, "dead end")


@many
def test_diversity_counts_choices_only() -> None:
    """A group whose beam has ended chooses nothing more, which costs the next one nothing."""
    tokens = [n for n in range(7) if n != STOP]
    rule = Trie([[6], *([4, n] for n in tokens)])
    for best in tokens:
        second = np.where(np.arange(7) == best, 5.0, 0.0).astype("float32")

        def fixed(logits: Any, carry: Any, second: Any = second) -> Any:
            first = np.array([0, 0, 0, 0, 4, 0, 5], "float32")
            return ops.zeros_like(logits) + ops.convert_to_tensor(second if int(carry["t"]) else first)

        found = run(Beam(2, n_best=2, groups=2, diversity=50.0), constraint=rule, processors=[fixed])
        assert sorted(one.tokens for one in found.sequences[0]) == [[4, best], [6]]


def test_draw_gives_what_can_be_drawn() -> None:
    """Sums by a tree are not monotone in float32: where they turn, no token of probability 0 is drawn."""
    rng = np.random.default_rng(0)
    p = (rng.random(20000) ** 8).astype("float32")
    p[rng.random(20000) < 0.7] = 0.0
    total = np.asarray(ops.convert_to_numpy(ops.cumsum(ops.convert_to_tensor(p))))
    grows = np.flatnonzero((np.diff(total, prepend=0) > 0) & (p == 0))
    numbers = ((total[grows] + total[grows - 1]) / 2 / total[-1] if len(grows) else rng.random(9)).astype("float32")
    tensor = ops.broadcast_to(ops.convert_to_tensor(p)[None], (len(numbers), len(p)))
    found = ops.convert_to_numpy(draw(tensor, ops.convert_to_tensor(numbers[:, None])))
    assert (p[found] > 0).all()


class Only(Constraint):
    """Only some tokens; its method depends on the object."""

    def __init__(self, tokens: set[int]) -> None:
        self.tokens = tokens

    def prepare(self, sources: Any, vocabulary: int) -> Any:
        return {}, np.zeros(len(sources), "int32")

    def allowed(self, tables: Any, state: Any, left: Any, vocabulary: int) -> Any:
        may = ops.convert_to_tensor(np.isin(np.arange(vocabulary), list(self.tokens)))
        return ops.broadcast_to(may, (*state.shape, vocabulary)), ops.zeros_like(state, dtype="bool")

    def advance(self, tables: Any, state: Any, tokens: Any) -> Any:
        return state


@many
def test_constraints_of_ones_own_are_kept_apart() -> None:
    assert run(constraint=Only({5})).best == [[5] * 4]
    assert run(constraint=Only({6})).best == [[6] * 4]


@many
def test_weights_that_are_not_numbers() -> None:
    for search in (Greedy(), Sample(), Beam(2)):
        with pytest.raises(ConfigError, match="NaN"):
            run(search, processors=[lambda logits, carry: logits * np.nan])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": [["a"]]}, r"lists of token ids.*\['a'\]"),
        ({"prompts": [[3.7]]}, "lists of token ids"),
        ({"prompts": [[[3]]]}, "lists of token ids"),
        ({"prompts": None}, "lists of token ids"),
        ({"prompts": [[2**32 + 3]]}, "between 0 and 6"),
        ({"prompts": {"padding_mask": [[1]]}}, "token_ids must be"),
        ({"prompts": {"token_ids": [3, 4]}}, "token_ids must be"),
        ({"prompts": {"token_ids": [[3], [3, 4]]}}, "token_ids must be"),
        ({"prompts": {"token_ids": [[3, 4]], "padding_mask": [[1]]}}, "padding_mask must be"),
        ({"decoder_start": [3]}, "has none"),
        ({"decoder_start": [], "kind": "t5"}, "decoder's"),
        ({"decoder_start": [7], "kind": "t5"}, "decoder_start"),
        ({"max_tokens": 4.0}, "max_tokens must be an integer"),
        ({"batch_size": 2.5}, "batch_size must be an integer"),
        ({"stop": "2"}, "stop must hold"),
        ({"stop": None}, "stop must hold"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty"),
        ({"repetition_penalty": 1e-50}, "repetition_penalty"),
        ({"processors": [3]}, "functions"),
        ({"constraint": Trie([[3, STOP]])}, "hold a stop token"),
        ({"constraint": SpanOfSource() & Contains([[STOP]])}, "hold a stop token"),
        ({"constraint": Trie([[3]]), "forbidden": STOP}, "needs a stop token"),
    ],
)
def test_errors(change: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        run(**change)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sample(1e-50), "temperature"),
        (lambda: Sample(float("inf")), "temperature"),
        (lambda: Sample(top_k=2.5), "top_k must be an integer"),  # type: ignore[arg-type]
        (lambda: Sample(seed=None), "seed"),  # type: ignore[arg-type]
        (lambda: Beam(2, temperature=1e-50), "temperature"),
        (lambda: Beam(2, length_penalty=float("nan")), "length_penalty"),
        (lambda: Beam(2, length_penalty=200.0), "length_penalty"),
        (lambda: Beam(2, groups=2, diversity=float("nan")), "diversity"),
        (lambda: Beam(2, diversity=1.0), "groups"),
        (lambda: Trie([3, 4]), "sequences of token ids"),  # type: ignore[list-item]
        (lambda: Trie(["ab"]), "sequences of token ids"),  # type: ignore[list-item]
        (lambda: Contains([3, 4]), "sequences of token ids"),  # type: ignore[list-item]
        (lambda: Automaton(np.zeros((1, 0)), [True]), "shape"),
        (lambda: Regex("(" * 3000 + "a" + ")" * 3000, ["a"]), "inside each other"),
    ],
)
def test_what_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
