"""Recognisers trained adversarially and with R-Drop: the mechanism on our Transformer and its heads."""

import keras
import numpy as np
import pytest
from tests.tasks.conftest import new, sentences

from kexue.errors import ConfigError
from kexue.training import FGM, PGD, VAT, GradientPenalty, RDrop, with_strategy

DATA = [e for e in sentences(90, 1, nested=False) if 14 < len(e["text"]) < 24][:48]
CASES = {
    "fgm": ("global_pointer", FGM(epsilon=0.3)),
    "fgm, chain": ("crf", FGM(epsilon=0.3)),
    "pgd": ("softmax", PGD(epsilon=0.3, steps=2)),
    "penalty": ("efficient_global_pointer", GradientPenalty(epsilon=0.1)),
    "vat": ("softmax", VAT(epsilon=0.3, xi=1.0)),
    "r-drop": ("global_pointer", RDrop(alpha=1.0, kind="sigmoid")),
}


QUICK = ("fgm, chain", "r-drop")


@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES])
def test_a_recogniser_learns(case):
    head, strategy = CASES[case]
    ner = new(head, dropout=0.1)
    logs = ner.fit(
        DATA, epochs=4, batch_size=8, learning_rate=1e-2, gradient_accumulation=2, verbose=0, strategy=strategy
    ).history["loss"]
    assert np.isfinite(logs).all()
    assert logs[-1] < 0.6 * logs[0]


def test_the_perturbation_reaches_the_transformer():
    """The gradient of the table found by FGM raises the loss of the real network, and no weight has moved."""
    ner = new("global_pointer")
    before = [v.numpy().copy() for v in ner.model.trainable_variables]
    losses = {}
    for epsilon in (1e-6, 0.5):
        logs = ner.fit(
            DATA,
            epochs=1,
            batch_size=48,
            learning_rate=1e-30,
            weight_decay=0.0,
            verbose=0,
            strategy=FGM(epsilon=epsilon),
        )
        losses[epsilon] = logs.history["loss"][0]
    assert losses[0.5] > 1.05 * losses[1e-6]
    for variable, value in zip(ner.model.trainable_variables, before, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, atol=1e-8)


def test_another_strategy_is_another_job(tmp_path):
    ner = new("softmax")
    arguments = {"epochs": 1, "batch_size": 48, "verbose": 0, "resume": tmp_path}
    ner.fit(DATA, **arguments, strategy=FGM())
    with pytest.raises(ConfigError, match="strategy was"):
        ner.fit(DATA, **arguments)


def test_the_default_pattern_means_the_token_table():
    ner = new("global_pointer")
    assert with_strategy(ner.model, FGM()) is ner.model
    with_strategy(ner.model, None)
    assert "train_step" not in vars(ner.model)
    assert isinstance(ner.model, keras.Model)
