"""Rows for pretraining: documents cut into pieces, pieces packed into rows of one length.

The plan of an epoch is computed once from lengths alone; a row is put together when it is asked for. So any row of any
epoch can be had at once, and a run that stopped goes on at its row.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from kexue.errors import ConfigError, DataError
from kexue.text.corpus.shards import Split

__all__ = ["PackedRows", "cut_pieces", "fill_rows"]

Array = np.ndarray
_LONGEST_ROW = 1 << 16


class PackedRows(Sequence[dict[str, Array]]):
    """The rows of one epoch.

    Each document is cut into pieces that fit a row, at part boundaries wherever that leaves no more than ``slack`` of
    the row empty. A piece stands in its row as ``[CLS] x [SEP]``; pieces are put together by best-fit-decreasing. Each
    token of every chosen document stands in exactly one row. The order of the rows, and which pieces of like length
    share one, are shuffled by ``(seed, epoch)``; everything is a pure function of the arguments.

    Args:
        splits: the corpora, see `Shards.split`.
        length: tokens of a row.
        seed: of the shuffling.
        epoch: number of the epoch: another order, other neighbours.
        cls_id: id of the token that opens a piece.
        sep_id: id of the token that closes it.
        pad_id: id of padding.
        weights: how often an epoch takes each document of each split; 1.5 takes all of them and half of them again.
            Default: 1 for each.
        pairs: ``"parts"``: nothing stands between the parts of a piece; ``"separated"``: ``[SEP]`` follows the
            first part of documents of two parts (pairs), as in ``[CLS] a [SEP] b [SEP]``; it belongs to part 0.
        slack: a document that does not fit ends its piece at the last part boundary that fits, if the piece then
            fills at least ``1 - slack`` of a row; otherwise it is cut at the start of a word inside a part. 1: at part
            boundaries always (a part longer than a row excepted), which leaves rows of long paragraphs 85 to 93 %
            filled instead of 97 to 99 %.

    Raises:
        ConfigError: an argument that cannot work.
        DataError: no tokens.
    """

    def __init__(
        self,
        splits: Sequence[Split],
        *,
        length: int,
        seed: int,
        epoch: int,
        cls_id: int,
        sep_id: int,
        pad_id: int = 0,
        weights: Sequence[float] | None = None,
        pairs: Literal["parts", "separated"] = "parts",
        slack: float = 0.08,
    ) -> None:
        if isinstance(splits, Split):
            splits = [splits]
        weights = [1.0] * len(splits) if weights is None else list(weights)
        if len(weights) != len(splits) or not all(0 <= weight < np.inf for weight in weights):
            raise ConfigError(f"weights must be {len(splits)} numbers >= 0. Received: weights={weights}")
        if not 4 <= length <= _LONGEST_ROW:
            raise ConfigError(f"length must lie in [4, {_LONGEST_ROW}]. Received: length={length}")
        if pairs not in ("parts", "separated"):
            raise ConfigError(f"pairs must be 'parts' or 'separated'. Received: pairs={pairs!r}")
        if not 0 <= slack <= 1:
            raise ConfigError(f"slack must lie in [0, 1]. Received: slack={slack}")
        if seed < 0 or epoch < 0:
            raise ConfigError(f"seed and epoch must not be negative. Received: seed={seed}, epoch={epoch}")
        self.splits = list(splits)
        self.length = length
        self.cls_id, self.sep_id, self.pad_id = cls_id, sep_id, pad_id
        rng = np.random.default_rng([seed, epoch])
        starts, sizes, split_of, middles = [], [], [], []
        for number, (split, weight) in enumerate(zip(self.splits, weights, strict=True)):
            chosen = _choose(len(split), weight, rng)
            start, size, middle = cut_pieces(split, length - 2, chosen, slack=slack, separated=pairs == "separated")
            starts.append(start)
            sizes.append(size)
            middles.append(middle)
            split_of.append(np.full(len(start), number, "int16"))
        self._starts = np.concatenate([np.zeros(0, "int64"), *starts])
        self._sizes = np.concatenate([np.zeros(0, "int32"), *sizes])
        self._middles = np.concatenate([np.zeros(0, "int32"), *middles])
        self._split_of = np.concatenate([np.zeros(0, "int16"), *split_of])
        if not len(self._starts):
            raise DataError("no tokens: the splits are empty or all weights are 0")
        framed = self._sizes + 2 + (self._middles > 0)
        order = rng.permutation(len(framed))
        rows = fill_rows(framed[order], length)
        count = int(rows.max()) + 1
        rows = rng.permutation(count)[rows]  # where each row goes
        by_row = np.argsort(rows, kind="stable")
        self._order = order[by_row]
        self._row_offsets = np.r_[0, np.cumsum(np.bincount(rows, minlength=count))]
        self._framed = framed

    def __len__(self) -> int:
        return len(self._row_offsets) - 1

    @property
    def tokens(self) -> int:
        """Tokens of text in the epoch, frames not counted."""
        return int(self._sizes.sum(dtype="int64"))

    @property
    def filled(self) -> float:
        """Share of the cells that are no padding."""
        return float(self._framed.sum(dtype="int64") / (len(self) * self.length))

    def __getitem__(self, index: int) -> dict[str, Array]:  # type: ignore[override]
        """One row, without the leading axis."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return {name: value[0] for name, value in self.take([index]).items()}

    def take(self, indices: Sequence[int] | Array) -> dict[str, Array]:
        """Rows by number.

        Returns:
            Arrays ``(n, length)``, int32 unless said otherwise: ``token_ids``; ``document_ids`` (pieces of a row: 1,
            2, ..., padding 0); ``position_ids`` (from 0 in each piece); ``padding_mask`` (bool, false at padding);
            ``word_ids`` (words of a row: 0, 1, ...; -1 at special tokens and padding); ``part_ids`` (parts of a
            piece: 0, 1, ...; ``[CLS]`` belongs to the first, ``[SEP]`` to the last; 0 at padding).

        Raises:
            ConfigError: a number outside ``[0, len(rows))``.
        """
        indices = np.asarray(indices, "int64")
        if indices.ndim != 1 or (len(indices) and not 0 <= indices.min() <= indices.max() < len(self)):
            raise ConfigError(f"row numbers must lie in [0, {len(self)}). Received: {indices}")
        counts = np.diff(self._row_offsets)[indices]
        row_of = np.repeat(np.arange(len(indices)), counts)
        pieces = self._order[_ranges(self._row_offsets[indices], counts)]
        number = _ranges(np.zeros_like(counts), counts)
        framed = self._framed[pieces].astype("int64")
        begins = np.cumsum(framed) - framed  # of each piece in a row of all pieces
        row_begins = begins[np.cumsum(counts) - counts] if len(counts) else begins
        cells = _ranges(begins - row_begins[row_of] + row_of * self.length, framed)  # in the flat result
        position = _ranges(np.zeros_like(framed), framed)
        sizes, middles = self._sizes[pieces].astype("int64"), self._middles[pieces].astype("int64")
        tokens, word_starts, parts = self._content(pieces, sizes)
        # Which of the flat cells hold text: all but the first and the last of each piece, and the inner separators.
        text = np.ones(len(cells), bool)
        text[begins] = False
        text[begins + framed - 1] = False
        text[(begins + 1 + middles)[middles > 0]] = False
        token_ids = np.full(len(cells), self.sep_id, "int32")
        token_ids[begins] = self.cls_id
        token_ids[text] = tokens
        words = np.zeros(len(cells), "int64")
        words[text] = word_starts
        words = np.cumsum(words) - 1
        first = np.r_[0, words + 1][row_begins]  # words in the rows before
        part_ids = np.zeros(len(cells), "int32")
        part_ids[text] = parts
        # A special token takes the part of the text before it; [CLS] stays at 0.
        part_ids[begins + framed - 1] = part_ids[begins + framed - 2]
        shape = (len(indices), self.length)
        result = {name: np.zeros(shape, "int32") for name in ("document_ids", "position_ids", "part_ids")}
        result["token_ids"] = np.full(shape, self.pad_id, "int32")
        result["word_ids"] = np.full(shape, -1, "int32")
        result["padding_mask"] = np.zeros(shape, bool)
        values = {
            "token_ids": token_ids,
            "document_ids": np.repeat(number + 1, framed),
            "position_ids": position,
            "part_ids": part_ids,
            "word_ids": np.where(text, words - np.repeat(first[row_of], framed), -1),
            "padding_mask": True,
        }
        for name, value in values.items():
            result[name].reshape(-1)[cells] = value
        return result

    def _content(self, pieces: Array, sizes: Array) -> tuple[Array, Array, Array]:
        """Tokens, word starts and number of the part (in its piece) of pieces, one after another."""
        total = int(sizes.sum())
        tokens = np.empty(total, "int32")
        starts = np.empty(total, bool)
        parts = np.empty(total, "int32")
        ends = np.cumsum(sizes)
        split_of = self._split_of[pieces]
        for number in np.unique(split_of):
            split = self.splits[number]
            mine = np.flatnonzero(split_of == number)
            begin, size = self._starts[pieces[mine]], sizes[mine]
            source = _ranges(begin, size)
            target = _ranges((ends - sizes)[mine], size)
            tokens[target] = split.tokens[source]
            starts[target] = split.word_starts[source]
            # The last boundary not behind a token begins its part; empty parts are passed over.
            part = np.searchsorted(split.part_offsets, source, "right")
            first = np.searchsorted(split.part_offsets, begin, "right")
            parts[target] = part - np.repeat(first, size)
        starts[ends - sizes] = True  # where a word was cut, its rest counts as a word
        return tokens, starts, parts


def _choose(documents: int, weight: float, rng: np.random.Generator) -> Array:
    """Numbers of the documents that an epoch takes."""
    whole = int(weight)
    rest = rng.permutation(documents)[: round((weight - whole) * documents)]
    return np.concatenate([np.tile(np.arange(documents), whole), np.sort(rest)])


def cut_pieces(
    split: Split, room: int, documents: Array, *, slack: float = 1.0, separated: bool = False
) -> tuple[Array, Array, Array]:
    """Cut documents into pieces of at most ``room`` tokens, each as long as possible, see `PackedRows`.

    Returns:
        For each piece: its first token, its number of tokens, and where in it the separator of a pair stands (0:
        nowhere).
    """
    least = (1 - slack) * room
    offsets = np.asarray(split.part_offsets)
    limits = offsets[np.asarray(split.document_offsets)]
    begin, end = limits[documents], limits[documents + 1]
    middle = np.zeros(len(documents), "int64")
    if separated:
        first = np.asarray(split.document_offsets)[documents]
        pair = np.asarray(split.document_offsets)[documents + 1] - first == 2
        at = offsets[first + 1] - begin
        middle = np.where(pair & (end - begin < room) & (at > 0) & (at < end - begin), at, 0)
    starts, sizes, middles = [], [], []
    while len(begin):
        stop = np.minimum(begin + room, end)
        cut = np.flatnonzero(stop < end)
        boundary = offsets[np.searchsorted(offsets, stop[cut], "right") - 1]
        whole = boundary - begin[cut] >= max(least, 1)
        stop[cut[whole]] = boundary[whole]
        inside = cut[~whole]
        stop[inside] = _at_word(split.word_starts, stop[inside], np.maximum(begin[inside] + 1, stop[inside] - 16))
        some = stop > begin
        starts.append(begin[some])
        sizes.append((stop - begin)[some].astype("int32"))
        middles.append(middle[some].astype("int32"))
        more = stop < end
        begin, end, middle = stop[more], end[more], middle[more]
    if not starts:
        return np.zeros(0, "int64"), np.zeros(0, "int32"), np.zeros(0, "int32")
    return np.concatenate(starts), np.concatenate(sizes), np.concatenate(middles)


def _at_word(word_starts: Array, places: Array, lowest: Array) -> Array:
    """The last word start at or before each place, or the place itself where there is none from ``lowest`` on."""
    found = places.copy()
    within = np.flatnonzero(~word_starts[places])
    at = places[within] - 1
    while len(within):
        allowed = at >= lowest[within]
        within, at = within[allowed], at[allowed]
        hit = word_starts[at]
        found[within[hit]] = at[hit]
        within, at = within[~hit], at[~hit] - 1
    return found


def fill_rows(sizes: Array, length: int) -> Array:
    """Best-fit-decreasing: the longest piece first, each into the fullest row with room for it.

    Pieces of one length are placed together, so the work grows with the square of the row's length at most, not with
    the number of pieces.

    Returns:
        The row of each piece.
    """
    rows = np.empty(len(sizes), "int64")
    order = np.argsort(-sizes, kind="stable")
    lengths, first = np.unique(-sizes[order], return_index=True)
    open_rows: list[list[Array]] = [[] for _ in range(length + 1)]  # by room left
    count = 0
    for size, begin, end in zip(-lengths, first, np.r_[first[1:], len(sizes)], strict=True):
        left = order[begin:end]
        for room in range(size, length):
            if not open_rows[room] or not len(left):
                continue
            found = np.concatenate(open_rows[room])
            each = room // size  # the fullest row stays the fullest until nothing fits any more
            used = found[: -(-len(left) // each)]
            open_rows[room] = [found[len(used) :]] if len(used) < len(found) else []
            left = _place(rows, left, used, each, size, room, open_rows)
        if len(left):
            each = length // size
            new = np.arange(count, count - (-len(left) // each))
            count += len(new)
            _place(rows, left, new, each, size, length, open_rows)
    return rows


def _place(
    rows: Array, pieces: Array, used: Array, each: int, size: int, room: int, open_rows: list[list[Array]]
) -> Array:
    """Put ``each`` pieces into every row of ``used``, the last one may get fewer; what is left over is returned."""
    now = pieces[: len(used) * each]
    rows[now] = np.repeat(used, each)[: len(now)]
    full, over = divmod(len(now), each)
    if full and room - each * size:
        open_rows[room - each * size].append(used[:full])
    if over:
        open_rows[room - over * size].append(used[full:])
    return pieces[len(now) :]


def _ranges(starts: Array, sizes: Array) -> Array:
    """``starts[0] .. starts[0] + sizes[0] - 1, starts[1] ..``."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - sizes - starts, sizes)
