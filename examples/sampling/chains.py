"""Gibbs chains of zh-mini from random characters, and sentences with given words: perplexities before and after.

python examples/sampling/chains.py [--chains 20] [--length 16] [--steps 160]
"""

import argparse
import time

from kexue.decoding.search import CausalScores, KeywordWriter, MaskedGibbs, MaskedScores, special_tokens
from kexue.models import Transformer
from kexue.text import Tokenizer
import numpy as np

KEYWORDS = ["人民", "法院"], ["明月", "酒"], ["天子", "兵"]


def main() -> None:
    """Print the tables."""
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

    print(f"{options.chains} chains of {options.length} tokens\n\n| updates | pseudo-perplexity | perplexity |")
    print("|---|---|---|")
    began = time.perf_counter()
    texts, done = start, 0
    for number, goal in enumerate((0, options.steps // 4, options.steps)):
        if goal > done:
            sampler = MaskedGibbs(masked, forbidden=forbidden, scan="permutation")
            texts = sampler.sample(texts, goal - done, seed=number).last
            done = goal
        own, other = np.median(masked.perplexity(texts)), np.median(causal.perplexity(texts))
        print(f"| {goal} | {own:.0f} | {other:.0f} |", flush=True)
    print(f"\n{time.perf_counter() - began:.0f} s; medians over the chains. Some of them:")
    for text in texts[:4]:
        print("-", tokenizer.decode(text))

    writer = KeywordWriter(causal, tokenizer, slots=masked.slots, shortest=8, longest=20)
    found = {" ".join(words): writer.write(words, chains=8, steps=options.steps // 2, seed=0) for words in KEYWORDS}
    held = [all(word in one.text for word in words.split()) for words, texts in found.items() for one in texts]
    print(f"\nSentences with their keywords: {sum(held)} of {len(held)}")
    for words, texts in found.items():
        print(f"- {words}: {texts[0].text}")


if __name__ == "__main__":
    main()
