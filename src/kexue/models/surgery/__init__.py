"""Model surgery: read out, cut open, change and copy functional Keras models, with weights shared unless asked.

Works on `kexue.models.Transformer`, on Keras' functional and sequential models, and on what it returns itself.

Source: kexue.fm article 6985.
"""

from kexue._lazy import names_from

_HOME = {
    "Graph": "graph",
    "GraphDiff": "difference",
    "LowRank": "lowrank",
    "Nth": "graph",
    "Part": "parts",
    "TiedDense": "tied",
    "addresses": "graph",
    "bypass": "edit",
    "clone": "copying",
    "diff": "difference",
    "extract": "parts",
    "insert_after": "edit",
    "insert_before": "edit",
    "outputs_of": "parts",
    "replace": "edit",
    "search": "graph",
    "share": "edit",
    "split": "parts",
    "tail": "parts",
}

__all__ = [
    "Graph",
    "GraphDiff",
    "LowRank",
    "Nth",
    "Part",
    "TiedDense",
    "addresses",
    "bypass",
    "clone",
    "diff",
    "extract",
    "insert_after",
    "insert_before",
    "outputs_of",
    "replace",
    "search",
    "share",
    "split",
    "tail",
]


__getattr__ = names_from(__name__, _HOME)
