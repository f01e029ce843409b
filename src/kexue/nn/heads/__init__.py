"""Heads: what turns hidden states into answers."""

from kexue.nn.heads.crf import CRF, CRFLoss, tag_constraints, viterbi_decode
from kexue.nn.heads.global_pointer import (
    MASKED_SCORE,
    EfficientGlobalPointer,
    GlobalPointer,
    Span,
    decode_spans,
    span_mask,
)
from kexue.nn.heads.token import TokenClassifier

__all__ = [
    "CRF",
    "MASKED_SCORE",
    "CRFLoss",
    "EfficientGlobalPointer",
    "GlobalPointer",
    "Span",
    "TokenClassifier",
    "decode_spans",
    "span_mask",
    "tag_constraints",
    "viterbi_decode",
]
