"""What a user holds of a model that was written in Pyro."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anndata import AnnData

from scelbo import analysis
from scelbo.errors import ArgumentError
from scelbo.model import Model


class PyroModel(Model):
    """A model whose module is a :class:`~scelbo.pyro.PyroModule`: subclasses add hyper-parameters and ``build``."""

    get_elbo = analysis.elbo
    get_reconstruction_error = analysis.reconstruction_error
    sample_posterior = analysis.sample_posterior

    def batches(self, adata: AnnData | None = None, indices: Any = None, batch_size: int | None = None) -> Iterator[Any]:
        """As of any model; where each cell has its own parameters, of the model's own cells only."""
        module: Any = self.module
        for cells in super().batches(adata, indices, batch_size):
            own = module.own(cells)
            if own and self.source(adata) is not self.adata:
                raise ArgumentError(
                    f"The latents {', '.join(own)} have parameters for each cell of the model's own data, and none for others.",
                    "Ask of the model's own cells, or give these latents an encoder: PyroModule.encode(cells).",
                )
            yield cells
