"""Softmax a piece of the queries at a time, on JAX: exact, and never the whole matrix of scores."""

import functools

import numpy as np
import pytest
from tests.nn.harness import BACKEND

if BACKEND != "jax":
    pytest.skip("a kernel of JAX", allow_module_level=True)

import jax
import jax.numpy as jnp

from kexue.nn.attention import kernels_jax
from kexue.nn.attention.kernels import attend, explicit_attention
from kexue.nn.attention.kernels_jax import chunked_attention

B, H, D = 2, 4, 8


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """16 queries at a time."""
    monkeypatch.setattr(kernels_jax, "SCORES", 1)


def qkv(queries, keys, heads=H, dtype="float32"):
    rng = np.random.default_rng(0)
    shapes = ((B, queries, H, D), (B, keys, heads, D), (B, keys, heads, D + 1))
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


def facts(queries, keys, masked, biased):
    rng = np.random.default_rng(1)
    mask = None if masked is None else rng.random((*masked[:2], queries if masked[2] else 1, keys)) < 0.5
    if mask is not None:
        mask[-1, :, -1] = False  # rows that see nothing
    bias = None if biased is None else rng.normal(size=(*biased[:2], queries if biased[2] else 1, keys))
    return None if mask is None else jnp.asarray(mask), None if bias is None else jnp.asarray(bias, "float32")


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("length", "masked", "biased"),
    [
        (48, None, None),
        (50, (B, 1, 0), None),
        (64, (B, 1, 1), (1, H, 1)),
        (50, (1, H, 1), (B, 1, 0)),
        (9, None, (1, 1, 1)),
    ],
)
def test_equals_explicit_with_gradients(length, masked, biased, causal):
    q, k, v = qkv(length, length)
    mask, bias = facts(length, length, masked, biased)

    def run(kernel):
        def loss(q, k, v, bias):
            out = kernel(q, k, v, scale=0.5, mask=mask, bias=bias, causal=causal)
            return jnp.sum(out * jnp.arange(out.size).reshape(out.shape) / out.size), out

        return jax.jit(jax.grad(loss, (0, 1, 2) if bias is None else (0, 1, 2, 3), has_aux=True))(q, k, v, bias)

    slopes, out = run(chunked_attention)
    want_slopes, want = run(explicit_attention)
    np.testing.assert_allclose(out, want, atol=1e-5)
    for a, b in zip(slopes, want_slopes, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_other_numbers_of_keys_and_heads():
    for queries, keys, heads in ((40, 21, H), (7, 50, 2), (33, 33, 1)):
        q, k, v = qkv(queries, keys, heads)
        mask, _ = facts(queries, keys, (B, 1, 1), None)
        got, want = (
            jax.jit(functools.partial(f, scale=0.5, mask=mask))(q, k, v)
            for f in (chunked_attention, explicit_attention)
        )
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_low_precision():
    q, k, v = qkv(40, 40, dtype="bfloat16")
    mask, _ = facts(40, 40, (B, 1, 1), None)
    got, want = (
        jax.jit(functools.partial(f, scale=0.5, mask=mask, causal=True))(q, k, v)
        for f in (chunked_attention, explicit_attention)
    )
    assert got.dtype == "bfloat16"
    np.testing.assert_allclose(got.astype("float32"), want.astype("float32"), atol=0.02)


def test_attend_takes_it_for_long_sequences(monkeypatch):
    """And its memory does not grow with the square of the length; the matrices here would take 64 MiB."""
    monkeypatch.setattr(kernels_jax, "SCORES", 2**19)
    length = 2048
    q = jnp.zeros((1, length, H, D))

    def memory(function):
        return jax.jit(function).lower(q).compile().memory_analysis().temp_size_in_bytes

    scores = H * length * length * 4
    assert memory(lambda x: attend(x, x, x, scale=1.0)) < scores / 2
    assert memory(lambda x: explicit_attention(x, x, x, scale=1.0)) >= scores
    pieces, whole = (
        memory(jax.grad(lambda x, f=f: jnp.sum(f(x, x, x, scale=1.0, causal=True))))
        for f in (attend, explicit_attention)
    )
    assert pieces < whole / 2
    called = []
    monkeypatch.setattr(kernels_jax, "chunked_attention", lambda *a, **k: called.append(1))
    for size in (1023, 1024):
        x = jnp.zeros((1, size, 1, 2))
        attend(x, x, x, scale=1.0)
    attend(x[:, :1], x, x, scale=1.0)  # decoding
    assert called == [1]
