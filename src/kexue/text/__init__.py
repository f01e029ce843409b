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
from kexue.text.data import (
    ENTITY_FORMATS,
    PAIR_FORMATS,
    DataWarning,
    from_tags,
    read_entities,
    read_pairs,
    split,
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
    "Batch",
    "DataWarning",
    "Encoding",
    "PackedBatch",
    "SimplifiedVocabulary",
    "Tokenizer",
    "Truncation",
    "bucket_length",
    "extend_vocabulary",
    "from_tags",
    "length_batches",
    "pack",
    "pad",
    "read_entities",
    "read_pairs",
    "simplify_vocabulary",
    "split",
    "statistics",
    "to_tags",
    "unpack",
    "windows",
    "write_jsonl",
]
