"""Sampling and searching over discrete states, and over texts (kexue.fm 8062, 8084, 8119, 8194).

The general samplers need NumPy alone; what runs a model loads Keras when it is first asked for.
"""

from kexue._lazy import names_from

_HOME = {
    "CGMH": "cgmh",
    "Annealed": "annealing",
    "CausalScores": "language",
    "Chains": "chains",
    "Forward": "forward",
    "KeywordWriter": "writers",
    "MaskedChains": "mlm_gibbs",
    "MaskedGibbs": "mlm_gibbs",
    "MaskedScores": "language",
    "Paraphraser": "writers",
    "Rejected": "weighted",
    "Sentence": "sentences",
    "Weighted": "weighted",
    "anneal": "annealing",
    "balance_gap": "kernels",
    "effective_sample_size": "diagnostics",
    "empirical_law": "diagnostics",
    "geometric": "annealing",
    "gibbs": "chains",
    "gibbs_kernel": "kernels",
    "hill_climbing": "annealing",
    "importance": "weighted",
    "linear": "annealing",
    "logarithmic": "annealing",
    "metropolis": "chains",
    "metropolis_hastings": "chains",
    "metropolis_kernel": "kernels",
    "rejection": "weighted",
    "smaller": "sentences",
    "special_tokens": "mlm_gibbs",
    "split_r_hat": "diagnostics",
    "stationary_law": "kernels",
    "target": "sentences",
    "total_variation": "diagnostics",
    "weights_ess": "diagnostics",
    "with_keywords": "sentences",
}

__all__ = sorted(_HOME)  # noqa: PLE0605

__getattr__ = names_from(__name__, _HOME)
