r"""Latent Dirichlet allocation with amortised inference.

The model is that of Blei, Ng & Jordan (J. Mach. Learn. Res. 3:993, 2003, doi:10.5555/944919.944937), its inference that of Srivastava
& Sutton (ICLR 2017, doi:10.48550/arXiv.1703.01488). For cell n with :math:`l_n` counts, topic k and gene g,

.. math::
    \phi_k &\sim \mathrm{Dirichlet}(\beta) \qquad\text{how often each gene is drawn from the topic} \\
    \theta_n &\sim \mathrm{Dirichlet}(\alpha) \qquad\text{how much of the cell each topic makes up} \\
    x_n &\sim \mathrm{Multinomial}(l_n,\, \theta_n \Phi)

Both Dirichlets are taken as logistic normals (their Laplace approximation in the softmax basis), so that :math:`\theta_n =
\mathrm{softmax}(z_n)` with :math:`q(z_n \mid x_n)` a diagonal normal from an encoder, and :math:`\phi_k = \mathrm{softmax}(\varphi_k)`
with :math:`q(\varphi)` a free normal for every topic and gene.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo import analysis, settings
from scelbo.data import Batch, Columns, Counts, Setup, counts
from scelbo.errors import ArgumentError
from scelbo.likelihoods import BagOfWords
from scelbo.model import Model
from scelbo.module import CountsVAE
from scelbo.nn import GaussianEncoder, inverse_softplus, logistic_normal
from scelbo.train.options import PlanOptions

INPUT_SIZE = 1000.0
"""Shares are read as counts of a cell with so many."""
START_COUNTS, START_SD = 500.0, 0.1
"""A topic starts as one cell's counts and so many of the average cell; q(phi) starts narrow, so that the start is what is decoded."""


class CellsOfTopics(Batch):
    """Only counts are read."""

    x: Counts = counts("layer")


class Latents(NamedTuple):
    """What is hidden in a cell, and in all of them."""

    z: Normal  # (cells, topics): softmax of it is theta
    phi: Normal  # (topics, genes), shared by all cells: softmax of it is Phi


class Explained(NamedTuple):
    """What the model explains: the counts."""

    x: BagOfWords


class LDAModule(CountsVAE):
    """The encoder q(z | x), the topics q(phi), and p(x | z, phi)."""

    cell_topic_prior: Tensor  # (2, topics): mean and standard deviation of the logistic normal
    topic_feature_prior: Tensor  # (2, genes)

    def __init__(self, model: AmortizedLDA, setup: Setup):
        super().__init__(setup.n_vars)
        topics, genes, self.reads_counts = model.n_topics, setup.n_vars, model.encoder_reads == "counts"
        self.z = GaussianEncoder(genes, topics, n_hidden=model.n_hidden, n_layers=model.n_layers, dropout=model.dropout_rate)
        self.topic_mean = nn.Parameter(torch.randn(topics, genes))
        self.topic_sd = nn.Parameter(inverse_softplus(torch.full((topics, genes), START_SD)))  # of which softplus is the sd
        for name, n in (("cell_topic_prior", topics), ("topic_feature_prior", genes)):
            prior = logistic_normal(_concentration(name, getattr(model, name), n, 1 / topics))
            self.register_buffer(name, torch.stack([prior.mean, prior.stddev]))

    def observe(self, data: Columns) -> None:
        """Each topic starts from a random cell, so that no two are alike."""
        super().observe(data)
        with settings.private_seed() as rng:
            some = rng.choice(len(data), len(self.topic_mean), replace=len(data) < len(self.topic_mean))
        x = data.take(some).x  # type: ignore[attr-defined]
        average = data["x"].column_means(lambda v: v)
        log_phi = (x.dense() + START_COUNTS * average / average.sum() + 1e-3).log()
        self.topic_mean.data.copy_(log_phi - log_phi.mean(-1, keepdim=True))

    def seen(self, cells: CellsOfTopics) -> Counts:
        """Roots of shares have one length and one variance however many counts a cell has: half of a cell looks as the whole."""
        if self.reads_counts:
            return cells.x
        per_count = (INPUT_SIZE / cells.x.size[:, 0]).index_select(0, cells.x.row)
        return cells.x.map(lambda val: (val * per_count).sqrt())

    def shared(self) -> dict[str, Any]:
        return {"phi": Normal(self.topic_mean, F.softplus(self.topic_sd), validate_args=False)}

    def inference(self, cells: CellsOfTopics) -> Latents:
        return Latents(self.z(self.seen(cells), cells), **self.shared())

    def prior(self, q: Latents, cells: CellsOfTopics) -> Latents:
        (mean, sd), (log_phi, log_phi_sd) = self.cell_topic_prior, self.topic_feature_prior
        return Latents(Normal(mean, sd, validate_args=False), Normal(log_phi, log_phi_sd, validate_args=False))

    def embed(self, z: Tensor) -> Tensor:
        return z.softmax(-1)

    def generative(self, z: Any, cells: CellsOfTopics) -> Explained:
        return Explained(BagOfWords(self.embed(z.z), z.phi.softmax(-1)))


def _concentration(name: str, given: float | list[float] | None, n: int, default: float) -> Tensor:
    """The Dirichlet's parameter, (n,), from what the user gave: one number for all, one for each, or nothing."""
    alpha = torch.as_tensor(default if given is None else given, dtype=torch.float64)
    if alpha.dim() and len(alpha) != n:
        raise ArgumentError(f"{name} has {len(alpha)} numbers, and there are {n}: give one for each, or one number for all.")
    if not bool(((alpha > 0) & alpha.isfinite()).all()):
        raise ArgumentError(f"{name}={given!r} is not allowed: a Dirichlet's parameters are above zero.")
    return alpha.expand(n)


class AmortizedLDA(Model):
    """Topics: genes that go together, and how much of each cell every topic makes up.

    ``AmortizedLDA.setup_anndata(adata, layer=None)`` says where the counts are.

    Parameters
    ----------
    n_topics
        Number of topics.
    n_hidden
        Units in a hidden layer of the encoder.
    cell_topic_prior
        Parameter of the Dirichlet over a cell's topics: one number, one for each topic, or None for ``1 / n_topics``.
    topic_feature_prior
        Parameter of the Dirichlet over a topic's genes: one number, one for each gene, or None for ``1 / n_topics``.
    n_layers
        Hidden layers of the encoder.
    dropout_rate
        Share of the encoder's hidden units dropped while training.
    encoder_reads
        Square roots of each gene's share of the cell's counts, or the counts as they are.

    Examples
    --------
    >>> from scelbo import AmortizedLDA
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=200, n_genes=50)
    >>> AmortizedLDA.setup_anndata(adata)
    >>> model = AmortizedLDA(adata, n_topics=3)
    >>> model.train(max_epochs=2, progress=False)
    >>> list(model.get_latent_representation())
    ['topic_0', 'topic_1', 'topic_2']
    >>> model.get_feature_by_topic().shape
    (50, 3)
    """

    n_topics: int = 20
    n_hidden: int = 128
    cell_topic_prior: float | list[float] | None = None
    topic_feature_prior: float | list[float] | None = None
    n_layers: int = 2
    dropout_rate: float = 0.0
    encoder_reads: Literal["proportions", "counts"] = "proportions"

    Cells = CellsOfTopics
    plan: ClassVar[PlanOptions] = PlanOptions(lr=1e-2, eps=1e-8, weight_decay=0.0, n_epochs_kl_warmup=5)
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(eps=1e-8, weight_decay=0.0, n_epochs_kl_warmup=400)}

    def build(self, setup: Setup) -> LDAModule:
        if self.n_topics < 2:
            raise ArgumentError(f"n_topics={self.n_topics} is not allowed: every cell would be the one topic.", "Give 2 or more.")
        return LDAModule(self, setup)

    get_latent_representation = analysis.topic_proportions
    get_feature_by_topic = analysis.feature_by_topic
    get_top_features = analysis.top_features
    get_perplexity = analysis.perplexity
    get_elbo = analysis.elbo
    get_reconstruction_error = analysis.reconstruction_error
    get_marginal_ll = analysis.marginal_ll
    minify = analysis.minify
    with_data = analysis.with_data
