"""How to set up and make a model: what the contract is checked on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from anndata import AnnData

from scelbo.data.simulate import cite
from scelbo.model import Model


@dataclass(frozen=True)
class Case:
    """A model with arguments. Subclasses say otherwise how it is made.

    Parameters
    ----------
    model
        The class.
    arguments
        Of the model, beside ``small``.
    keys
        Of ``setup_anndata``. The simulated cells have ``obs`` ``batch, cell_type, donor, percent_mito`` and proteins in
        ``obsm["protein_expression"]``.
    small
        Arguments that make it small.
    other_cells
        Whether it answers for cells that it was not made of.
    """

    model: type[Model]
    arguments: dict[str, Any] = field(default_factory=dict)
    keys: dict[str, Any] = field(default_factory=lambda: {"batch_key": "batch"})
    small: dict[str, Any] = field(default_factory=lambda: {"n_hidden": 16, "n_latent": 4})
    other_cells: bool = True

    def __str__(self) -> str:
        said = {**self.arguments, **{k: v for k, v in self.keys.items() if k != "batch_key"}}
        return "-".join([self.model.__name__, *(f"{k}={v}" for k, v in said.items())])

    def cells(self, n: int = 120, seed: int = 1) -> AnnData:
        """Simulated cells x 40 genes, and 5 proteins, in 2 batches, 3 donors, 4 types; as this model reads them."""
        return self.data(cite(n, 40, 5, seed=seed))

    def data(self, adata: AnnData) -> AnnData:
        """The simulated cells as this model reads them."""
        return adata

    def make(self, adata: AnnData, **more: Any) -> Model:
        """An untrained model."""
        self.owner.setup_anndata(adata, **self.keys)
        return self.of(adata, **{**self.small, **more})

    @property
    def owner(self) -> type[Model]:
        """The class that the data are set up for."""
        return self.model

    def of(self, adata: AnnData, **sizes: Any) -> Model:
        """A model of data that were set up."""
        return self.model(adata, **{**sizes, **self.arguments})

    def given(self, adata: AnnData) -> Any:
        """Cells as this model takes them."""
        return adata

    def trained(self, adata: AnnData, max_epochs: int = 3, **more: Any) -> Model:
        """A model that was trained for a moment."""
        model = self.make(adata)
        model.train(max_epochs=max_epochs, **{"seed": 1, "progress": False, **more})
        return model
