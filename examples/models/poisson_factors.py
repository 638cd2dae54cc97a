r"""Poisson factors: x ~ Poisson(l rho), rho = softmax(log(softmax(z) phi) + B[batch]), with programmes phi of genes."""

from collections import namedtuple
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from scelbo import CountsVAE, Model, Setup, analysis
from scelbo.fields import PlainCells
from scelbo.likelihoods import Mean, Poisson
from scelbo.nn import GaussianEncoder, Known, PerCategory
from scelbo.train import PlanOptions

Latents, Explained = namedtuple("Latents", "z log_l"), namedtuple("Explained", "x")


class Factors(CountsVAE):
    """q(z | x) and p(x | z, batch)."""

    def __init__(self, model: "PoissonFactors", setup: Setup):
        super().__init__(setup.n_vars)
        self.encoder = GaussianEncoder(setup.n_vars, model.n_factors, model.n_hidden, 1)
        self.log_phi = nn.Parameter(torch.randn(model.n_factors, setup.n_vars))
        self.shift = PerCategory("batch", setup.n_categories("batch")["batch"], setup.n_vars)

    def inference(self, cells: Any) -> Latents:
        return Latents(self.encoder(self.seen(cells).map(torch.log1p), cells), Known(cells.x.size.log()))

    def embed(self, z: Tensor) -> Tensor:
        return z.softmax(-1)

    def generative(self, z: Any, cells: Any) -> Explained:
        log_rho = (self.embed(z.z) @ self.log_phi.softmax(-1)).log() + self.shift(cells)
        return Explained(Poisson(Mean(log_rho, z.log_l)))


class PoissonFactors(Model):
    """Programmes of genes, and how much of each cell they make up; batches have shifts of their own."""

    n_factors: int = 10
    n_hidden: int = 128
    Cells = PlainCells
    plan = PlanOptions(lr=0.01, eps=1e-8, n_epochs_kl_warmup=10)

    def build(self, setup: Setup) -> Factors:
        return Factors(self, setup)

    get_latent_representation = analysis.latent_representation
    get_normalized_expression = analysis.normalized_expression
    get_elbo, get_marginal_ll = analysis.elbo, analysis.marginal_ll
    differential_expression = analysis.differential_expression

    def get_programmes(self) -> pd.DataFrame:
        """How often each programme draws each gene, genes x programmes."""
        return pd.DataFrame(self.module.log_phi.detach().softmax(-1).T.numpy(), list(self.setup.var_names))
