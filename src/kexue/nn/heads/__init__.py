"""Heads: what turns hidden states into answers."""

from kexue.nn.heads.global_pointer import MASKED_SCORE, EfficientGlobalPointer, GlobalPointer, Span, decode_spans

__all__ = ["MASKED_SCORE", "EfficientGlobalPointer", "GlobalPointer", "Span", "decode_spans"]
