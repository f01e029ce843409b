"""Running one token at a time gives what running everything at once gives."""

import numpy as np
import pytest
from keras import ops
from tests.models import tiny

from kexue.decoding.engine import Cached, make, release
from kexue.decoding.loop import compiler
from kexue.errors import ConfigError

BRANCHES, ROOM = 2, 3
EAGER = tiny.BACKEND == "torch"
SOME = ("t5", "xlnet", "linear_elu")
"""For the backends that compile each model: all others differ in what `kexue.nn` already tests on them."""
REFUSED = {
    "reverse", "permuted", "bidirectional", "window", "same_document", "prefix_or_window", "conv", "convolution",
    "two_stream", "two_stream_rotary", "two_stream_gau", "linear_exp", "linear_cosine", "condition_each",
}  # fmt: skip


def causal(name: str) -> object:
    """The model of the suite, under a mask that can generate."""
    config = tiny.config(name)
    keeps = config.decoder_layers or config.mask not in ("bidirectional", {"name": "bidirectional", "config": {}})
    return tiny.build(name, head="lm", mask=None if keeps or name in REFUSED else "causal")


def prompts(model, lengths=(4, 1, 3)):
    rng = np.random.default_rng(1)
    rows, width = len(lengths), max(lengths)
    real = np.arange(width) < np.array(lengths)[:, None]
    ids = rng.integers(3, 31, (rows, width)).astype("int32")
    batch = {}
    if model.config.decoder_layers:
        batch = tiny.batch(model, rows, 7)
        batch = {n: v for n, v in batch.items() if not n.startswith("decoder_")}
        batch |= {"decoder_token_ids": ids, "decoder_padding_mask": real}
    else:
        batch = {"token_ids": ids, "padding_mask": real}
        if model.config.num_segments or model.config.position_options.get("segments"):
            batch["segment_ids"] = np.zeros((rows, width), "int32")
            batch["target_segments"] = np.full(rows, int(model.config.num_segments != 1), "int32")
        if model.config.condition_size:
            batch["condition"] = rng.normal(size=(rows, model.config.condition_size)).astype("float32")
    return batch


def whole(model, batch, row, tokens):
    """Logits after the last of ``tokens``, which follow the prompt of ``row``, without a cache."""
    side = "decoder_" if model.config.decoder_layers else ""
    one = {n: v[row : row + 1] for n, v in batch.items() if n != "target_segments"}
    n = int(one[f"{side}padding_mask"].sum())
    ids = np.concatenate([one[f"{side}token_ids"][0, :n], tokens]).astype("int32")
    if "target_segments" in batch:
        segment = np.zeros(len(ids), "int32")
        segment[n:] = batch["target_segments"][row]
        one["segment_ids"] = segment[None]
    one |= {f"{side}token_ids": ids[None], f"{side}padding_mask": np.ones((1, len(ids)), bool)}
    return tiny.run(model, one)["logits"][0, -1]


def check(model, engine, batch, branches=BRANCHES, tolerance=2e-5):
    side = engine.side
    rng = np.random.default_rng(2)
    compiled = compiler()
    start = compiled(model, lambda inputs: engine.start(inputs, branches, ROOM))
    go = compiled(model, engine.step)
    tensors = {n: ops.convert_to_tensor(v) for n, v in batch.items()}
    rows = len(batch[f"{side}token_ids"])
    logits, memory, state = start(tensors)
    logits = tiny.numpy(logits)
    for row in range(rows if EAGER else 1):
        np.testing.assert_allclose(logits[row], whole(model, batch, row, []), atol=tolerance)
    texts = [[[] for _ in range(branches)] for _ in range(rows)]
    for step in range(ROOM):
        if branches > 1 and step:
            parents = rng.integers(0, branches, (rows, branches)).astype("int32")
            state = engine.reorder(state, ops.convert_to_tensor(parents))
            texts = [[list(texts[r][p]) for p in parents[r]] for r in range(rows)]
        tokens = rng.integers(3, 31, (rows, branches)).astype("int32")
        logits, state = go(memory, state, ops.convert_to_tensor(tokens))
        logits = tiny.numpy(logits)
        for row in range(rows):
            for b in range(branches):
                texts[row][b].append(tokens[row, b])
    for row in range(rows):
        for b in range(branches):
            expected = whole(model, batch, row, texts[row][b])
            np.testing.assert_allclose(logits[row, b], expected, atol=tolerance, err_msg=f"row {row} branch {b}")


@pytest.mark.parametrize("name", [n for n in (tiny.SUITE if EAGER else SOME) if n not in REFUSED])
def test_cached_equals_uncached(name: str) -> None:
    """Ragged prompts, branches that are reordered, the last step against a run of each sequence by itself."""
    model = causal(name)
    check(model, make(model), prompts(model))


@pytest.mark.parametrize("name", ["gpt2", "roformer", "alibi", "transformer_xl", "log_n", "t5"] if EAGER else ["gpt2"])
def test_texts_after_a_shared_beginning(name: str) -> None:
    """One prompt, read once; texts of different lengths after it, then a token each, in slots that were added."""
    model = causal(name)
    engine = make(model)
    assert isinstance(engine, Cached)
    batch = prompts(model, (5,))
    tensors = {n: ops.convert_to_tensor(v) for n, v in batch.items()}
    compiled = compiler()
    _, memory, state = compiled(model, lambda inputs: engine.start(inputs, 1, 4))(tensors)
    memory, state = engine.spread(memory, state, 3)
    rng = np.random.default_rng(3)
    ids, lengths = rng.integers(3, 31, (3, 4)).astype("int32"), np.array([1, 4, 2])
    real = np.arange(4) < lengths[:, None]
    logits, state = compiled(model, engine.append)(
        memory, state, ops.convert_to_tensor(ids), ops.convert_to_tensor(real)
    )
    texts = [list(row[:n]) for row, n in zip(ids, lengths, strict=True)]
    for row in range(3):
        np.testing.assert_allclose(tiny.numpy(logits)[row], whole(model, batch, 0, texts[row]), atol=2e-5)
    state = engine.grown(state, 2)
    go = compiled(model, engine.step)
    for _ in range(2):
        new = rng.integers(3, 31, (3, 1)).astype("int32")
        logits, state = go(memory, state, ops.convert_to_tensor(new))
        texts = [[*text, token[0]] for text, token in zip(texts, new, strict=True)]
    for row in range(3):
        np.testing.assert_allclose(tiny.numpy(logits)[row, 0], whole(model, batch, 0, texts[row]), atol=2e-5)


def test_texts_after_need_keys() -> None:
    """A recurrent state would take in padding."""
    engine = make(causal("linear_elu"))
    assert isinstance(engine, Cached)
    with pytest.raises(ConfigError, match="linear attention"):
        engine.append({}, {}, None, None)


@pytest.mark.skipif(not EAGER, reason="PyTorch alone packs")
@pytest.mark.parametrize("name", ["gpt2", "bert", "llama", "t5"])
def test_packed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed matrices give the same, also after weights have changed."""
    from kexue.decoding import packed_torch

    monkeypatch.setattr(packed_torch, "SMALLEST", 0)
    used = []
    current = packed_torch.Matrix._current
    monkeypatch.setattr(packed_torch.Matrix, "_current", lambda self, w: used.append(current(self, w)) or used[-1])
    model = causal(name)
    check(model, make(model), prompts(model), branches=1)
    for weight in model.weights:
        weight.assign(weight * 1.3)
    check(model, make(model), prompts(model))
    assert used
    assert all(matrix is not None for matrix in used) == packed_torch._AVAILABLE
    release(model)
    assert make(model) is make(model)


@pytest.mark.skipif(not EAGER, reason="PyTorch alone packs")
def test_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from kexue.decoding import packed_torch

    monkeypatch.setattr(packed_torch, "SMALLEST", 0)
    rng = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(24, 40, generator=rng), torch.randn(40, generator=rng)
    for transposed in (False, True):
        matrix = packed_torch.Matrix(transposed)
        for change in (1.0, 2.0):
            weight.mul_(change)
            for rows in (1, 5, 33):
                x = torch.randn(rows, 1, 24, generator=rng)
                for b in (None, bias):
                    found = matrix(x, weight.t().contiguous() if transposed else weight, b)
                    expected = x.double() @ weight.double() + (0 if b is None else b.double())
                    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)
    monkeypatch.setattr(packed_torch, "_has_room", lambda _: False)
    assert packed_torch.Matrix()._current(weight) is None


@pytest.mark.parametrize("name", sorted(REFUSED) if EAGER else ["bidirectional"])
def test_refused(name: str) -> None:
    """What cannot run one token at a time says so."""
    with pytest.raises(ConfigError, match=r"cached=False|one stream"):
        make(causal(name))
