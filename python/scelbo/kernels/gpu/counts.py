"""log p(x) of negative binomials, plain and zero-inflated, on a GPU: a pass for the values, and one for the gradients.

The formulas stand in :mod:`scelbo.likelihoods.kernels`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from scelbo.kernels.gpu.maths import gamma_terms, log, over

NEVER = tl.constexpr(70.0)
"""Logits of a structural zero below minus this are as good as it, and their exponential is finite."""


@triton.jit
def _terms(x, log_mu, log_theta, pi, INFLATED: tl.constexpr):
    """Of each gene: log p(x), and its slopes in log mu, log theta and pi."""
    theta = tl.exp(log_theta)
    level, share, inverse = over(tl.exp(log_mu), theta)
    lgamma, digamma = gamma_terms(x, theta)
    rest = x * inverse
    value = x * (log_mu - log_theta - level) - theta * level + lgamma
    d_mu, d_theta, d_pi = rest - theta * share, theta * (share - level + digamma) - rest, tl.zeros_like(x)
    if INFLATED:
        below = tl.minimum(-pi, NEVER)
        never = tl.exp(below)
        zero = never * tl.exp(-theta * level)
        of_zero, of_never = 1.0 / (1.0 + zero), 1.0 / (1.0 + never)
        gate, seen = zero * of_zero, x > 0
        value = tl.where(seen, value + below + log(of_never), log((1.0 + zero) * of_never))
        d_mu = tl.where(seen, d_mu, -gate * theta * share)
        d_theta = tl.where(seen, d_theta, gate * theta * (share - level))
        d_pi = tl.where(seen, -of_never, never * of_never - gate)
    return value, d_mu, d_theta, d_pi


@triton.jit
def values(
    x, h, log_l, log_theta, pi, value, beyond, slope, genes, cells_of_theta,
    SOFTMAX: tl.constexpr, INFLATED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the value of a cell, what log mu has beyond h, and the sum of the slopes in log mu.

    Parameters
    ----------
    x, h, pi
        (cells, genes), row after row; ``pi`` is read only where INFLATED.
    log_l, value, beyond, slope
        (cells,).
    log_theta
        (1, genes), then ``cells_of_theta`` is 0; or (cells, genes), then it is 1.
    """
    b = tl.program_id(0).to(tl.int64)
    at, at_theta, more = b * genes, b * genes * cells_of_theta, tl.load(log_l + b)
    if SOFTMAX:
        most = tl.full([BLOCK], float("-inf"), tl.float32)
        for start in range(0, genes, BLOCK):
            g = start + tl.arange(0, BLOCK)
            most = tl.maximum(most, tl.load(h + at + g, mask=g < genes, other=float("-inf")))
        highest = tl.max(most, 0)
        total = tl.zeros([BLOCK], tl.float32)
        for start in range(0, genes, BLOCK):
            g = start + tl.arange(0, BLOCK)
            total += tl.exp(tl.load(h + at + g, mask=g < genes, other=float("-inf")) - highest)
        more = more - highest - log(tl.sum(total, 0))
    found, slopes = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for start in range(0, genes, BLOCK):
        g = start + tl.arange(0, BLOCK)
        here = g < genes
        p = tl.load(pi + at + g, mask=here, other=0.0) if INFLATED else tl.zeros([BLOCK], tl.float32)
        t = tl.load(log_theta + at_theta + g, mask=here, other=0.0)
        v, d_mu, _, _ = _terms(tl.load(x + at + g, mask=here, other=0.0), tl.load(h + at + g, mask=here, other=0.0) + more, t, p, INFLATED)
        found += tl.where(here, v, 0.0)
        slopes += tl.where(here, d_mu, 0.0)
    tl.store(value + b, tl.sum(found, 0))
    tl.store(slope + b, tl.sum(slopes, 0))
    tl.store(beyond + b, more)


@triton.jit
def gradients(
    x, h, log_l, log_theta, pi, weight, beyond, slope, d_h, d_theta, d_pi, genes, cells_of_theta,
    SOFTMAX: tl.constexpr, INFLATED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write ``weight``, (cells,), times the slopes of some genes of a cell; ``d_theta`` is of log theta, (cells, genes)."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    here, at = g < genes, b * genes + g
    p = tl.load(pi + at, mask=here, other=0.0) if INFLATED else tl.zeros([BLOCK], tl.float32)
    t = tl.load(log_theta + b * genes * cells_of_theta + g, mask=here, other=0.0)
    log_mu, w = tl.load(h + at, mask=here, other=0.0) + tl.load(beyond + b), tl.load(weight + b)
    _, d_mu, of_theta, of_pi = _terms(tl.load(x + at, mask=here, other=0.0), log_mu, t, p, INFLATED)
    if SOFTMAX:  # d log mu_g / d h_k = [g = k] - rho_k
        d_mu -= tl.exp(log_mu - tl.load(log_l + b)) * tl.load(slope + b)
    tl.store(d_h + at, w * d_mu, mask=here)
    tl.store(d_theta + at, w * of_theta, mask=here)
    if INFLATED:
        tl.store(d_pi + at, w * of_pi, mask=here)
