"""Many contexts at decoding, by naive Bayes (kexue.fm 9617, 9648), and parallel context windows for comparison.

`combine` and its parts are functions of arrays; what runs a model loads Keras or PyTorch when it is first asked for.
"""

from kexue._lazy import names_from

_HOME = {
    "NBCE": "generation",
    "Answer": "generation",
    "Combined": "pooling",
    "ContextRows": "generation",
    "KexueRows": "rows",
    "NaiveBayesLM": "attention",
    "ParallelContexts": "windows",
    "ParallelWindows": "windows_mask",
    "TransformersRows": "rows_torch",
    "TransformersWindows": "rows_torch",
    "Used": "law",
    "WindowLayout": "windows",
    "combine": "pooling",
    "entropy": "pooling",
    "exact_naive_bayes": "pooling",
    "keep_top_p": "pooling",
    "window_layout": "windows",
}

__all__ = sorted(_HOME)  # noqa: PLE0605

__getattr__ = names_from(__name__, _HOME)
