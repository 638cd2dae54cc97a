r"""Proteins with Gaussian noise, log(1 + y) ~ N(f(z, batch), sigma): a nonlinear factor analysis."""

from collections import namedtuple
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributions, nn

from scelbo import VAE, Model, Setup, analysis, fields
from scelbo.nn import MLP, GaussianEncoder

Latents, Explained = namedtuple("Latents", "z"), namedtuple("Explained", "x")


class ProteinCells(fields.Batch):
    """Cells of which proteins are read, and no genes."""

    x: Tensor = fields.table("protein_expression_obsm_key", names="protein_names_uns_key", required=True)
    batch: Tensor = fields.category("batch_key")


class Gaussian(NamedTuple):
    """N(scale, exp(log_sd)) of log(1 + counts)."""

    scale: Tensor
    log_sd: Tensor

    def log_prob(self, y: Tensor) -> Tensor:
        return distributions.Normal(self.scale, self.log_sd.exp(), validate_args=False).log_prob(y.log1p()).sum(-1)


class Factors(VAE):
    """q(z | y) and p(y | z, batch)."""

    def __init__(self, model: "ProteinFactors", setup: Setup):
        super().__init__()
        net = {"n_hidden": model.n_hidden, "n_layers": 1, "categories": setup.n_categories("batch")}
        self.encoder, self.decoder = GaussianEncoder(setup.n_vars, model.n_latent, **net), MLP(model.n_latent, **net)
        self.mean, self.log_sd = nn.Linear(model.n_hidden, setup.n_vars), nn.Parameter(torch.zeros(setup.n_vars))

    def inference(self, cells: Any) -> Latents:
        return Latents(self.encoder(cells.x.log1p(), cells))

    def generative(self, z: Any, cells: Any) -> Explained:
        return Explained(Gaussian(self.mean(self.decoder(z.z, cells)), self.log_sd))


class ProteinFactors(Model):
    """Latent space of proteins in ``obsm``; normalised "expression" is log(1 + counts) without noise."""

    n_latent: int = 8
    n_hidden: int = 64
    Cells = ProteinCells

    def build(self, setup: Setup) -> Factors:
        return Factors(self, setup)

    get_latent_representation, get_elbo = analysis.latent_representation, analysis.elbo
    get_normalized_expression, get_marginal_ll = analysis.normalized_expression, analysis.marginal_ll
