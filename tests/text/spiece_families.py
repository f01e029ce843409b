"""A small SentencePiece model of every family, written by hand."""

from tests.text.spiece import BYTE, CONTROL, NORMAL, SYMBOL, UNKNOWN, charsmap, model_bytes

RULES = charsmap({"Ａ": "A", "㈱": "(株)", "e\u0301": "é", "\t": " ", "\u3000": " ", "\u200b": ""})
LETTERS = [*"abcdefghijklmnopqrstuvwxyzAé今天北京(株)[]<>/#,.'\"0123456789"]
WORDS = ["▁", "▁hello", "▁the", "lo", "he", "▁今天", "北京", "ing", "▁9,", "9,", "un", "th"]
BYTES = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]


def unigram_pieces(first, byte_fallback=False):
    """The family's own tokens, then words and letters with different scores."""
    body = [(piece, -1.0 - 0.37 * index, NORMAL) for index, piece in enumerate(WORDS)]
    body += [(piece, -8.0 - 0.11 * index, NORMAL) for index, piece in enumerate(LETTERS)]
    return [*first, *(BYTES if byte_fallback else []), *body]


def bpe_pieces(first, byte_fallback=False):
    """Merges in order, then letters, as the trainer of SentencePiece writes them."""
    merges = ["he", "▁t", "lo", "▁the", "llo", "hello", "▁hello", "今天", "▁▁", "北京", "in", "ing"]
    body = [(piece, -float(index), NORMAL) for index, piece in enumerate([*merges, "▁", *LETTERS])]
    return [*first, *(BYTES if byte_fallback else []), *body]


FIRST = {
    "albert": [
        ("<pad>", 0, CONTROL),
        ("<unk>", 0, UNKNOWN),
        ("[CLS]", 0, CONTROL),
        ("[SEP]", 0, CONTROL),
        ("[MASK]", 0, SYMBOL),
    ],
    "t5": [("<pad>", 0, CONTROL), ("</s>", 0, CONTROL), ("<unk>", 0, UNKNOWN)],
    "xlnet": [("<unk>", 0, UNKNOWN)]
    + [(name, 0, CONTROL) for name in ("<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>")]
    + [("<eop>", 0, SYMBOL)],
    "deberta-v2": [("[PAD]", 0, CONTROL), ("[CLS]", 0, CONTROL), ("[SEP]", 0, CONTROL), ("[UNK]", 0, UNKNOWN)],
    "llama": [("<unk>", 0, UNKNOWN), ("<s>", 0, CONTROL), ("</s>", 0, CONTROL)],
}  # fmt: skip
FIRST["mt5"] = FIRST["t5"]
FIRST["xlm-roberta"] = FIRST["plain"] = FIRST["llama"]
FILES = {"deberta-v2": "spm.model", "llama": "tokenizer.model", "xlm-roberta": "sentencepiece.bpe.model"}


def family_bytes(family):
    if family == "llama":
        return model_bytes(bpe_pieces(FIRST["llama"], True), kind=2, byte_fallback=True, strip=False)
    return model_bytes(unigram_pieces(FIRST[family], family == "plain"), byte_fallback=family == "plain", rules=RULES)


TEMPLATES = {
    "albert": ("[CLS] ▁hello [SEP]", "[CLS] ▁hello [SEP] ▁今天 [SEP]", [0, 0, 0, 1, 1]),
    "t5": ("▁hello </s>", "▁hello </s> ▁今天 </s>", [0, 0, 0, 0]),
    "mt5": ("▁hello </s>", "▁hello </s> ▁今天 </s>", [0, 0, 0, 0]),
    "xlnet": ("▁hello <sep> <cls>", "▁hello <sep> ▁今天 <sep> <cls>", [0, 0, 1, 1, 2]),
    "deberta-v2": ("[CLS] ▁hello [SEP]", "[CLS] ▁hello [SEP] ▁今天 [SEP]", [0, 0, 0, 1, 1]),
    "llama": ("<s> ▁hello", "<s> ▁hello <s> ▁ 今天", [0, 0, 1, 1, 1]),
    "xlm-roberta": ("<s> ▁hello </s>", "<s> ▁hello </s> </s> ▁今天 </s>", [0] * 6),
    "plain": ("▁hello", "▁hello ▁今天", [0, 1]),
}
