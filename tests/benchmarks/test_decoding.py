"""The plain rule of the benchmark is the library's."""

import numpy as np
from benchmarks.decoding_plain import bert4keras_beams

from kexue.decoding import Beam, generate
from kexue.models import Transformer

CONFIG = {
    "vocabulary_size": 23, "hidden_size": 16, "num_layers": 1, "num_heads": 2, "intermediate_size": 16,
    "max_length": 32, "num_segments": 2,
}  # fmt: skip


def test_plain_rule():
    model = Transformer(CONFIG, mask="prefix", head="lm")
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(0, 0.5, weight.shape).astype("float32"))
    prompts = [[3, 4, 5, 6], [7, 8]]
    found = generate(model, prompts, Beam(3, rule="bert4keras"), max_tokens=9)
    assert found.best == [bert4keras_beams(model, prompt, 3, 9) for prompt in prompts]
    assert found.best[0] != found.best[1]
