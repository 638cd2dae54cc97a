r"""One differential engine: posterior probability that a quantity h differs between two sides.

For pairs of posterior draws :math:`(h_1, h_2)` of two sides (each draw from a cell chosen at random), with effect
:math:`e = \log_2 (h_1 + \epsilon) - \log_2 (h_2 + \epsilon)` unless told otherwise,

* ``vanilla``: :math:`P(h_1 > h_2)`, and the Bayes factor :math:`\log P(h_1 > h_2) - \log P(h_1 < h_2)`;
* ``change``: :math:`P(e \ge \delta)` and :math:`P(e < -\delta)`, their maximum (``test_mode="three"``) or sum (``"two"``), and
  discoveries at a stated expected false discovery rate.

Boyeau et al., "Deep generative models for detecting differential expression in single cells", bioRxiv 794289 (2019); Lopez et al. (2018).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scelbo.kernels import compiled, loop

Effect = Callable[[np.ndarray, np.ndarray], np.ndarray]
TINY = 1e-8
NO_PSEUDOCOUNT = 1e-10


@dataclass(frozen=True)
class Test:
    """What is asked of each pair of draws.

    Parameters
    ----------
    mode
        ``"vanilla"`` or ``"change"``.
    delta
        Smallest effect that counts; None estimates it from the data.
    test_mode
        ``"three"``: up, down or neither; ``"two"``: changed or not.
    pseudocounts
        epsilon; None estimates it from features that are all but unseen.
    change_fn
        Own effect of (h1, h2), arrays (features, draws); None is the log2 ratio.
    intervals
        Levels of credible intervals (highest density) of the effect.
    m1_domain_fn
        Own say of which effects count as a change: effects (features, draws) -> mask; stands in for delta and ``test_mode``.
    described
        Whether the effect's median, spread and range are found too.
    """

    mode: Literal["vanilla", "change"] = "vanilla"
    delta: float | None = 0.25
    test_mode: Literal["two", "three"] = "three"
    pseudocounts: float | None = None
    change_fn: Effect | None = None
    intervals: Sequence[float] = ()
    m1_domain_fn: Callable[[np.ndarray], np.ndarray] | None = None
    described: bool = True

    def effect(self, h1: np.ndarray, h2: np.ndarray, eps: float) -> np.ndarray:
        """The effect of each pair, (features, draws)."""
        return np.log2(h1 + eps) - np.log2(h2 + eps) if self.change_fn is None else self.change_fn(h1, h2)


def vanilla(draws: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, np.ndarray]:
    """P(h1 > h2) and the means of both sides, for draws (draws, features) of which these rows are pairs."""
    n, (above, sum1, sum2) = len(first), np.zeros((3, draws.shape[1]))
    if compiled() and draws.dtype == np.float32 and draws.flags.c_contiguous:
        loop("rows", "compared")(draws, first, second, above, sum1, sum2)
    else:
        for i, j in zip(first, second, strict=True):
            above += draws[i] > draws[j]
            sum1 += draws[i]
            sum2 += draws[j]
    p, (scale1, scale2) = above / n, (np.stack([sum1, sum2]) / n).astype(draws.dtype)
    return {"proba_m1": p, "proba_m2": 1 - p, "bayes_factor": bayes_factor(p, 1 - p), "scale1": scale1, "scale2": scale2}


def change(h1: np.ndarray, h2: np.ndarray, eps: float, delta: float, test: Test) -> dict[str, np.ndarray]:
    """P(effect beyond delta) and the effect's summary, for pairs of draws (features, draws)."""
    e, up, down, mean, scale1, scale2 = effects(h1, h2, eps, delta, test)
    if test.m1_domain_fn is not None:
        changed = np.count_nonzero(test.m1_domain_fn(e), axis=1)
    else:
        changed = np.maximum(up, down) if test.test_mode == "three" else up + down
    p = changed / e.shape[1]
    out = {"proba_de": p, "proba_not_de": 1 - p, "bayes_factor": bayes_factor(p, 1 - p), "lfc_mean": mean}
    if test.described:
        out |= {f"lfc_{name}": values for name, values in described(e).items()}
    for level in test.intervals:
        low, high = densest(e, level)
        out |= {f"lfc_confidence_interval_{level}_min": low, f"lfc_confidence_interval_{level}_max": high}
    return out | {"scale1": scale1, "scale2": scale2}


def effects(h1: np.ndarray, h2: np.ndarray, eps: float, delta: float, test: Test) -> tuple[np.ndarray, ...]:
    """Of pairs (features, draws) the effects, how many are at least delta, how many below -delta, and the means of effect and sides."""
    if test.change_fn is None and eps > 0 and compiled() and h1.dtype == h2.dtype == np.float32:
        e, found = np.empty(h1.shape, np.float32), np.empty((5, len(h1)))
        if loop("rows", "log_ratios")(h1, h2, np.float32(eps), np.float32(delta), e, found):
            return e, *found[:2], *found[2:].astype(np.float32)
    e = test.effect(h1, h2, eps)
    return e, np.count_nonzero(e >= delta, axis=1), np.count_nonzero(e < -delta, axis=1), e.mean(1), h1.mean(1), h2.mean(1)


def described(e: np.ndarray) -> dict[str, np.ndarray]:
    """Median, standard deviation and range of each row, for draws (features, draws)."""
    if not (compiled() and e.dtype == np.float32 and e.size and np.isfinite(e).all()):
        return {"median": np.median(e, 1), "std": e.std(1), "min": e.min(1), "max": e.max(1)}
    out = {name: np.empty(len(e), np.float32) for name in ("median", "std", "min", "max")}
    loop("rows", "described")(np.ascontiguousarray(e), *out.values())
    return out


def densest(e: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The shortest interval that holds a share ``level`` of the draws (features, draws): its two ends."""
    ordered, rows = np.sort(e, axis=1), np.arange(len(e))
    inside = min(int(level * e.shape[1]), e.shape[1] - 1)
    start = (ordered[:, inside:] - ordered[:, : e.shape[1] - inside]).argmin(1)
    return ordered[rows, start], ordered[rows, start + inside]


def bayes_factor(p: np.ndarray, not_p: np.ndarray) -> np.ndarray:
    """log odds, finite at 0 and 1."""
    return np.log(p + TINY) - np.log(not_p + TINY)


def spread(lfc: np.ndarray, pooled: np.ndarray) -> dict[str, np.ndarray]:
    """How replicates agree with the pooled effect, for effects (replicates, features)."""
    std = lfc.std(0, ddof=1) if len(lfc) > 1 else np.full(lfc.shape[1], np.nan)
    agree = (np.sign(lfc) == np.sign(pooled)).mean(0)
    return {
        "lfc_replicates_mean": lfc.mean(0),
        "lfc_replicates_std": std,
        "replicates_agree": agree,
        "n_replicates": np.full(lfc.shape[1], len(lfc)),
    }


def discoveries(p: np.ndarray, fdr: float) -> np.ndarray:
    """The largest set, most probable first, whose mean probability of being false is at most ``fdr``: a mask."""
    order = np.argsort(-p, kind="stable")
    called = np.cumsum(1 - p[order]) / np.arange(1, len(p) + 1) <= fdr
    out = np.zeros(len(p), dtype=bool)
    out[order[: np.flatnonzero(called).max(initial=-1) + 1]] = True
    return out


def pseudocount(peak1: np.ndarray, peak2: np.ndarray, unseen1: np.ndarray, unseen2: np.ndarray) -> float:
    r"""epsilon from what the model gives to features that a side all but lacks.

    The 90 % quantile, over the features unseen on a side, of their largest draw; the greater of the two sides, divided by the
    number of features.

    Parameters
    ----------
    peak1, peak2
        (features,) largest draw on each side.
    unseen1, unseen2
        (features,) masks: mean raw count below the threshold.
    """
    quantiles = [np.quantile(peak[unseen], 0.9) for peak, unseen in ((peak1, unseen1), (peak2, unseen2)) if unseen.any()]
    return max(quantiles) / len(peak1) if quantiles else NO_PSEUDOCOUNT


def estimated_delta(effect_means: np.ndarray, share: float = 0.6, least: float = 0.1) -> float:
    """``share`` of the mean distance of the outer components of a mixture of three normals, at least ``least``."""
    if len(effect_means) < 3:
        return least
    from sklearn.mixture import GaussianMixture  # a quarter of a second to import

    mixture = GaussianMixture(3, random_state=0).fit(effect_means[:, None])
    means = np.sort(mixture.means_[:, 0])
    return max(least, float(share * np.abs(means[[0, -1]]).mean()))
