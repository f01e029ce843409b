"""Tasks: what a user trains and ships, each with ``fit``, ``evaluate``, ``predict``, ``save`` and ``load``."""

from kexue._lazy import names_from

_HOME = {"ConditionalLM": "conditional_lm", "NER": "ner", "Pretrainer": "pretrainer", "Seq2Seq": "seq2seq"}

__all__ = ["NER", "ConditionalLM", "Pretrainer", "Seq2Seq"]


__getattr__ = names_from(__name__, _HOME)
