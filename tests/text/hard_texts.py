"""Texts that are hard for tokenizers."""

import random

HARD_TEXTS = [
    "",
    " ",
    "hello world",
    "Hello  WORLDS unaffable",
    "今天天气不错，去北京。",
    "我爱Beijing和上海Shanghai",
    "😀😀 ok 👩‍👩‍👧 🇨🇳 ❤️ y",
    "ＡＢＣ１２３！？，",
    "cafe\u0301 caf\xe9 CAFÉ a\u0301\u0302b \u0344x e\u0301\u0301\u0301",
    "İstanbul ß ẞ ﬁx ǆ ŉ ŒÆ Σσς ΑΣ",
    "a\x00b\x7fc\u200bd\u00ade\ufffdf\ufeffg\x85h\x1bi",
    "tab\there\r\nnew\u2028line\u2029para\u3000wide\u00a0nbsp",
    "中\U00020000国\U0002a700北\U0002b740京\U0002b820上\uf900海\U0002f800x㐀",
    "각 한글 テスト がぎ か\u3099",
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101 + " " + "é" * 100,
    "[SEP] [mask] [MASK]x [CLS][PAD] a[UNK]b [unused1] ##s ## #",
    "[MASK] ",
    "(foo) [bar] don't it's 3.14 a-b_c `~^| $9 ¿¡ «x» “y” —…",
    "สวัสดี हिन्दी العربية עִבְרִית Ελληνικά Русский",
    "Ⅷ①㈱㍿ﷺ ½",
    "\u0301leading mark",
    "𝒜𝓑 中𝟙",
]

_CHARACTERS = "aéÀßİ今天北京中国 \t\n.,!?[]#'😀ＡΣsx\u0301\u200b\x00\u3000\U00020000"
_ALPHABET = [*_CHARACTERS, "👩\u200d👩", "[MASK]", "hello", "##s"]


def random_text(rng: random.Random) -> str:
    return "".join(rng.choice(_ALPHABET) for _ in range(rng.randrange(30)))
