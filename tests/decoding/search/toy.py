"""Small spaces whose laws are known."""

import itertools

import numpy as np

from kexue.decoding.search import Sentence


class Table:
    """log rho of strings over V letters up to a length, and slot laws, all random."""

    def __init__(self, letters=2, longest=3, seed=0):
        self.letters, self.rng = letters, np.random.default_rng(seed)
        strings = [s for n in range(longest + 1) for s in itertools.product(range(letters), repeat=n)]
        self.logs = {s: float(self.rng.normal()) for s in strings}
        self.laws = {}

    def target(self, sentences):
        return np.array([self.logs.get(tuple(s), -np.inf) for s in sentences])

    def slots(self, lefts, rights):
        for slot in zip(map(tuple, lefts), map(tuple, rights), strict=True):
            if slot not in self.laws:
                self.laws[slot] = np.log(self.rng.dirichlet(np.ones(self.letters)))
        return np.array([self.laws[tuple(a), tuple(b)] for a, b in zip(lefts, rights, strict=True)])

    def space(self, shortest=1, keywords=()):
        """All sentences; with ``keywords`` those that hold this one keyword, as the sampler can reach them."""
        if not keywords:
            return [Sentence(s) for s in self.logs if len(s) >= shortest]
        found = []
        room = max(map(len, self.logs)) - len(keywords)
        for n in range(room + 1):
            for s in itertools.product(range(self.letters), repeat=n):
                for place in range(n + 1):
                    marks = (0,) * place + (1,) * len(keywords) + (0,) * (n - place)
                    found.append(Sentence(s[:place] + tuple(keywords) + s[place:], marks))
        return found

    def law(self, states):
        weights = np.exp(self.target([s.tokens for s in states]))
        return weights / weights.sum()


def joint(values=3, sites=3, seed=0):
    """A random joint law, array of shape (values,) * sites."""
    table = np.random.default_rng(seed).dirichlet(np.ones(values**sites))
    return table.reshape((values,) * sites)


def conditionals(table):
    """p(x_i | others) for each site."""
    return [table / table.sum(axis=i, keepdims=True) for i in range(table.ndim)]


def as_function(tables):
    """What `gibbs` wants, from tables of conditionals."""
    values, sites = tables[0].shape[0], len(tables)

    def conditional(states, where):
        result = np.empty((len(states), values))
        for site in range(sites):
            rows = np.flatnonzero(where[:, 0] == site)
            index = [np.repeat(states[rows, j][:, None], values, 1) for j in range(sites)]
            index[site] = np.broadcast_to(np.arange(values), (len(rows), values))
            result[rows] = np.log(tables[site][tuple(index)])
        return result

    return conditional
