"""From raw text to training rows: readers, vocabulary training, tokenised shards, packing, masking."""

from kexue.text.corpus.building import Corpus, build_shards, held_out
from kexue.text.corpus.encoding import Encoded, Encoder
from kexue.text.corpus.masking import Masked, Spans, mask_tokens
from kexue.text.corpus.packing import PackedRows
from kexue.text.corpus.readers import CORPUS_FORMATS, Document, read_corpus
from kexue.text.corpus.shards import Shards, Split, open_shards
from kexue.text.corpus.spans import Corrupted, corrupt_spans
from kexue.text.corpus.vocabulary import train_vocabulary

__all__ = [
    "CORPUS_FORMATS",
    "Corpus",
    "Corrupted",
    "Document",
    "Encoded",
    "Encoder",
    "Masked",
    "PackedRows",
    "Shards",
    "Spans",
    "Split",
    "build_shards",
    "corrupt_spans",
    "held_out",
    "mask_tokens",
    "open_shards",
    "read_corpus",
    "train_vocabulary",
]
