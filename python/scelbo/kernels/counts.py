"""log p(x) of negative binomials, plain and zero-inflated, with its gradients: a pass over a cell's genes, and one over its stored values.

The formulas stand in :mod:`scelbo.likelihoods.kernels`, which does the same in torch. What a pass reads here and there is gathered before
it and scattered after it: only so does the pass itself become vector instructions.
"""

from __future__ import annotations

import numpy as np
from numpy import uint32

from scelbo.kernels.maths import NOT_A_NUMBER, ONE, ZERO, exp, f4, finite, gamma_terms, largest, log, log1p, loop, number, part, step, wide

NEVER = f4(70)
"""Logits of a structural zero below minus this are as good as it, and their exponential is finite."""


@step
def over(mu: float, theta: float) -> tuple[float, float, float]:
    """L = log(1 + mu / theta), s = mu / (theta + mu), and 1 - s."""
    ratio = mu / theta
    total = ONE + ratio
    inverse = ONE / total
    return log1p(ratio, total, inverse), ratio * inverse, inverse


@part
def _scale(h: np.ndarray, mu: np.ndarray, log_l: float, softmax: bool) -> float:
    """Write the mean, and return what its logarithm has beyond h: a softmax's normaliser, and the library size."""
    wide()
    if not softmax:
        for g in range(h.shape[0]):
            mu[g] = exp(h[g] + log_l)
        return log_l
    highest, total = largest(h), ZERO
    for g in range(h.shape[0]):
        mu[g] = exp(h[g] - highest)
        total += mu[g]
    times = exp(log_l) / total
    for g in range(h.shape[0]):
        mu[g] *= times
    return log_l - highest - log(total)


@part
def _nb_zeros(mu: np.ndarray, theta: np.ndarray, weight: float, d_h: np.ndarray, d_theta: np.ndarray) -> tuple[float, float]:
    wide()
    value, slope = ZERO, ZERO
    for g in range(mu.shape[0]):
        t = theta[g]
        level, share, _ = over(mu[g], t)
        value -= t * level
        d_h[g] = -t * share
        slope -= t * share
        d_theta[g] += weight * t * (share - level)
    return value, slope


@part
def _nb_stored(n: int, x: np.ndarray, work: np.ndarray, weight: float) -> tuple[float, float]:
    """work: mu, theta, log mu - log theta -> d log mu, d log theta."""
    mu, theta, log_ratio = work[0], work[1], work[2]
    wide()
    value, slope = ZERO, ZERO
    for k in range(n):
        t = theta[k]
        level, _, inverse = over(mu[k], t)
        lgamma, digamma = gamma_terms(x[k], t)
        rest = x[k] * inverse
        value += x[k] * (log_ratio[k] - level) + lgamma
        slope += rest
        mu[k] = rest
        theta[k] = weight * (t * digamma - rest)
    return value, slope


@part
def _zinb_zeros(
    mu: np.ndarray, theta: np.ndarray, pi: np.ndarray, weight: float, d_h: np.ndarray, d_theta: np.ndarray, d_pi: np.ndarray
) -> tuple[float, float]:
    wide()
    value, slope = ZERO, ZERO
    for g in range(mu.shape[0]):
        t = theta[g]
        level, share, _ = over(mu[g], t)
        never = exp(min(-pi[g], NEVER))
        zero = never * exp(-t * level)
        of_zero, of_never = ONE / (ONE + zero), ONE / (ONE + never)
        value += log((ONE + zero) * of_never)
        gate = zero * of_zero
        d_h[g] = -gate * t * share
        slope -= gate * t * share
        d_theta[g] += weight * gate * t * (share - level)
        d_pi[g] = weight * (never * of_never - gate)
    return value, slope


@part
def _zinb_stored(n: int, x: np.ndarray, work: np.ndarray, weight: float) -> tuple[float, float]:
    """work: mu, theta, log mu - log theta, pi -> d log mu, d log theta, -, d pi; all less what zeros would have."""
    mu, theta, log_ratio, pi = work[0], work[1], work[2], work[3]
    wide()
    value, slope = ZERO, ZERO
    for k in range(n):
        t = theta[k]
        level, share, inverse = over(mu[k], t)
        below = min(-pi[k], NEVER)
        never = exp(below)
        zero = never * exp(-t * level)
        of_zero, of_never = ONE / (ONE + zero), ONE / (ONE + never)
        lgamma, digamma = gamma_terms(x[k], t)
        value += x[k] * (log_ratio[k] - level) - t * level + lgamma + below - log(ONE + zero)
        gate = zero * of_zero
        open_ = t * (ONE - gate)
        d_mu = x[k] * inverse - open_ * share
        slope += d_mu
        mu[k] = d_mu
        theta[k] = weight * (open_ * (share - level) + t * digamma - x[k] * inverse)
        pi[k] = -weight * of_never
    return value, slope


@loop
def negative_binomial(
    h: np.ndarray, log_l: np.ndarray, theta: np.ndarray, log_theta: np.ndarray, pi: np.ndarray, softmax: bool,
    crow: np.ndarray, col: np.ndarray, val: np.ndarray, weight: np.ndarray,
    value: np.ndarray, d_h: np.ndarray, d_l: np.ndarray, d_theta: np.ndarray, d_pi: np.ndarray,
) -> None:  # fmt: skip
    """Write the value of each cell (not a number, where what is its own is not finite), and ``weight`` times its gradients.

    Parameters
    ----------
    h, log_l
        (cells, genes) and (cells,): as in :class:`~scelbo.likelihoods.Mean`.
    theta, log_theta
        (1 or cells, genes).
    pi
        (cells, genes) logits of a structural zero; (0, 0) without.
    softmax
        Whether the mean is the library size times a softmax, or the exponential of both.
    crow, col, val
        The counts, as in :class:`~scelbo.data.Counts`.
    weight
        (cells,).
    value, d_h, d_l, d_theta, d_pi
        Of the shapes of what they belong to; of one row where nobody reads them. ``d_theta`` is of log theta, and added to; all
        else is written over.
    """
    genes, inflated = h.shape[1], pi.shape[0] > 0
    mu, work = np.empty(genes, f4), np.empty((4, genes), f4)
    for b in range(h.shape[0]):
        row, to = b if theta.shape[0] > 1 else 0, b if d_h.shape[0] > 1 else 0
        t, w, slopes, d_t = theta[row], weight[b], d_h[to], d_theta[row if d_theta.shape[0] > 1 else 0]
        beyond = _scale(h[b], mu, log_l[b], softmax)
        at, x = col[crow[b] : crow[b + 1]], val[crow[b] : crow[b + 1]]
        n = x.shape[0]
        for k in range(n):
            g = uint32(at[k])
            work[0, k], work[1, k], work[2, k] = mu[g], t[g], h[b, g] + beyond - log_theta[row, g]
        if inflated:
            for k in range(n):
                work[3, k] = pi[b, uint32(at[k])]
            zeros, slope = _zinb_zeros(mu, t, pi[b], w, slopes, d_t, d_pi[to])
            stored, more = _zinb_stored(n, x, work, w)
        else:
            zeros, slope = _nb_zeros(mu, t, w, slopes, d_t)
            stored, more = _nb_stored(n, x, work, w)
        for k in range(n):
            g = uint32(at[k])
            slopes[g] += work[0, k]
            d_t[g] += work[1, k]
        if inflated:
            for k in range(n):
                d_pi[to, uint32(at[k])] = work[3, k]
        value[b], d_l[b] = zeros + stored, w * (slope + more)
        if not (finite(h[b]) and (theta.shape[0] == 1 or finite(log_theta[b])) and (not inflated or finite(pi[b]))):
            value[b] = number(NOT_A_NUMBER)
        if d_h.shape[0] < h.shape[0]:
            continue
        if softmax:
            share = (slope + more) / exp(log_l[b])
            for g in range(genes):
                slopes[g] = w * (slopes[g] - mu[g] * share)
        else:
            for g in range(genes):
                slopes[g] *= w
