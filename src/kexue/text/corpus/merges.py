"""Byte-pair encoding on characters with WordPiece's ``##``: which pieces the most frequent neighbours make."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise

__all__ = ["merges"]

Pair = tuple[str, str]


def merges(words: Mapping[str, int], most: int, min_count: int) -> Iterator[tuple[str, int]]:
    """Merge the most frequent pair of neighbours, then the next, ...

    Args:
        words: count of each word.
        most: greatest number of merges.
        min_count: stop where no pair occurs that often.

    Yields:
        The merged piece and how often the pair occurred, counts never rising. Of pairs that occur equally often the
        first in the order of their text comes first.
    """
    pieces: list[list[str]] = []
    counts: list[int] = []
    pairs: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, (word, count) in enumerate(words.items()):
        parts = [word[0], *(f"##{character}" for character in word[1:])]
        pieces.append(parts)
        counts.append(count)
        for pair in pairwise(parts):
            pairs[pair] += count
            where[pair].add(index)
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    done = 0
    while heap and done < most:
        negative, pair = heapq.heappop(heap)
        if -negative != pairs[pair]:  # outdated: the count has changed since
            continue
        if -negative < min_count:
            return
        merged = pair[0] + pair[1].removeprefix("##")
        yield merged, -negative
        done += 1
        changed: Counter[Pair] = Counter()
        for index in where.pop(pair):
            parts, count = pieces[index], counts[index]
            for old in pairwise(parts):
                changed[old] -= count
            parts = pieces[index] = _merge(parts, pair, merged)
            for new in pairwise(parts):
                changed[new] += count
                where[new].add(index)
        for key, change in changed.items():
            if not change:
                continue
            pairs[key] += change
            if pairs[key] > 0:
                heapq.heappush(heap, (-pairs[key], key))
            else:
                del pairs[key]
                where.pop(key, None)


def _merge(parts: list[str], pair: Pair, merged: str) -> list[str]:
    result: list[str] = []
    position = 0
    while position < len(parts):
        if position + 1 < len(parts) and parts[position] == pair[0] and parts[position + 1] == pair[1]:
            result.append(merged)
            position += 2
        else:
            result.append(parts[position])
            position += 1
    return result
