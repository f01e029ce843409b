"""Gibbs chains of zh-mini from random characters: the perplexity of every chain before and after.

python examples/sampling/chains.py [--chains 20] [--length 16] [--steps 160]
"""

import argparse
import time

from kexue.decoding.search import CausalScores, MaskedGibbs, MaskedScores, special_tokens
from kexue.models import Transformer
from kexue.text import Tokenizer
import numpy as np


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=20)
    parser.add_argument("--length", type=int, default=16)
    parser.add_argument("--steps", type=int, default=160)
    options = parser.parse_args()
    tokenizer = Tokenizer.from_pretrained("zh-mini")
    model = Transformer.from_pretrained("zh-mini", mask="prefix", head="lm")  # one model: segment 0 MLM, segment 1 LM
    masked = MaskedScores.of(model, tokenizer)
    causal = CausalScores(model, start=tokenizer.cls_id, end=tokenizer.sep_id)
    forbidden = special_tokens(tokenizer)
    rng = np.random.default_rng(0)
    words = np.setdiff1d(np.arange(len(tokenizer)), forbidden)
    start = rng.choice(words, (options.chains, options.length)).tolist()

    print(f"{options.chains} chains of {options.length} tokens\n")
    print("| updates | pseudo-perplexity, median | lowest | highest | perplexity, median | lowest | highest |")
    print("|---|---|---|---|---|---|---|")
    began = time.perf_counter()
    texts, done = start, 0
    found = []
    for number, goal in enumerate((0, options.steps // 4, options.steps)):
        if goal > done:
            sampler = MaskedGibbs(masked, forbidden=forbidden, scan="permutation")
            texts = sampler.sample(texts, goal - done, seed=number).last
            done = goal
        found.append((masked.perplexity(texts), causal.perplexity(texts)))
        spans = [f"{np.median(p):,.0f} | {np.min(p):,.0f} | {np.max(p):,.0f}" for p in found[-1]]
        print(f"| {goal} | {' | '.join(spans)} |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s\n")
    print("| chain | pseudo-perplexity before | after | perplexity before | after | text after |")
    print("|---|---|---|---|---|---|")
    for number, text in enumerate(texts):
        figures = [f"{found[when][kind][number]:,.0f}" for kind in (0, 1) for when in (0, -1)]
        print(f"| {number + 1} | {' | '.join(figures)} | {tokenizer.decode(text)} |")


if __name__ == "__main__":
    main()
