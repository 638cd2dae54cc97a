r"""Latent Dirichlet allocation as a Pyro model: AmortizedLDA in other words, which a test holds against it.

.. math:: \varphi_k \sim N(m_\beta, v_\beta), \quad z_n \sim N(m_\alpha, v_\alpha), \quad
    x_n \sim \mathrm{Multinomial}(l_n,\, \mathrm{softmax}(z_n)\, \mathrm{softmax}(\varphi))

The topics have a free normal each, the cells an encoder.
"""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from scelbo import Setup, analysis
from scelbo.likelihoods import BagOfWords
from scelbo.nn import GaussianEncoder, logistic_normal
from scelbo.pyro import PyroModel, PyroModule, explains
from scelbo.train import PlanOptions


class Topics(PyroModule):
    """p(x, z, phi), and the encoder of z."""

    def __init__(self, model: TopicModel, setup: Setup):
        super().__init__()
        k = model.n_topics
        self.encoder = GaussianEncoder(setup.n_vars, k, n_hidden=model.n_hidden, n_layers=2)
        for name, n in (("z_prior", k), ("phi_prior", setup.n_vars)):
            normal = logistic_normal(torch.full((n,), 1 / k))
            self.register_buffer(name, torch.stack([normal.mean, normal.stddev]))

    def model(self, cells: Any) -> None:
        phi = pyro.sample("phi", dist.Normal(*self.phi_prior).expand([self.z_prior.shape[1], cells.x.n_vars]).to_event(2))
        with self.plate(cells):
            z = pyro.sample("z", dist.Normal(*self.z_prior).to_event(1))
            explains("x", BagOfWords(z.softmax(-1), phi.softmax(-1)), cells.x)

    def encode(self, cells: Any) -> dict[str, Any]:
        return {"z": self.encoder(cells.x.scaled(1000 / cells.x.size).map(torch.sqrt), cells)}

    def embed(self, z: Tensor) -> Tensor:
        return z.softmax(-1)

    def shared(self) -> dict[str, Any]:
        return {"phi": self.free.normal("phi")}


class TopicModel(PyroModel):
    """Topics of genes, and how much of each cell every topic makes up."""

    n_topics: int = 20
    n_hidden: int = 128

    plan = PlanOptions(lr=1e-2, eps=1e-8, weight_decay=0.0, n_epochs_kl_warmup=5)

    def build(self, setup: Setup) -> Topics:
        return Topics(self, setup)

    get_latent_representation = analysis.topic_proportions
    get_feature_by_topic = analysis.feature_by_topic
