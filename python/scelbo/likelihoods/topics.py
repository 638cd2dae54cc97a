r"""The likelihood of a bag of words: every count is a draw of a gene from the cell's mixture of topics.

.. math:: \log p(x_n \mid \theta_n, \Phi) = \sum_{g:\,x_{ng} > 0} x_{ng} \log p_{ng}, \qquad p_{ng} = \sum_k \theta_{nk} \phi_{kg},

the probability of the counts in one order: the multinomial coefficient, which says in how many orders they could have come and never
learns, is left out. With :math:`S_{ng} = x_{ng} / p_{ng}` at the stored values the gradients are :math:`d\theta = S \Phi^\top` and
:math:`d\Phi = \theta^\top S`; a few cells are worked on at a time, so that p and S stay in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from scelbo.data import Counts
from scelbo.kernels.products import affine
from scelbo.likelihoods.sparse import pieces


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Counts, theta: Tensor, phi: Tensor) -> Tensor:
        wants = any(ctx.needs_input_grad)
        genes = phi.shape[1]
        terms, d_theta = torch.empty_like(x.val), torch.empty_like(theta) if wants else None
        ratio = torch.empty_like(x.val) if wants else None  # S at the stored values
        for i, j, s in pieces(x):
            flat = x.flat[s] - i * genes
            p = affine(theta[i:j], phi)
            p_at = p.view(-1).index_select(0, flat).clamp_min_(torch.finfo(p.dtype).tiny)
            if d_theta is not None and ratio is not None:
                torch.div(x.val[s], p_at, out=ratio[s])
                d_theta[i:j] = affine(p.zero_().view(-1).scatter_(0, flat, ratio[s]).view_as(p), phi.T)
            torch.mul(p_at.log_(), x.val[s], out=terms[s])
        ctx.x = x
        ctx.save_for_backward(theta, d_theta, ratio)
        return torch.segment_reduce(terms, "sum", offsets=x.crow)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, Tensor]:
        theta, d_theta, ratio = ctx.saved_tensors
        S = Counts(ctx.x.crow, ctx.x.col, ratio, ctx.x.n_vars)
        S.row, S.flat = ctx.x.row, ctx.x.flat
        return None, d_theta * grad[:, None], affine((theta * grad[:, None]).T, S.dense())


@dataclass(frozen=True)
class BagOfWords:
    r"""Multinomial(:math:`l_n, \theta_n \Phi`), without its coefficient.

    Parameters
    ----------
    theta
        (..., cells, topics) share of each topic in a cell.
    phi
        (..., topics, genes) probability of each gene in a topic.
    """

    theta: Float[Tensor, "*s cells topics"]
    phi: Float[Tensor, "*s topics genes"]

    @property
    def scale(self) -> Float[Tensor, "*s cells genes"]:
        """Expected proportion of each gene."""
        return self.theta @ self.phi

    def log_prob(self, x: Counts) -> Float[Tensor, "*s cells"]:
        """Log probability of each cell's counts, summed over genes: of the genes that were measured, given that it is one of them."""
        if x.measured is not None:
            phi = self.phi.index_select(-1, x.measured)
            share = phi.sum(-1, keepdim=True)
            theta = self.theta * share[..., 0][..., None, :]
            return BagOfWords(theta / theta.sum(-1, keepdim=True), phi / share).log_prob(x.kept())
        if self.theta.dim() > 2:
            return torch.stack([BagOfWords(theta, phi).log_prob(x) for theta, phi in zip(self.theta, self.phi, strict=True)])
        return _LogProb.apply(x, self.theta, self.phi)
