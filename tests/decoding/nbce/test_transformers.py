"""NBCE and parallel windows on models of transformers: their cache and padding change nothing."""

import keras
import numpy as np
import pytest

from kexue.decoding import nbce
from kexue.decoding.nbce.pooling import normalised
from kexue.errors import ConfigError, DataError

if keras.backend.backend() == "tensorflow":
    pytest.skip("TensorFlow and what PyTorch loads crash in one process", allow_module_level=True)
# All of it while tests are collected: PyTorch's libraries crash when they load after JAX has compiled something.
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
GPT, LLAMA = transformers.GPT2LMHeadModel, transformers.LlamaForCausalLM

CONTEXTS, PROMPT = [[9, 8, 7, 11], [20, 21]], [5, 6]


def peers():
    torch.manual_seed(0)
    shape = {"vocab_size": 30, "bos_token_id": 2, "eos_token_id": 3}
    gpt = transformers.GPT2Config(**shape, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    llama = transformers.LlamaConfig(
        **shape, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.3,
    )  # fmt: skip
    return [GPT(gpt).eval(), LLAMA(llama).eval()]


@pytest.mark.peer
def test_transformers_models():
    """The cached, left-padded batch equals each row alone; windows equal the model where there is one context."""
    first = [[2, *PROMPT], [2, *CONTEXTS[0], *PROMPT], [2, *CONTEXTS[1], *PROMPT]]
    for model in peers():

        def reference(row, model=model):
            with torch.no_grad():
                return model(torch.tensor([row])).logits[0, -1].numpy()

        rows = nbce.TransformersRows(model)
        np.testing.assert_allclose(rows.start(first), [reference(row) for row in first], atol=1e-5)
        np.testing.assert_allclose(rows.extend(13), [reference([*row, 13]) for row in first], atol=1e-5)
        np.testing.assert_allclose(rows.extend(14), [reference([*row, 13, 14]) for row in first], atol=1e-5)
        windows = nbce.TransformersWindows(model)
        one = windows.next(CONTEXTS[:1], PROMPT)
        np.testing.assert_allclose(one, normalised(reference([*CONTEXTS[0], *PROMPT]).astype("float64")), atol=1e-5)
        both = windows.next(CONTEXTS, PROMPT)
        np.testing.assert_allclose(both, windows.next(CONTEXTS[::-1], PROMPT), atol=1e-5)
        answer = nbce.NBCE(rows, start=[2], temperature=0).generate(CONTEXTS, PROMPT, max_tokens=5)
        for step, use in enumerate(answer.used):
            whole = [reference([2, *c, *PROMPT, *answer.tokens[:step]]) for c in ([], *CONTEXTS)]
            previous = answer.contexts[step - 1] if step else None
            found = nbce.combine(normalised(np.asarray(whole, "float64")), previous=previous)
            assert (use.token, use.context) == (found.log_scores.argmax(), int(found.context))
        with pytest.raises(ConfigError, match="end at 32"):
            rows.start([[1] * 33])
        with pytest.raises(DataError, match="between 0 and 29"):
            rows.start([[30]])
        with pytest.raises(DataError, match="between 0 and 29"):
            windows.next([[-1]], PROMPT)
    with pytest.raises(ConfigError, match="causal model"):
        nbce.TransformersRows(lambda ids: ids)
