"""What a tokenizer can be asked: ids, tokens, special tokens, settings."""

import tokenizers
from tokenizers import normalizers

from kexue.errors import DataError
from kexue.text._files import lower_cases
from kexue.text._offsets import without_surrogates
from kexue.text._words import Words

__all__ = ["Lookup"]


class Lookup:
    """Base of `kexue.text.Tokenizer`: everything that only reads."""

    _rust: tokenizers.Tokenizer
    _specials: dict[str, str]
    _ids: dict[str, int]
    _tokens: list[str]
    _is_word_piece: bool
    _words: Words | None

    def token_to_id(self, token: str) -> int | None:
        """Id of a token, None if the vocabulary lacks it."""
        return self._ids.get(token)

    def id_to_token(self, index: int) -> str:
        """Token of an id.

        Raises:
            DataError: the id is outside the vocabulary.
        """
        if not 0 <= index < len(self._tokens):
            raise DataError(f"token ids lie in [0, {len(self._tokens)}). Received: {index}")
        return self._tokens[index]

    @property
    def vocabulary(self) -> list[str]:
        """All tokens in the order of their ids."""
        return list(self._tokens)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids, added tokens included."""
        return len(self._tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def _special_id(self, role: str) -> int | None:
        token = self._specials.get(role)
        return None if token is None else self._ids.get(token)

    @property
    def pad_id(self) -> int:
        """Id of the padding token; 0 where the vocabulary has none."""
        return self._special_id("pad") or 0

    @property
    def unk_id(self) -> int | None:
        """Id of the token for unknown words."""
        return self._special_id("unk")

    @property
    def cls_id(self) -> int | None:
        """Id of the token that opens a text."""
        return self._special_id("cls")

    @property
    def sep_id(self) -> int | None:
        """Id of the token that closes a text."""
        return self._special_id("sep")

    @property
    def mask_id(self) -> int | None:
        """Id of the token that hides another one."""
        return self._special_id("mask")

    @property
    def bos_id(self) -> int | None:
        """Id of the token that begins a text to be written (GPT, LLaMA)."""
        return self._special_id("bos")

    @property
    def eos_id(self) -> int | None:
        """Id of the token that ends a text to be written (GPT, T5, LLaMA)."""
        return self._special_id("eos")

    @property
    def specials(self) -> dict[str, str]:
        """Names of the special tokens by role."""
        return dict(self._specials)

    @property
    def special_ids(self) -> list[int]:
        """Ids of all special tokens, ascending."""
        return sorted({self._ids[token] for token in self._specials.values() if token in self._ids})

    @property
    def is_word_piece(self) -> bool:
        """True for WordPiece, False for byte-level BPE and others."""
        return self._is_word_piece

    @property
    def has_words(self) -> bool:
        """Whether a ``pre_tokenize`` hook is in place."""
        return self._words is not None

    @property
    def splits_chinese(self) -> bool:
        """Whether every ideograph is a word of its own."""
        normalizer = self._rust.normalizer
        return bool(isinstance(normalizer, normalizers.BertNormalizer) and normalizer.handle_chinese_chars)

    @property
    def lowercase(self) -> bool:
        """Whether text is lower-cased."""
        return lower_cases(self._rust)

    @property
    def rust(self) -> tokenizers.Tokenizer:
        """The Rust tokenizer underneath."""
        return self._rust

    def normalize(self, text: str) -> str:
        """The text as the vocabulary sees it: lower-cased, accents stripped, as configured."""
        text = without_surrogates(text)
        return text if self._rust.normalizer is None else self._rust.normalizer.normalize_str(text)

    def lowered(self, word: str) -> str:
        """`normalize` without the spaces that BERT puts around ideographs."""
        normalizer = self._rust.normalizer
        if not isinstance(normalizer, normalizers.BertNormalizer):
            return self.normalize(word)
        plain = normalizers.BertNormalizer(
            clean_text=normalizer.clean_text,
            handle_chinese_chars=False,
            strip_accents=normalizer.strip_accents,
            lowercase=normalizer.lowercase,
        )
        return plain.normalize_str(without_surrogates(word))
