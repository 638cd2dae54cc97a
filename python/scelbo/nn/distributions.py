"""Distributions of latents that torch does not have."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Beta, Normal


class Known:
    """A latent that is observed after all: a point mass, with no KL."""

    def __init__(self, value: Tensor):
        self.mean = value

    def rsample(self, shape: tuple[int, ...] = ()) -> Tensor:
        return self.mean.expand(*shape, *self.mean.shape)


def logistic_normal(alpha: Float[Tensor, " k"]) -> Normal:
    r"""The normal of which the softmax is nearly Dirichlet(:math:`\alpha`): the Laplace approximation in the softmax basis.

    .. math:: m_k = \log \alpha_k - \tfrac1K \textstyle\sum_i \log \alpha_i, \qquad
        v_k = \tfrac{1}{\alpha_k} (1 - \tfrac2K) + \tfrac{1}{K^2} \textstyle\sum_i \tfrac{1}{\alpha_i}

    (MacKay 1998, doi:10.1023/A:1007558615313; Hennig et al. 2012). For K = 2 equal :math:`\alpha` it is :math:`N(0, 1 / 2\alpha)`.

    >>> import torch
    >>> logistic_normal(torch.tensor([0.5, 0.5])).variance
    tensor([1., 1.])
    """
    k, log = len(alpha), alpha.double().log()
    variance = (1 - 2 / k) / alpha.double() + (1 / alpha.double()).sum() / k**2
    return Normal((log - log.mean()).float(), variance.sqrt().float(), validate_args=False)


class Fraction(Beta):
    """A Beta whose draws stay a little clear of 0 and 1, where their logarithms are infinite."""

    EDGE = 1e-6

    def __init__(self, alpha: Tensor, beta: Tensor):
        super().__init__(alpha, beta, validate_args=False)

    def rsample(self, sample_shape: tuple[int, ...] = ()) -> Tensor:  # type: ignore[override]
        return super().rsample(sample_shape).clamp(self.EDGE, 1 - self.EDGE)
