"""What may be generated, as objects that combine with ``&``."""

from kexue.decoding.constraints.automata import Automaton, Trie
from kexue.decoding.constraints.base import Both, Constraint, Source
from kexue.decoding.constraints.regex import Regex
from kexue.decoding.constraints.spans import Contains, SpanOfSource

__all__ = ["Automaton", "Both", "Constraint", "Contains", "Regex", "Source", "SpanOfSource", "Trie"]
