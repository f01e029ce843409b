"""Unusual arguments of NBCE."""

import numpy as np
import pytest
from tests.decoding.nbce.test_nbce import CONTEXTS, PROMPT, Copier

from kexue.decoding.nbce import NBCE, window_layout
from kexue.decoding.nbce.windows import write_greedily
from kexue.errors import ConfigError


def test_stop_and_ids_of_any_kind():
    writer = NBCE(Copier(), temperature=0)
    plain = writer.generate([[7, 8, 9, 1], [7, 8, 9, 1]], [7], stop=[1])
    assert plain.tokens == [8, 9]
    assert writer.generate(np.array([[7, 8, 9, 1]] * 2), np.array([7]), stop=1).tokens == plain.tokens
    assert write_greedily(lambda contexts, task: np.eye(3)[len(task) - 1], [[0]], [0], 5, 2) == [0, 1]


@pytest.mark.parametrize(
    "call",
    [
        lambda: NBCE(Copier(), temperature=1e-50),
        lambda: NBCE(Copier(), temperature=np.inf),
        lambda: NBCE(Copier(), beta=np.inf),
        lambda: NBCE(Copier(), eta=np.nan),
        lambda: NBCE(Copier()).generate(["ab"], PROMPT),
        lambda: NBCE(Copier()).generate([3, 4], PROMPT),
        lambda: NBCE(Copier()).generate(CONTEXTS, "ab"),
        lambda: NBCE(Copier()).generate(CONTEXTS, PROMPT, max_tokens=2.5),
        lambda: window_layout(["ab"], PROMPT),
    ],
)
def test_errors(call):
    with pytest.raises(ConfigError):
        call()
