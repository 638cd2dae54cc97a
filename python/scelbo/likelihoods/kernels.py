"""The four likelihoods' values and exact gradients for a few cells (see :mod:`scelbo.likelihoods.sparse` for the frame)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scelbo.data import Counts
from scelbo.likelihoods import compiled, fused
from scelbo.likelihoods.sparse import Kernel, Rows, at, exp

Out = tuple[Tensor, Tensor, tuple[Tensor, ...]]
TABLE = 16
"""Counts up to here have their gamma functions from a table."""


def _row_sum(dense: Tensor, weight: Tensor) -> Tensor:
    """sum_g dense * weight for a weight of one row or of one row a cell."""
    return torch.mv(dense, weight[0]) if weight.shape[0] == 1 else (dense * weight).sum(-1)


def _gamma_terms(x: Counts, params: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    r"""lgamma(x + theta) - lgamma(theta), and the same of digamma, at the stored values.

    For whole x these are :math:`\sum_{k < x} \log(\theta + k)` and :math:`\sum_{k < x} 1 / (\theta + k)`: with one theta a gene a small
    table serves nearly all stored values, exactly, and the slow gamma functions are left for the few high ones.
    """
    if params[0].shape[0] > 1:
        theta = at(params[0], x.col, x.flat).exp()
        return _differences(x.val, theta)
    theta = params[0][0].exp()
    steps = theta + torch.arange(TABLE, device=theta.device)[:, None]
    entry = (x.val.clamp(max=TABLE).long() - 1) * x.n_vars + x.col
    value, slope = (terms.cumsum(0).view(-1).index_select(0, entry) for terms in (steps.log(), steps.reciprocal()))
    high = x.val > TABLE
    if x.val.device.type != "cpu":  # which would be waited for, if it were asked where they are
        of_high = _differences(x.val, theta[x.col])
        return torch.where(high, of_high[0], value), torch.where(high, of_high[1], slope)
    at_high = high.nonzero()[:, 0]
    if len(at_high):
        value[at_high], slope[at_high] = _differences(x.val[at_high], theta[x.col[at_high]])
    return value, slope


def _differences(x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """lgamma(x + theta) - lgamma(theta), and the same of digamma."""
    return torch.lgamma(x + theta) - theta.lgamma(), torch.digamma(x + theta) - theta.digamma()


def _nb_rows(r: Rows) -> Out:
    r"""NB(mu, theta) with :math:`s = \mu / (\theta + \mu)`, :math:`L = \log(1 + \mu / \theta)`.

    At zero: value -theta L, d/dlog mu = -theta s, d/dlog theta = theta (s - L). A stored x adds
    x (log mu - log theta - L) + lgamma terms, x (1 - s), and theta (digamma terms) - x (1 - s).
    """
    log_theta, theta = r.params[0], r.params[0].exp()
    ratio = r.mu / theta
    level = torch.log1p(ratio)
    share = ratio.div_(ratio + 1)
    rest = r.x * (1 - r.at(share))
    lgamma, digamma = r.prepared
    stored = r.x * (r.log_mu - r.at(log_theta) - r.at(level)) + lgamma
    value = r.total(_row_sum(level, theta).neg_(), stored)
    d_theta = r.add((share - level).mul_(theta), r.at(theta) * digamma - rest)
    return value, r.add(share.mul_(-theta), rest), (d_theta,)


def _zinb_rows(r: Rows) -> Out:
    r"""ZINB(mu, theta, pi) with pi the logit of a structural zero and NB's s, L.

    At zero: softplus(-theta L - pi) - softplus(-pi), whose slope in the NB's own value is
    :math:`s_1 = \sigma(-\theta L - \pi)`. A stored x has -pi - softplus(-pi) + log NB(x).
    """
    log_theta, theta = r.params[0], r.params[0].exp()
    ratio = r.mu / theta
    level = torch.log1p(ratio)
    share = ratio.div_(ratio + 1)
    never = exp(r.params[1].clamp(min=-70), -1.0)  # e^-pi; the clamp keeps it finite in float32
    zero = exp(level, -theta).mul_(never)
    zero_1, never_1 = zero + 1, never + 1
    value_zero = (zero_1 / never_1).log_()
    gate = zero.div_(zero_1)  # s_1
    open_ = never.div_(never_1)  # sigma(-pi)

    x, s, level_at, t, open_at = r.x, r.at(share), r.at(level), r.at(theta), r.at(open_)
    lgamma, digamma = r.prepared
    nb = x * (r.log_mu - r.at(log_theta) - level_at) - t * level_at + lgamma
    value = r.total(value_zero.sum(-1), open_at.log() + nb - r.at(value_zero))
    d_pi = r.put(open_ - gate, open_at - 1)
    weight = gate.mul_(-theta)
    d_theta = r.put((level - share).mul_(weight), t * (s - level_at + digamma) - x * (1 - s))
    d_mu = r.put(share.mul_(weight), x * (1 - s) - t * s)
    return value, d_mu, (d_theta, d_pi)


def _poisson_rows(r: Rows) -> Out:
    """Poisson(mu): -mu at zero; a stored x adds x log mu."""
    return r.total(-r.mu.sum(-1), r.x * r.log_mu), r.add(-r.mu, r.x), ()


def _normal_rows(r: Rows) -> Out:
    """Normal(mu, sigma), sigma = exp(params[0]): a stored x adds (x mu - x^2 / 2) / sigma^2."""
    log_sigma = r.params[0].expand_as(r.mu)
    precision = (-2 * log_sigma).exp()
    square, p, mu = r.mu * r.mu * precision, r.at(precision), r.at(r.mu)
    value = r.total(-(0.5 * square + log_sigma + 0.5 * math.log(2 * math.pi)).sum(-1), (r.x * mu - 0.5 * r.x * r.x) * p)
    return value, r.add(-square, r.x * mu * p), (r.add(square - 1, (r.x * r.x - 2 * r.x * mu) * p),)


def _nothing(x: Counts, params: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return ()


NB = Kernel(_gamma_terms, _nb_rows, compiled.negative_binomial, fused.negative_binomial)
ZINB = Kernel(_gamma_terms, _zinb_rows, compiled.negative_binomial, fused.negative_binomial)
POISSON = Kernel(_nothing, _poisson_rows)
NORMAL = Kernel(_nothing, _normal_rows)
