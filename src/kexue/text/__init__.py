"""Text: tokenizers, vocabularies, character offsets, batches, readers of data sets. No Keras, no models."""

from kexue.text.batching import (
    DEFAULT_BUCKETS,
    Batch,
    PackedBatch,
    bucket_length,
    length_batches,
    pack,
    pad,
    unpack,
    windows,
)
from kexue.text.cutting import cut_at_pauses
from kexue.text.data import (
    ENTITY_FORMATS,
    PAIR_FORMATS,
    READING_FORMATS,
    DataWarning,
    from_tags,
    read_entities,
    read_pairs,
    read_reading,
    split,
    split_reading,
    statistics,
    to_tags,
    write_jsonl,
)
from kexue.text.encoding import Encoding, Truncation
from kexue.text.tokenizer import Tokenizer
from kexue.text.vocabulary import SimplifiedVocabulary, extend_vocabulary, simplify_vocabulary

__all__ = [
    "DEFAULT_BUCKETS",
    "ENTITY_FORMATS",
    "PAIR_FORMATS",
    "READING_FORMATS",
    "Batch",
    "DataWarning",
    "Encoding",
    "PackedBatch",
    "SimplifiedVocabulary",
    "Tokenizer",
    "Truncation",
    "bucket_length",
    "cut_at_pauses",
    "extend_vocabulary",
    "from_tags",
    "length_batches",
    "pack",
    "pad",
    "read_entities",
    "read_pairs",
    "read_reading",
    "simplify_vocabulary",
    "split",
    "split_reading",
    "statistics",
    "to_tags",
    "unpack",
    "windows",
    "write_jsonl",
]
