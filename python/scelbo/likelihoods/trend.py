r"""NB counts whose inverse dispersion follows the mean, :math:`\phi(\mu) = \epsilon + \sum_b a_b\, e^{-(\mu - m_b)^2 / 2 w^2}`.

One pass gives values and the slopes in :math:`\log \mu` and :math:`\phi`; the basis functions are added up one at a time, and once more for
the gradient of :math:`a`, so that nothing of the size of the counts times their number is ever made. With :math:`s = \mu / (\phi + \mu)`
and :math:`L = \log(1 + \mu / \phi)`, a count of zero has the log probability :math:`-\phi L` and the slopes :math:`-\phi s` (in log mu) and
:math:`s - L` (in phi). A count x > 0 adds :math:`x (\log \mu - \log \phi - L) + \log \Gamma(x + \phi) - \log \Gamma(\phi)`,
:math:`x (1 - s)` and :math:`\psi(x + \phi) - \psi(\phi) - x (1 - s) / \phi`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from scelbo.likelihoods.sparse import VALUES_AT_ONCE

LEAST = 1e-10
"""Epsilon: phi where all basis functions are far away."""


class Trend(NamedTuple):
    """phi as a function of the mean."""

    log_a: Float[Tensor, " basis"]
    centre: Float[Tensor, " basis"]

    @property
    def width(self) -> Tensor:
        """w: from one centre to the next."""
        return self.centre[1] - self.centre[0]

    def phi(self, mu: Tensor) -> Tensor:
        """The inverse dispersion at each mean."""
        return _phi(mu, self.log_a.exp(), self.centre, self.width)[0]


def _phi(mu: Tensor, a: Tensor, centre: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """phi, and its slope."""
    phi, slope = torch.full_like(mu, LEAST), torch.zeros_like(mu)
    for a_b, m_b in zip(a, centre, strict=True):
        u, e = _basis(mu, m_b, width)
        phi.addcmul_(e, a_b)
        slope.addcmul_(e.mul_(u), a_b, value=-1)
    return phi, slope.div_(width)


def _basis(mu: Tensor, centre: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """u = (mu - m) / w and e^(-u^2 / 2)."""
    u = (mu - centre).div_(width)
    return u, torch.mul(u, u).mul_(-0.5).exp_()


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, log_mu: Tensor, log_a: Tensor, centre: Tensor, width: Tensor) -> Tensor:
        value, d_log_mu, d_phi = torch.empty_like(log_mu), torch.empty_like(log_mu), torch.empty_like(log_mu)
        a = log_a.exp()
        for s in _slices(log_mu):
            mu = log_mu[s].exp()
            phi, slope = _phi(mu, a, centre, width)
            ratio = mu / phi
            level = ratio.log1p()
            share = ratio.div_(ratio + 1)
            at = x[s].nonzero(as_tuple=True) if x.device.type == "cpu" else ...  # 0 adds nothing, and a GPU would be waited for
            y, p, log_p, rest = x[s][at], phi[at], phi[at].log(), 1 - share[at]
            value[s] = (phi * level).neg_()
            value[s][at] += y * (log_mu[s][at] - log_p - level[at]) + torch.lgamma(y + p) - p.lgamma()
            torch.sub(share, level, out=d_phi[s])
            d_phi[s][at] += torch.digamma(y + p) - p.digamma() - y * rest / p
            d_log_mu[s] = share.mul_(phi).neg_()
            d_log_mu[s][at] += y * rest
            d_log_mu[s].addcmul_(d_phi[s], slope.mul_(mu))
        ctx.save_for_backward(log_mu, log_a, centre, width, d_log_mu, d_phi)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        log_mu, log_a, centre, width, d_log_mu, d_phi = ctx.saved_tensors
        d_a = torch.zeros_like(log_a)
        for s in _slices(log_mu):
            mu, weight = log_mu[s].exp(), grad[s] * d_phi[s]
            d_a += torch.stack([torch.vdot(weight.view(-1), _basis(mu, m_b, width)[1].view(-1)) for m_b in centre])
        return None, grad * d_log_mu, d_a * log_a.exp(), None, None


def _slices(of: Tensor) -> list[slice]:
    step = max(1, VALUES_AT_ONCE // of.shape[1])
    return [slice(i, i + step) for i in range(0, len(of), step)]


def log_prob(x: Float[Tensor, "cells k"], log_mu: Float[Tensor, "cells k"], trend: Trend) -> Float[Tensor, "cells k"]:
    r"""Log probability of every count, without its :math:`-\log x!`."""
    return _LogProb.apply(x, log_mu, trend.log_a, trend.centre, trend.width)
