r"""LDVAE: scVI with a linear decoder (Svensson et al., Bioinformatics 36:3418, 2020, doi:10.1093/bioinformatics/btaa169).

As scVI (:mod:`scelbo.models.scvi`), but for cell n with covariates :math:`s_n` the expected proportions are

.. math::
    \rho_n = \mathrm{softmax}\, \mathrm{BN}(W z_n + V[s_n]), \qquad
    \mathrm{BN}(y)_g = \gamma_g \frac{y_g - m_g}{\sqrt{v_g + \epsilon}} + \beta_g

without hidden layers, so that row g of :math:`\mathrm{diag}(\gamma / \sqrt{v + \epsilon})\, W` tells what each latent dimension does to
gene g: its loadings. m and v are the mean and variance of y over a minibatch (in answers: over training). The logit of a structural zero
of a ZINB is such a map of its own.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from scelbo import analysis
from scelbo.data import Setup, SizedCells
from scelbo.errors import refuse
from scelbo.models.scvi import SCVI, Decoded, SCVIModule
from scelbo.nn import NormalisedLinear, Where


class LinearSCVIModule(SCVIModule):
    """scVI's encoder; a decoder that is one linear map."""

    def build_decoder(self, model: LinearSCVI, genes: int, seen: dict[str, Any], net: dict[str, Any]) -> int:  # type: ignore[override]
        linear = lambda: NormalisedLinear(model.n_latent, genes, batch_norm=net["batch_norm"], bias=model.bias, **seen)  # noqa: E731
        self.rho = linear()  # type: ignore[assignment]
        self.pi = linear() if model.gene_likelihood == "zinb" else None  # type: ignore[assignment]
        return model.n_latent

    def decode(self, z: Tensor, cells: SizedCells, zeros: bool = True) -> Decoded:
        t = self.covariates(cells)
        return Decoded(self.rho(z, cells, t), self.pi(z, cells, t) if self.pi and zeros else None, z)


class LinearSCVI(SCVI):
    """scVI whose latent dimensions can be read: each has a loading for every gene.

    The arguments below are those of ``LinearSCVI(adata, ...)``; the others are as in :class:`~scelbo.models.scvi.SCVI`, where
    ``n_hidden, n_layers, dropout_rate, activation, deeply_inject_covariates`` concern the encoder alone. ``setup_anndata`` takes what it
    takes there.

    Parameters
    ----------
    gene_likelihood
        Distribution of the counts.
    dispersion
        What the inverse dispersion theta depends on; with ``"gene-cell"`` its logarithm is linear in z.
    use_observed_lib_size
        Whether the library size is the cell's total count (else a latent variable with a prior for each batch).
    bias
        Whether the map has a bias beside the batch norm's.
    use_batch_norm, use_layer_norm
        Where the norms stand; a layer norm only in the encoder.

    Examples
    --------
    >>> from scelbo import LinearSCVI
    >>> from scelbo.data.simulate import counts
    >>> adata = counts(n_cells=200, n_genes=50)
    >>> LinearSCVI.setup_anndata(adata, batch_key="batch")
    >>> model = LinearSCVI(adata, n_latent=3)
    >>> model.train(max_epochs=2, progress=False)
    >>> model.get_loadings().shape
    (50, 3)
    """

    gene_likelihood: Literal["zinb", "nb", "poisson", "normal"] = "nb"
    use_observed_lib_size: bool = False
    bias: bool = False
    use_layer_norm: Where = "none"

    Module: ClassVar[type[SCVIModule]] = LinearSCVIModule

    def build(self, setup: Setup) -> SCVIModule:
        refuse(
            self.use_layer_norm in ("decoder", "both"),
            f"use_layer_norm={self.use_layer_norm!r} would mix all genes of a cell, and no loading could be read.",
            "Choose 'encoder' or 'none'.",
        )
        refuse(
            (self.use_batch_norm, self.bias) in (("encoder", False), ("none", False)),
            f"With use_batch_norm={self.use_batch_norm!r} and bias=False no gene has a level of its own.",
            "Add bias=True, or leave the decoder its batch norm.",
        )
        return super().build(setup)

    get_loadings = analysis.loadings
