"""Readers of data sets."""

from kexue.text.data.entities import ENTITY_FORMATS, read_entities, split, statistics, write_jsonl
from kexue.text.data.pairs import PAIR_FORMATS, read_pairs
from kexue.text.data.reading import READING_FORMATS, read_reading, split_reading
from kexue.text.data.records import Example
from kexue.text.data.sources import DataWarning
from kexue.text.data.tags import SCHEMES, Scheme, Span, from_tags, split_tag, to_tags

__all__ = [
    "ENTITY_FORMATS",
    "PAIR_FORMATS",
    "READING_FORMATS",
    "SCHEMES",
    "DataWarning",
    "Example",
    "Scheme",
    "Span",
    "from_tags",
    "read_entities",
    "read_pairs",
    "read_reading",
    "split",
    "split_reading",
    "split_tag",
    "statistics",
    "to_tags",
    "write_jsonl",
]
