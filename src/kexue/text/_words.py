"""Words first: the ``pre_tokenize`` hook of word-level models (WoBERT, RoFormer)."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kexue.errors import ConfigError, DataError
from kexue.text.encoding import Piece

if TYPE_CHECKING:
    from kexue.text.tokenizer import Tokenizer

__all__ = ["Words", "align_words", "resolve_hook"]

Hook = Callable[[str], Sequence[str]]


def resolve_hook(hook: Hook | str | None, argument: str = "pre_tokenize") -> Hook | None:
    """The callable behind ``pre_tokenize``, or behind another argument of that kind.

    Raises:
        ConfigError: an unknown name, something that cannot be called, or jieba is not installed.
    """
    if hook is None:
        return None
    if hook == "jieba":
        try:
            import jieba
        except ImportError:
            raise ConfigError(f"{argument}='jieba' needs the package jieba: pip install jieba") from None
        return lambda text: jieba.lcut(text, HMM=False)
    if not callable(hook):
        raise ConfigError(f"{argument} must be a callable text -> words or 'jieba'. Received: {hook!r}")
    return hook


def align_words(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Half-open character range of every word.

    Raises:
        DataError: the words do not spell the text (white space may be left out).
    """
    spans = []
    position = 0
    for word in words:
        if not isinstance(word, str):
            raise DataError(f"pre_tokenize must return strings. Received: {type(word).__name__}")
        start = position
        while start < len(text) and not text.startswith(word, start) and text[start].isspace():
            start += 1
        if not text.startswith(word, start):
            raise DataError(
                f"the words of pre_tokenize do not spell the text: {word!r} is not at character {start}, "
                f"there stands {text[start : start + 10]!r}. A hook may leave out white space only"
            )
        position = start + len(word)
        spans.append((start, position))
    if text[position:].strip():
        raise DataError(f"the words of pre_tokenize do not spell the text: {text[position:][:10]!r} is left over")
    return spans


class Words:
    """Encodes texts word by word: a word of the vocabulary is one token, others go through WordPiece."""

    def __init__(self, hook: Hook, tokenizer: "Tokenizer") -> None:
        self.hook = hook
        self.tokenizer = tokenizer
        self._special_ids = set(tokenizer.special_ids)

    def pieces(self, texts: Sequence[str]) -> list[Piece]:
        """Tokens of every text without special tokens."""
        plan = []
        for text in texts:
            spans = self._spans(text)
            plan.append((text, [(text[start:end], start, end) for start, end in spans]))
        known: dict[str, tuple[list[int], list[tuple[int, int]]]] = {}
        unknown: dict[str, None] = {}
        for _, words in plan:
            for word, _, _ in words:
                if word in known or word in unknown or not word:
                    continue
                index = self._whole(word)
                if index is None:
                    unknown[word] = None
                else:
                    known[word] = ([index], [(0, len(word))])
        for word, piece in zip(unknown, self.tokenizer.plain_pieces(list(unknown)), strict=True):
            known[word] = (list(piece.ids), list(piece.offsets))
        result = []
        for text, words in plan:
            ids: list[int] = []
            offsets: list[tuple[int, int]] = []
            for word, start, _ in words:
                if word:
                    word_ids, word_offsets = known[word]
                    ids += word_ids
                    offsets += [(start + a, start + b) for a, b in word_offsets]
            tokens = [self.tokenizer.id_to_token(i) for i in ids]
            result.append(Piece(text, ids, offsets, tokens, (0, len(text))))
        return result

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Words between the special tokens that the text itself holds."""
        result = []
        for start, end, special in self.tokenizer.split_specials(text):
            if special:
                result.append((start, end))
            else:
                words = list(self.hook(text[start:end]))
                result += [(start + a, start + b) for a, b in align_words(text[start:end], words)]
        return result

    def _whole(self, word: str) -> int | None:
        """Id of a word that the vocabulary has as it stands, or lower-cased and stripped of accents."""
        if word.startswith("##"):  # a literal "##x" in the text is not a continuation piece
            return None
        form = self.tokenizer.lowered(word)
        if not form or form.isspace():
            return None
        index = self.tokenizer.token_to_id(form)
        return None if index in self._special_ids else index
