"""A checkpoint whose blocks have smaller weights: what the fourth run of zh-mini begins with.

python examples/zh_mini/shrink.py CHECKPOINT OUTPUT [--by 0.3]

The token table stays as it is. Smaller queries and keys open attention that looks at one token only; all updates of
AdamW, whose size does not depend on the weights, turn small weights further (after arXiv 1910.08475, without noise).
"""

import argparse
from pathlib import Path

import kexue  # noqa: F401  chooses the backend
import keras

from kexue.models import Transformer
from kexue.text import Tokenizer


def main():
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="folder, or zh-mini for what kexue ships")
    parser.add_argument("output", type=Path, help="folder of the new checkpoint")
    parser.add_argument("--by", type=float, default=0.3, help="factor")
    given = parser.parse_args()
    model = Transformer.from_pretrained(given.checkpoint, head="lm")
    for weight in model.weights:
        if "block_" in weight.path:
            weight.assign(given.by * keras.ops.convert_to_tensor(weight))
    model.save_pretrained(given.output, tokenizer=Tokenizer.from_pretrained(given.checkpoint))


if __name__ == "__main__":
    main()
