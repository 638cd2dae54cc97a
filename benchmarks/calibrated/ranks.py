"""Are ranks uniform, and do intervals hold what they say?

Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788): where a truth is drawn from the prior and data from the truth, the rank
of the truth among draws from the posterior is uniform. ECDFs with simultaneous bands: Säilynoja, Bürkner and Vehtari 2022,
doi:10.1007/s11222-022-10090-6.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.stats import binom, chi2

LEVELS = (0.5, 0.8, 0.9, 0.95)
DRAWS = 199
"""Of each posterior: 200 ranks, of which each level's central interval is a whole number."""
BINS = 20
CONFIDENCE = 0.95
"""Of the bands: that ranks of a right posterior lie in them everywhere."""


def ranks_of(truth: np.ndarray, draws: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How many of the draws (draws, ...) lie below the truth (...); ties at random."""
    below, same = (draws < truth).sum(0), (draws == truth).sum(0)
    return below + rng.integers(0, same + 1)


def inside(ranks: np.ndarray, level: float, n_draws: int = DRAWS) -> np.ndarray:
    """Whether the truth lies in the central interval of this level."""
    left = round((1 - level) / 2 * (n_draws + 1))
    return (ranks >= left) & (ranks <= n_draws - left)


def chi_square(ranks: np.ndarray, n_draws: int = DRAWS, bins: int = BINS) -> float:
    """p-value of uniform ranks, (cells,)."""
    seen = np.bincount(ranks * bins // (n_draws + 1), minlength=bins)
    expected = len(ranks) / bins
    return float(chi2.sf(((seen - expected) ** 2 / expected).sum(), bins - 1))


def steps(n_draws: int = DRAWS, n: int = 100) -> np.ndarray:
    """Ranks at which ECDFs are looked at."""
    return np.unique(np.linspace(0, n_draws - 1, n).round().astype(int))


def ecdf(ranks: np.ndarray, n_draws: int = DRAWS) -> np.ndarray:
    """Share of ranks (cells, ...) up to each step, (steps, ...)."""
    return (ranks[None] <= steps(n_draws).reshape(-1, *[1] * ranks.ndim)).mean(1)


@lru_cache
def band(n: int, n_draws: int = DRAWS, repeats: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Between which an ECDF of ``n`` uniform ranks lies everywhere, ``CONFIDENCE`` of the time: (steps,) each."""
    at = (steps(n_draws) + 1) / (n_draws + 1)
    drawn = np.random.default_rng(0).integers(0, n_draws + 1, (n, repeats))
    counts = np.round(ecdf(drawn, n_draws) * n)
    tails = np.minimum(binom.cdf(counts.T, n, at), binom.sf(counts.T - 1, n, at))
    tail = np.quantile(tails.min(1), 1 - CONFIDENCE)
    return binom.ppf(tail, n, at) / n, binom.isf(tail, n, at) / n


def leaves(ranks: np.ndarray, n_draws: int = DRAWS) -> np.ndarray:
    """Whether the ECDF of each quantity's ranks (cells, quantities) leaves the band, (quantities,)."""
    low, high = band(len(ranks), n_draws)
    share = ecdf(ranks, n_draws)
    return ((share < low[:, None] - 1e-9) | (share > high[:, None] + 1e-9)).any(0)


def summary(ranks: np.ndarray, n_draws: int = DRAWS) -> dict[str, float]:
    """Of ranks (cells, quantities): what each level's intervals hold (cells are independent, quantities are not), and the tests."""
    out = {f"{level:.0%}": float(inside(ranks, level, n_draws).mean()) for level in LEVELS}
    of_cells = inside(ranks, 0.9, n_draws).mean(1)
    return out | {
        "error of 90%": float(of_cells.std(ddof=1) / len(ranks) ** 0.5),
        "leave the band": float(leaves(ranks, n_draws).mean()),
        "least p": min(1.0, ranks.shape[1] * min(chi_square(column, n_draws) for column in ranks.T)),
    }


def reliability(chance: np.ndarray, true: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Bins of stated probability: how many there are, what was stated, what came, and its standard error."""
    at = np.minimum((np.asarray(chance) * bins).astype(int), bins - 1)
    by = pd.DataFrame({"stated": chance, "came": np.asarray(true, float)}).groupby(at)
    table = by.mean().assign(n=by.size())
    return table.assign(error=np.sqrt(table["stated"] * (1 - table["stated"]) / table["n"]))


def gap(table: pd.DataFrame) -> float:
    """Expected calibration error: the mean distance of what came from what was stated."""
    return float(((table["stated"] - table["came"]).abs() * table["n"]).sum() / table["n"].sum())
