"""Generation: seconds against peers with the same weights, achieved memory bandwidth, programs compiled.

Parts (``--parts``, all by default):

- ``greedy``: GPT-2 shapes (124M), random weights, float32, 16 tokens of prompt and 64 generated, batch 1 and 8, against
  ``generate`` of transformers (PyTorch) and of KerasHub (the Keras backend in force). Tokens are compared.
- ``nucleus``: the same, drawing from the nucleus (top-p 0.9) instead; tokens are random and not compared.
- ``beam``: a UniLM of BERT-base shapes, 8 prompts, 4 beams, 64 tokens, nothing stops early, against the rule of
  bert4keras written plainly: one sequence at a time, everything computed again at each step. Tokens are compared.
- ``compilations``: a thousand requests of mixed lengths to a small model.
- ``nbce``: four contexts and a question on GPT-2 shapes: in one program, token by token, and without a cache; see
  docs/nbce.md.

All of a part runs in one process, in turns. The backend is that of ``KERAS_BACKEND``, JAX by default. Seconds are those
of the clock on the wall; ``--clock processor`` takes this process's seconds of the processor, for a machine that has
other work. Let the process have one core then (``OMP_NUM_THREADS=1 taskset -c 0``): both clocks go alike where nothing
disturbs.
"""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decoding_plain import bert4keras_beams
from benchmarks.report import arguments, median, publish, table

PARTS = ("greedy", "nucleus", "beam", "compilations", "nbce")
PROMPT, NEW, BEAMS = 16, 64, 4
TOP_P = 0.9
PLAIN_SEQUENCES = 1
"""Sequences that the plain rule is measured on; it takes most of a minute for each."""
BERT = {
    "vocabulary_size": 21128, "hidden_size": 768, "num_layers": 12, "num_heads": 12, "intermediate_size": 3072,
    "max_length": 512, "num_segments": 2,
}  # fmt: skip
SMALL = {
    "family": "gpt2", "norm_order": "pre", "vocabulary_size": 1000, "hidden_size": 64, "num_layers": 2, "num_heads": 4,
    "intermediate_size": 128, "max_length": 512, "num_segments": 0, "mask": "causal",
}  # fmt: skip


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "processor": time.process_time}
clock = CLOCKS["wall"]


def in_turns(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each function, called in turns; all have run before."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = clock()
            function()
            seconds[name].append(clock() - start)
    return seconds


def gpt2_folder(folder: Path) -> Any:
    """Random GPT-2 weights as transformers saves them, and its model. The weights are larger than those of a new model,
    so that the tokens vary."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(initializer_range=0.05)).eval()
    model.save_pretrained(folder)
    return model


def hub_generate(folder: Path, ids: np.ndarray, top_p: float | None) -> Callable[[], np.ndarray]:
    """KerasHub's ``generate`` from the same folder, greedy without ``top_p``."""
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone.from_preset(str(folder), dropout=0.0)
    model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    model.compile(sampler="greedy" if top_p is None else keras_hub.samplers.TopPSampler(p=top_p, seed=0))
    batch, prompt = ids.shape
    tokens = np.zeros((batch, prompt + NEW), "int32")
    tokens[:, :prompt] = ids
    mask = np.broadcast_to(np.arange(prompt + NEW) < prompt, tokens.shape)

    def run() -> np.ndarray:
        found = model.generate({"token_ids": tokens, "padding_mask": mask}, stop_token_ids=None)
        return np.asarray(found["token_ids"])[:, prompt:]

    return run


def peer_generate(model: Any, ids: np.ndarray, top_p: float | None) -> Callable[[], np.ndarray]:
    """``generate`` of transformers, greedy without ``top_p``."""
    import torch

    rows = torch.tensor(ids.astype("int64"))
    drawn = {"do_sample": False} if top_p is None else {"do_sample": True, "top_p": top_p, "top_k": 0}

    def run() -> np.ndarray:
        found = model.generate(
            rows, attention_mask=torch.ones_like(rows), **drawn, max_new_tokens=NEW, min_new_tokens=NEW,
            pad_token_id=0,
        )  # fmt: skip
        return found[:, ids.shape[1] :].numpy()

    return run


def greedy(rounds: int) -> str:
    """Against the peers, tokens equal."""
    return against_peers(rounds, None)


def nucleus(rounds: int) -> str:
    """Against the peers, tokens drawn."""
    return against_peers(rounds, TOP_P)


def against_peers(rounds: int, top_p: float | None, batches: Sequence[int] = (1, 8)) -> str:
    """Seconds a call, ratios, and the bandwidth that reading all weights once a token means."""
    import torch

    from kexue.decoding import Sample, generate
    from kexue.models import Transformer

    search = None if top_p is None else Sample(top_p=top_p)

    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer = gpt2_folder(folder)
        model = Transformer.from_pretrained(folder, mask="causal", head="lm")
        numbers = sum(int(np.prod(w.shape)) for w in model.weights)
        flat = torch.cat([p.detach().flatten() for p in peer.parameters()])
        read = in_turns({"sum": flat.sum}, 9)["sum"]
        stream = 4 * flat.numel() / median(read) / 1e9
        for batch in batches:
            ids = np.random.default_rng(batch).integers(1, 50256, (batch, PROMPT)).astype("int32")

            def ours(ids: np.ndarray = ids, batch: int = batch) -> np.ndarray:
                # The end-of-text token is forbidden to the peer by min_new_tokens.
                found = generate(model, ids.tolist(), search, max_tokens=NEW, batch_size=batch, forbidden=[50256])
                return np.array(found.best)

            ways = {
                "kexue": ours,
                "transformers": peer_generate(peer, ids, top_p),
                "KerasHub": hub_generate(folder, ids, top_p),
            }
            tokens = {library: way() for library, way in ways.items()}
            seconds = in_turns(ways, rounds)
            for library, values in seconds.items():
                same = float((tokens[library] == tokens["kexue"]).mean())
                ratio = "" if library == "kexue" else f"{median(values) / median(seconds['kexue']):.2f}"
                speed = 4 * numbers * NEW / median(values) / 1e9
                rows.append(
                    (
                        batch,
                        library,
                        f"{median(values):.3f}",
                        f"{min(values):.3f}",
                        ratio,
                        f"{speed:.1f}",
                        f"{same:.0%}" if top_p is None else "",
                    )
                )
            print(f"batch {batch}: {len(np.unique(tokens['kexue']))} different tokens", flush=True)
    header = ("batch", "library", "median s", "least s", "median / kexue's", "GB/s", "tokens as kexue's")
    way = "Greedy" if top_p is None else f"Top-p {top_p}"
    return (
        f"{way}, {numbers / 1e6:.0f}M numbers, {PROMPT} tokens of prompt, {NEW} generated, float32; medians of "
        f"{rounds} calls in turns. GB/s: all weights once a token, the prompt's time included; a sum over the same "
        f"weights in this process reads {stream:.1f} GB/s.\n\n{table(header, rows)}"
    )


def beam(rounds: int) -> str:
    """Seconds a sequence of both ways."""
    from kexue.decoding import Beam, generate
    from kexue.models import Transformer

    model = Transformer(BERT, mask="prefix", head="lm")
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:  # larger than those of a new model, so that the tokens vary
        if len(weight.shape) == 2:
            weight.assign(rng.normal(0, 0.05, weight.shape).astype("float32"))
    prompts = [rng.integers(1, BERT["vocabulary_size"], n).tolist() for n in (64, 60, 57, 51, 48, 44, 40, 33)]
    search = Beam(BEAMS, rule="bert4keras")

    def ours() -> Any:
        return generate(model, prompts, search, max_tokens=NEW)

    found = ours()
    seconds = in_turns({"kexue": ours}, rounds)["kexue"]
    plain: list[float] = []
    same = 0
    for prompt in prompts[:PLAIN_SEQUENCES]:
        if os.environ["KERAS_BACKEND"] != "torch":
            bert4keras_beams(model, prompt, BEAMS, NEW)  # compiles its lengths
        start = clock()
        text = bert4keras_beams(model, prompt, BEAMS, NEW)
        plain.append(clock() - start)
        same += text == found.best[prompts.index(prompt)]
    ours_each = median(seconds) / len(prompts)
    rows = [
        ("kexue, 8 sequences at once", len(prompts), f"{median(seconds):.2f}", f"{ours_each:.3f}", ""),
        (
            "plain rule, one sequence at a time", PLAIN_SEQUENCES, f"{sum(plain):.2f}", f"{median(plain):.3f}",
            f"{median(plain) / ours_each:.1f}",
        ),
    ]  # fmt: skip
    header = ("way", "sequences measured", "seconds", "seconds a sequence", "ratio")
    return (
        f"UniLM of BERT-base shapes, {BEAMS} beams, {NEW} tokens, prompts of 33 to 64 tokens, float32, the same "
        f"tokens in {same} of {PLAIN_SEQUENCES}. The plain rule runs on the longest prompt(s) alone; its lengths are "
        f"padded to multiples of 16, compiled before the clock starts.\n\n{table(header, rows)}"
    )


def compilations(requests: int = 1000) -> str:
    """Programs after many requests."""
    from kexue.decoding import Sample, generate
    from kexue.models import Transformer

    model = Transformer(SMALL, head="lm")
    rng = np.random.default_rng(0)
    start, count = time.perf_counter(), 0
    for n in range(requests):
        prompt = rng.integers(0, 1000, rng.integers(1, 129)).tolist()
        search = Sample(float(rng.uniform(0.5, 2)), seed=n)
        found = generate(model, [prompt], search, max_tokens=int(rng.integers(1, 65)), stop=int(rng.integers(1000)))
        count = found.compilations
        if n + 1 in (10, 100, requests):
            print(f"{n + 1} requests: {count} programs, {time.perf_counter() - start:.0f} s", flush=True)
    return (
        f"{requests} requests of one prompt (1 to 128 tokens, 1 to 64 new ones, other temperatures, seeds and stop "
        f"tokens each time): {count} programs compiled."
    )


def nbce(rounds: int) -> str:
    """NBCE over four contexts, each row with its cache or read anew."""
    from kexue.decoding.nbce import NBCE, KexueRows
    from kexue.models import Transformer

    with tempfile.TemporaryDirectory() as name:
        gpt2_folder(Path(name))
        model = Transformer.from_pretrained(Path(name), mask="causal", head="lm")
    rng = np.random.default_rng(0)
    contexts = [rng.integers(1, 50256, n).tolist() for n in (110, 96, 80, 64)]
    question = rng.integers(1, 50256, 16).tolist()

    def answer(rows: Any) -> Any:
        return NBCE(rows, start=[50256], temperature=0).generate(contexts, question, max_tokens=12)

    class TokenByToken:
        def __init__(self) -> None:
            rows = KexueRows(model)
            self.start, self.extend = rows.start, rows.extend

    ways = {
        "with the cache, in one program": lambda: answer(KexueRows(model)),
        "with the cache, token by token": lambda: answer(TokenByToken()),
        "without": lambda: answer(KexueRows(model, cached=False)),
    }
    found = {name: way().tokens for name, way in ways.items()}
    same = all(tokens == found["without"] for tokens in found.values())
    seconds = in_turns(ways, rounds)
    base = median(seconds["without"])
    rows = [(n, f"{median(v):.2f}", f"{base / median(v):.1f}") for n, v in seconds.items()]
    return (
        "GPT-2 shapes (124M), four contexts of 64 to 110 tokens, a question of 16, 12 tokens written, float32; "
        f"tokens {'equal' if same else 'NOT equal'}.\n\n{table(('rows', 'median s', 'times as fast'), rows)}"
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    options = parser.parse_args()
    global clock  # noqa: PLW0603  of the whole run
    clock = CLOCKS[options.clock]
    import torch  # before JAX compiles anything: its libraries crash when they load later

    import kexue  # noqa: F401  chooses the backend

    backend = os.environ["KERAS_BACKEND"]
    for part in options.parts:
        body = compilations() if part == "compilations" else globals()[part](options.rounds)
        publish(
            f"decoding-{part}-{backend}", f"Generation: {part} ({backend})",
            f"KERAS_BACKEND={backend} python -m benchmarks.decoding --parts {part} --rounds {options.rounds} "
            f"--clock {options.clock}",
            f"Keras backend {backend}, {len(os.sched_getaffinity(0))} core(s), PyTorch with {torch.get_num_threads()} "
            f"thread(s); seconds by the {options.clock} clock. {body}", options.write,
        )  # fmt: skip


if __name__ == "__main__":
    main()
