"""Tasks: what a user trains and ships, each with ``fit``, ``evaluate``, ``predict``, ``save`` and ``load``."""

from kexue._lazy import names_from

_HOME = {
    "ConditionalLM": "conditional_lm",
    "NER": "ner",
    "Pretrainer": "pretrainer",
    "Reader": "reader",
    "Seq2Seq": "seq2seq",
    "SpanReader": "span_reader",
    "load": "loading",
}

__all__ = ["NER", "ConditionalLM", "Pretrainer", "Reader", "Seq2Seq", "SpanReader", "load"]


__getattr__ = names_from(__name__, _HOME)
