"""Readers learn from random weights to look things up, and to say where there is nothing."""

from typing import Any

import keras
import pytest
from tests.tasks.reading import pointer, reader, records


class Learnt(keras.callbacks.Callback):
    """Ends a training that has nothing left to learn."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if logs is not None and logs["loss"] < 0.02:
            self.model.stop_training = True


@pytest.mark.slow
@pytest.mark.parametrize("make", [reader, pointer], ids=["write", "point"])
def test_key_and_value(make: Any) -> None:
    """Three passages "key: value": more than 95 % of unseen questions are answered right, and as many of those about a
    key that none of the passages has are left open."""
    kind = {"passages": 3, "keys": 1, "letters": 4}
    options: dict[str, Any] = {"batch_size": 32, "learning_rate": 5e-3, "negatives": 0.5, "verbose": 0}
    train = records(800, 1, unanswered=0.1, **kind)
    for seed in range(3):  # from some weights so small a network does not find out what the key is for
        task = make(seed)
        history = task.fit(train, epochs=24, callbacks=[Learnt()], **options)
        if history.history["loss"][-1] < 0.1:
            break
    known = task.evaluate(records(200, 2, **kind))
    assert known.exact > 0.95
    assert task.evaluate(records(100, 3, unanswered=1.0, **kind)).answered < 0.05
    for record, one in zip(records(20, 4, **kind), task.predict(records(20, 4, **kind)), strict=True):
        assert one["passage"] == record["spans"][0]["passage"]
        assert (one["start"], one["end"]) == (record["spans"][0]["start"], record["spans"][0]["end"])
