"""Many contexts at decoding, by naive Bayes (kexue.fm 9617, 9648), and parallel context windows for comparison.

`combine` and its parts are functions of arrays; what runs a model loads Keras or PyTorch when it is first asked for.
"""

from kexue._lazy import names_from

_HOME = {
    "NBCE": "generation",
    "Answer": "generation",
    "Combined": "combine",
    "ContextRows": "generation",
    "KexueRows": "rows",
    "NaiveBayesLM": "attention",
    "ParallelContexts": "windows",
    "ParallelWindows": "windows_mask",
    "TransformersRows": "rows_torch",
    "TransformersWindows": "rows_torch",
    "Used": "generation",
    "WindowLayout": "windows",
    "combine": "combine",
    "entropy": "combine",
    "exact_naive_bayes": "combine",
    "keep_top_p": "combine",
    "window_layout": "windows",
}

__all__ = sorted(_HOME)  # noqa: PLE0605

__getattr__ = names_from(__name__, _HOME)
