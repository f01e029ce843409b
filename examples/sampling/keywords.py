"""Sentences from keywords by CGMH with zh-mini, in the exact and the faithful mode: whether the keywords are all there,
how many moves change the sentence, perplexity before and after.

python examples/sampling/keywords.py [--sets 50] [--chains 1] [--steps 60] [--modes exact,faithful] [--show 10]
"""

import argparse
import time
from itertools import pairwise

import kexue  # noqa: F401  chooses the Keras backend before Keras is imported
from kexue.decoding.search import CausalScores, KeywordWriter, MaskedScores
from kexue.models import Transformer
from kexue.text import Tokenizer
import numpy as np

# Words of statutes, novels and verse, ten of each kind; a set is two or three of one kind.
KINDS = [
    ["人民", "法院", "合同", "国务院", "责任", "机关", "登记", "期限", "罚款", "公司"],
    ["太守", "将军", "兵马", "天子", "大王", "军士", "山寨", "夫人", "丞相", "百姓"],
    ["明月", "春风", "江水", "白云", "故人", "落花", "酒", "千里", "梅花", "秋雨"],
]


def keyword_sets(count: int, seed: int = 0) -> list[list[str]]:
    """Sets without repetition, the kinds in turn."""
    rng = np.random.default_rng(seed)
    found: list[list[str]] = []
    while len(found) < count:
        kind = KINDS[len(found) % len(KINDS)]
        chosen = [kind[i] for i in rng.permutation(len(kind))[: rng.integers(2, 4)]]
        if sorted(chosen) not in [sorted(other) for other in found]:
            found.append(chosen)
    return found


def main() -> None:
    """Print the table and some sentences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=50)
    parser.add_argument("--chains", type=int, default=1, help="of each set")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--modes", default="exact,faithful")
    parser.add_argument("--show", type=int, default=10, help="sets whose best sentence is shown")
    options = parser.parse_args()
    tokenizer = Tokenizer.from_pretrained("zh-mini")
    model = Transformer.from_pretrained("zh-mini", mask="prefix", head="lm")
    language = CausalScores(model, start=tokenizer.cls_id, end=tokenizer.sep_id)
    slots = MaskedScores.of(model, tokenizer).slots
    sets = keyword_sets(options.sets)
    shown: list[str] = []
    print(f"{len(sets)} sets of keywords, {options.chains} chains each, {options.steps} moves, 8 to 20 tokens\n")
    print("| mode | with all keywords | sentence changed | median perplexity: start | last | best | seconds |")
    print("|---|---|---|---|---|---|---|")
    for mode in options.modes.split(","):
        began = time.perf_counter()
        writer = KeywordWriter(language, tokenizer, slots=slots, shortest=8, longest=20, mode=mode)
        start = [state for n, words in enumerate(sets) for state in writer.start(words, options.chains, seed=n)]
        owners = [words for words in sets for _ in range(options.chains)]
        run = writer.chain.sample(start, options.steps, seed=0)  # all sets side by side
        scores = np.asarray(run.log_density)  # (steps, chains)
        best = [run.states[t][i] for i, t in enumerate(scores.argmax(0))]
        every = [(state, words) for row in run.states for state, words in zip(row, owners, strict=True)]
        path = [start, *run.states]
        changed = np.mean([a != b for one, two in pairwise(path) for a, b in zip(one, two, strict=True)])
        held = sum(all(word in tokenizer.decode(state.tokens) for word in words) for state, words in every)
        figures = [np.median(language.perplexity([s.tokens for s in states])) for states in (start, run.last, best)]
        print(
            f"| {mode} | {held:,} of {len(every):,} states | {changed:.1%} | "
            + " | ".join(f"{figure:,.0f}" for figure in figures)
            + f" | {time.perf_counter() - began:.0f} |",
            flush=True,
        )
        if not shown:
            tops = scores.max(0).reshape(len(sets), options.chains).argmax(1)
            chosen = [best[n * options.chains + int(i)] for n, i in enumerate(tops)][: options.show]
            shown = [
                f"- {' '.join(words)}: {tokenizer.decode(state.tokens)}"
                for words, state in zip(sets, chosen, strict=False)
            ]
    print("\nThe likeliest sentences of the first sets and the first mode:", *shown, sep="\n")


if __name__ == "__main__":
    main()
