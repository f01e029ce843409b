"""Tasks: what a user trains and ships, each with ``fit``, ``evaluate``, ``predict``, ``save`` and ``load``."""

from kexue._lazy import names_from

_HOME = {"NER": "ner", "Pretrainer": "pretrainer", "Seq2Seq": "seq2seq", "load": "loading"}

__all__ = ["NER", "Pretrainer", "Seq2Seq", "load"]


__getattr__ = names_from(__name__, _HOME)
