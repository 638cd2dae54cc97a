r"""What treated cells have that others lack: x ~ NB(l softmax f(z, s, batch), theta), s = 0 in others (doi:10.1038/s41592-023-01955-3)."""

from collections import namedtuple
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from scelbo import CountsVAE, Loss, Model, Setup, analysis
from scelbo.fields import TypedCells
from scelbo.likelihoods import Mean, NegativeBinomial
from scelbo.nn import MLP, GaussianEncoder, Known

Latents, Explained = namedtuple("Latents", "z s log_l"), namedtuple("Explained", "x")


class Contrast(CountsVAE):
    """q(z, s | x) and p(x | z, s, batch); s is that of treated cells alone."""

    def __init__(self, model: "Contrastive", setup: Setup):
        super().__init__(setup.n_vars)
        self.background, net = setup.code("label", model.background), {"n_hidden": model.n_hidden, "n_layers": 1}
        self.z, self.s = (GaussianEncoder(setup.n_vars, n, **net) for n in (model.n_latent, model.n_salient))
        self.decoder = MLP(model.n_latent + model.n_salient, **net, categories=setup.n_categories("batch"))
        self.rho, self.log_theta = nn.Linear(model.n_hidden, setup.n_vars), nn.Parameter(torch.randn(1, setup.n_vars))

    def inference(self, cells: Any) -> Latents:
        x = self.seen(cells).map(torch.log1p)
        return Latents(self.z(x, cells), self.s(x, cells), Known(cells.x.size.log()))

    def generative(self, z: Any, cells: Any) -> Explained:
        h = self.decoder(torch.cat([z.z, z.s * (cells.label != self.background)[:, None]], -1), cells)
        return Explained(NegativeBinomial(Mean(self.rho(h), z.log_l), self.log_theta))

    def loss(self, cells: Any, q: Any, z: Any, p: Any) -> Loss:
        return replace(whole := super().loss(cells, q, z, p), kl=whole.kl | {"s": whole.kl["s"] * (cells.label != self.background)})


class Contrastive(Model):
    """``labels_key`` names the treatment of each cell, ``background`` is what cells without one are called there."""

    background: str = "control"
    n_latent: int = 10
    n_salient: int = 5
    n_hidden: int = 128
    Cells = TypedCells

    def build(self, setup: Setup) -> Contrast:
        return Contrast(self, setup)

    get_latent_representation, get_elbo = analysis.latent_representation, analysis.elbo
    get_normalized_expression, differential_expression = analysis.normalized_expression, analysis.differential_expression

    @torch.inference_mode()
    def get_salient_representation(self, adata: Any = None, indices: Any = None) -> Any:
        """The mean of q(s | x): what the treatment did, (cells, n_salient)."""
        self.require_trained()
        return torch.cat([self.module.inference(cells).s.mean for cells in self.batches(adata, indices)]).numpy()
