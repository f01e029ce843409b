"""The same weights under different masks: a gallery (kexue.fm 6933).

python examples/parts/mask_gallery.py --output masks.png
"""

import argparse

import kexue  # noqa: F401  chooses the Keras backend
import numpy as np
from kexue.nn import masks
from kexue.nn.mask_picture import draw, show

WORDS = list("北京欢迎你来玩吧")
ORDER = [0, 3, 1, 5, 2, 7, 4, 6]
SEGMENTS = np.array([[0, 0, 0, 0, 1, 1, 1, 1]])
DOCUMENTS = np.array([[1, 1, 1, 2, 2, 2, 2, 2]])

GALLERY = [
    ("encoder", masks.Bidirectional(), {}),
    ("language model", masks.Causal(), {}),
    ("reversed language model", masks.Causal(reverse=True), {}),
    ("UniLM: source of 4, target of 4", masks.Prefix(), {"segment_ids": SEGMENTS}),
    ("permutation language model", masks.Permuted(ORDER), {}),
    ("its query stream", masks.Permuted(ORDER, strict=True), {}),
    ("window", masks.Window(2, 1), {}),
    ("causal window", masks.Causal() & masks.Window(2, None), {}),
    ("two packed documents, causal", masks.Causal(), {"document_ids": DOCUMENTS}),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="draw into this PNG, PDF or SVG instead of the terminal (needs matplotlib)")
    options = parser.parse_args()
    if options.output is None:
        for title, mask, facts in GALLERY:
            print(f"{title}: {mask!r}\n{show(mask, len(WORDS), labels=WORDS, **facts)}\n")
        return
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 3, figsize=(11, 11.5), layout="constrained")
    for axis, (title, mask, facts) in zip(axes.flat, GALLERY, strict=True):
        draw(mask, len(WORDS), ax=axis, **facts)
        axis.set_title(f"{title}\n{mask!r}", fontsize=9 if len(repr(mask)) < 50 else 7)
    figure.savefig(options.output, dpi=110)
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
