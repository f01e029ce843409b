"""Captions of pictures: a language model on the vector of a convolutional network, both trained from random weights.

    python examples/conditional/shapes.py --picture shapes.png [--backbone mobilenet] [--language zh]

A picture shows one shape of one colour and size in one part of the canvas, on grey noise. A fifth of the combinations
is never trained on; the captions of pictures of these must be right word for word.
"""

import argparse
import itertools
import time
from pathlib import Path

import kexue  # noqa: F401  chooses the backend
import keras
import numpy as np
from kexue.decoding import Greedy
from kexue.tasks import ConditionalLM
from kexue.text import Tokenizer

SIDE = 32
COLOURS = {
    "red": (0.9, 0.1, 0.1), "green": (0.1, 0.7, 0.2), "blue": (0.1, 0.2, 0.9), "yellow": (0.95, 0.85, 0.1),
    "purple": (0.6, 0.1, 0.7), "white": (1.0, 1.0, 1.0),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "ring", "cross")
SIZES = {"small": 4.0, "large": 6.5}
PLACES = {
    (row, column): (9 + 14 * i, 9 + 14 * j)
    for i, row in enumerate(("top", "bottom"))
    for j, column in enumerate(("left", "right"))
}
CHINESE = {
    "red": "红", "green": "绿", "blue": "蓝", "yellow": "黄", "purple": "紫", "white": "白",
    "circle": "圆形", "square": "正方形", "triangle": "三角形", "ring": "圆环", "cross": "十字",
    "small": "小", "large": "大", "top": "上", "bottom": "下", "left": "左", "right": "右",
}  # fmt: skip
Attributes = tuple[str, str, str, tuple[str, str]]
COMBINATIONS: list[Attributes] = list(itertools.product(COLOURS, SHAPES, SIZES, PLACES))


def caption(attributes: Attributes, language: str) -> str:
    """What a picture is to be called."""
    colour, shape, size, (row, column) = attributes
    if language == "en":
        return f"a {size} {colour} {shape} at the {row} {column}"
    word = CHINESE
    return f"{word[column]}{word[row]}方有一个{word[size]}的{word[colour]}色{word[shape]}"


def draw(attributes: Attributes, rng: np.random.Generator) -> np.ndarray:
    """``(SIDE, SIDE, 3)`` numbers in [0, 1]."""
    colour, shape, size, place = attributes
    radius = SIZES[size] * rng.uniform(0.9, 1.1)
    y, x = np.mgrid[:SIDE, :SIDE] - (np.array(PLACES[place]) + rng.uniform(-2, 2, 2))[:, None, None]
    far = np.hypot(x, y)
    inside = {
        "circle": far <= radius,
        "square": (abs(x) <= 0.9 * radius) & (abs(y) <= 0.9 * radius),
        "triangle": (y <= 0.8 * radius) & (abs(x) <= (y + radius) * 0.55),
        "ring": (far <= radius) & (far >= 0.6 * radius),
        "cross": ((abs(x) <= 0.3 * radius) | (abs(y) <= 0.3 * radius)) & (far <= radius),
    }[shape]
    canvas = rng.uniform(0.25, 0.55) + rng.normal(0, 0.05, (SIDE, SIDE, 3))
    tint = np.array(COLOURS[colour]) * rng.uniform(0.85, 1.0)
    return np.clip(np.where(inside[..., None], tint, canvas), 0, 1).astype("float32")


def backbone(name: str, size: int = 64) -> keras.Model:
    """From pictures to vectors: a small network with batch norms, or MobileNetV2 with random weights."""
    if name == "mobilenet":
        return keras.applications.MobileNetV2(
            (SIDE, SIDE, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
        )
    image = keras.Input((SIDE, SIDE, 3), name="image")
    x = image
    for filters, stride in ((16, 1), (32, 2), (64, 1), (64, 2)):
        x = keras.layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(x)
        x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=0.9)(x))
    # What there is, wherever it is; and a rough map of where.
    what = keras.layers.GlobalMaxPooling2D()(x)
    where = keras.layers.Flatten()(keras.layers.AveragePooling2D(2)(keras.layers.Conv2D(4, 1)(x)))
    return keras.Model(image, keras.layers.Dense(size)(keras.layers.Concatenate()([what, where])), name="backbone")


def records(combinations: list[Attributes], count: int, language: str, seed: int) -> list[dict[str, object]]:
    """Pictures with captions, all combinations equally often."""
    rng = np.random.default_rng(seed)
    chosen = [combinations[i % len(combinations)] for i in range(count)]
    return [{"text": caption(one, language), "condition": draw(one, rng)} for one in chosen]


def picture(path: Path, examples: list[dict[str, object]], captions: list[str]) -> None:
    """Pictures with the captions that were written for them; wrong ones in red."""
    import matplotlib.pyplot as plt

    plt.rcParams["font.sans-serif"] = ["Noto Sans CJK SC", "WenQuanYi Zen Hei", "SimHei", "DejaVu Sans"]
    columns = 4
    figure, axes = plt.subplots(-(-len(captions) // columns), columns, figsize=(10, 7.5))
    for axis, example, text in zip(axes.flat, examples, captions, strict=False):
        axis.imshow(example["condition"], interpolation="nearest")
        words = text.split()
        shown = text if len(words) < 5 else " ".join(words[:4]) + "\n" + " ".join(words[4:])
        axis.set_title(shown, fontsize=9, color="black" if text == example["text"] else "red")
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=80)


def main() -> None:
    """Train, caption pictures of unseen combinations, print how many captions are right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--language", choices=("en", "zh"), default="en")
    parser.add_argument("--backbone", choices=("small", "mobilenet"), default="small")
    parser.add_argument("--examples", type=int, default=6720)
    parser.add_argument("--tests", type=int, default=480)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--picture", type=Path, help="PNG to draw")
    parser.add_argument("--resume", type=Path, help="folder for the state of the training")
    options = parser.parse_args()
    order = np.random.default_rng(0).permutation(len(COMBINATIONS))
    held = [COMBINATIONS[i] for i in order[: len(order) // 5]]
    seen = [COMBINATIONS[i] for i in order[len(order) // 5 :]]
    train, test = (
        records(c, n, options.language, s) for c, n, s in ((seen, options.examples, 1), (held, options.tests, 2))
    )
    familiar = records(seen, options.tests, options.language, 3)

    characters = sorted({c for one in COMBINATIONS for c in caption(one, "zh")})
    words = sorted({word for one in COMBINATIONS for word in caption(one, "en").split()})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(words if options.language == "en" else characters)]
    config = {
        "hidden_size": 64, "num_layers": 2, "num_heads": 4, "intermediate_size": 128, "position": "rotary",
        "norm_order": "pre", "max_length": 32, "dropout": 0.0, "attention_dropout": 0.0,
        "condition_hidden_size": 64, "condition_activation": "swish",
    }  # fmt: skip
    keras.utils.set_random_seed(0)
    lm = ConditionalLM.from_pretrained(
        config, conditioner=backbone(options.backbone), tokenizer=Tokenizer.from_vocab(tokens), max_length=20, seed=0
    )
    print(
        f"{lm}\n{len(seen)} combinations in {len(train)} pictures to learn, {len(held)} others in {len(test)} to test"
    )
    began = time.perf_counter()
    lm.fit(train, epochs=options.epochs, learning_rate=3e-3, seed=0, resume=options.resume, verbose=2)
    print(f"trained in {time.perf_counter() - began:.0f} s")
    for name, part in (("pictures of combinations that were learned", familiar), ("of others", test)):
        written = lm.predict([one["condition"] for one in part], Greedy(), batch_size=32)
        right = np.mean([text == one["text"] for text, one in zip(written, part, strict=True)])
        print(f"{name}: {100 * right:.1f} % of {len(part)} captions right word for word")
    pair = lm.log_prob([one["text"] for one in test], [one["condition"] for one in test])
    print(f"held out: {-pair.mean():.3f} nats a caption under its picture, "
          f"{-lm.log_prob([one['text'] for one in test], None).mean():.3f} under the null condition")  # fmt: skip
    if options.picture:
        picture(options.picture, test[:12], written[:12])


if __name__ == "__main__":
    main()
