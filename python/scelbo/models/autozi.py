r"""AutoZI: which genes are zero-inflated (Clivio et al., bioRxiv 794875, 2019, doi:10.1101/794875).

As scVI (:mod:`scelbo.models.scvi`), and for gene g, all cells in common,

.. math::
    \delta_g &\sim \mathrm{Beta}(\alpha, \beta) \\
    x_{ng} &\sim \delta_g\, \mathrm{NB}(l_n \rho_{ng}, \theta_g) + (1 - \delta_g)\, \mathrm{ZINB}(l_n \rho_{ng}, \theta_g, \pi_{ng}), \qquad
    \pi_{ng} = \tau + (1 - \tau)\, \sigma(f_g(z_n, s_n))

with a floor :math:`\tau` under the probability of a structural zero, without which a ZINB could be an NB, and
:math:`q(\delta_g) = \mathrm{Beta}(\alpha_g, \beta_g)`, both in (0, 1). The mixture is itself a ZINB, with structural zeros of probability
:math:`(1 - \delta_g)\, \pi_{ng}`: it is evaluated as one, on sparse counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributions import Normal

from scelbo import analysis
from scelbo.data import Setup, SizedCells
from scelbo.errors import ArgumentError
from scelbo.likelihoods.sparse import exp
from scelbo.models.scvi import SCVI, Explained, SCVIModule
from scelbo.nn import Fraction, Known, PerCategory, per_feature
from scelbo.train.options import PlanOptions

LOWEST = -40.0
"""Of f: e to the power of its negative has a square in float32."""


class Latents(NamedTuple):
    """What is hidden in a cell, and in a gene."""

    z: Normal  # (cells, n_latent)
    log_l: Normal | Known  # (cells, 1)
    delta: Fraction  # (categories, genes): the share of a gene's counts that an NB explains; one category where it is the gene's alone


class AUTOZIModule(SCVIModule):
    """scVI's networks, and a Beta for each gene."""

    def __init__(self, model: AUTOZI, setup: Setup):
        super().__init__(model, setup)
        self.floor = model.minimal_dropout
        self.posterior_logits = nn.ModuleDict(
            {name: per_feature(model.zero_inflation, setup.n_vars, setup, spread=0.0) for name in ("alpha", "beta")}
        )
        self.given = {"alpha": model.alpha_prior, "beta": model.beta_prior}
        learnt = {name: nn.Parameter(torch.zeros(1)) for name, value in self.given.items() if value is None}
        self.prior_logits = nn.ParameterDict(learnt)

    def shared(self) -> dict[str, Any]:
        return {"delta": Fraction(*(self.rows(name).sigmoid() for name in ("alpha", "beta")))}

    def rows(self, name: str) -> Float[Tensor, "categories genes"]:
        """Logits of the posterior's alpha or beta."""
        table = self.posterior_logits[name]
        return table.rows() if isinstance(table, PerCategory) else table["all"][None]  # type: ignore[index]

    def prior_of(self, name: str) -> Float[Tensor, " 1"]:
        """The prior's alpha or beta: as given, or as learnt."""
        given = self.given[name]
        return self.prior_logits[name].sigmoid() if given is None else self.rows(name).new_full((1,), given)

    def inference(self, cells: SizedCells) -> Latents:  # type: ignore[override]
        return Latents(*super().inference(cells), **self.shared())

    def prior(self, q: Any, cells: SizedCells) -> Any:
        shape = q.delta.concentration1.shape
        p: Any = super().prior(q, cells)
        return p._replace(delta=Fraction(*(self.prior_of(name).expand(shape) for name in ("alpha", "beta"))))

    def generative(self, z: Any, cells: SizedCells) -> Explained:
        zinb: Any = super().generative(z, cells).x
        tables = self.posterior_logits["alpha"]
        delta = z.delta[..., cells.codes(tables.covariate), :] if isinstance(tables, PerCategory) else z.delta
        return Explained(replace(zinb, zi_logits=structural_zero(zinb.zi_logits, delta, self.floor)))


class _StructuralZero(torch.autograd.Function):
    """A third of the time of its autograd: most passes over (cells, genes) are made in place."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, delta: Tensor, floor: float) -> Tensor:
        o = exp(f.clamp(min=LOWEST), -1.0)
        above = (o * floor).add_(1)
        below = torch.addcmul(delta, 1 - floor * (1 - delta), o)
        ratio = above / below
        ctx.save_for_backward(o.mul_(1 - floor).div_(above.mul_(below)), ratio, delta)
        return (ratio * (1 - delta)).log_()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        slope, ratio, delta = ctx.saved_tensors
        d_delta = -((ratio * grad).sum_to_size(delta.shape) + grad.sum_to_size(delta.shape) / (1 - delta))
        return slope * grad, d_delta, None


def structural_zero(
    f: Float[Tensor, "*s cells genes"], delta: Float[Tensor, "*#s #cells genes"], floor: float
) -> Float[Tensor, "*s cells genes"]:
    r"""The logit of :math:`(1 - \delta)(\tau + (1 - \tau)\, \sigma(f))`.

    With :math:`o = e^{-f}` and :math:`\kappa = 1 - \tau (1 - \delta)` it is
    :math:`\log (1 - \delta) + \log(1 + \tau o) - \log(\delta + \kappa o)`, sums of positive terms, which lose no digits; its slopes are
    :math:`(1 - \tau)\, o / ((1 + \tau o)(\delta + \kappa o))` in f and
    :math:`-1 / (1 - \delta) - (1 + \tau o) / (\delta + \kappa o)` in delta.

    >>> f, delta = torch.tensor([[-2.0, 3.0]], dtype=torch.float64), torch.tensor([[0.3, 0.9]], dtype=torch.float64)
    >>> torch.allclose(structural_zero(f, delta, 0.01).sigmoid(), (1 - delta) * (0.01 + 0.99 * f.sigmoid()))
    True
    """
    return _StructuralZero.apply(f, delta, floor)


class AUTOZI(SCVI):
    """Which genes have more zeros than a negative binomial explains, beside all that scVI answers.

    The arguments below are those of ``AUTOZI(adata, ...)`` that :class:`~scelbo.models.scvi.SCVI` does not have; ``setup_anndata`` takes
    what it takes there.

    Parameters
    ----------
    gene_likelihood
        ``"zinb"``: with delta, the mixture above.
    alpha_prior, beta_prior
        Of the prior Beta, each in (0, 1); None: learnt, one for all genes.
    minimal_dropout
        The floor under the probability of a structural zero of a zero-inflated gene, in [0, 1).
    zero_inflation
        Whether a gene has one delta, or one in each batch or label.

    Examples
    --------
    >>> from scelbo import AUTOZI
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=200, n_genes=50)
    >>> AUTOZI.setup_anndata(adata, batch_key="batch")
    >>> model = AUTOZI(adata)
    >>> model.train(max_epochs=2, progress=False)
    >>> list(model.get_zero_inflation())
    ['alpha', 'beta', 'probability', 'zero_inflated', 'mean', 'zeros']
    """

    gene_likelihood: Literal["zinb"] = "zinb"
    alpha_prior: float | None = 0.5
    beta_prior: float | None = 0.5
    minimal_dropout: float = 0.01
    zero_inflation: Literal["gene", "gene-batch", "gene-label"] = "gene"

    Module: ClassVar[type[SCVIModule]] = AUTOZIModule
    plan: ClassVar[PlanOptions] = PlanOptions(parts={name: {"lr": 1e-2, "eps": 1e-8} for name in ("posterior_logits", "prior_logits")})
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(n_epochs_kl_warmup=400, eps=1e-6, weight_decay=0.0)}
    """scvi-tools multiplies the loss by the number of training cells n, which makes Adam's eps 0.01 / n and weight decay 1e-6 / n."""

    def build(self, setup: Setup) -> SCVIModule:
        for name in ("alpha_prior", "beta_prior"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ArgumentError(f"{name}={value!r} is not allowed: it must be between 0 and 1, or None to be learnt.")
        if not 0 <= self.minimal_dropout < 1:
            raise ArgumentError(f"minimal_dropout={self.minimal_dropout!r} is not allowed: it must be at least 0, and below 1.")
        return super().build(setup)

    get_alphas_betas = analysis.alphas_betas
    get_zero_inflation = analysis.zero_inflation
