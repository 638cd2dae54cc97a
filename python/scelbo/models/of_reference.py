"""Models of spots that are made of a trained model of dissociated cells."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from anndata import AnnData
from jaxtyping import Float
from torch import Tensor

from scelbo import analysis
from scelbo.data import Columns, Counts, Spots, genes_of_both, set_up_spots
from scelbo.errors import ArgumentError, SetupError
from scelbo.model import Model
from scelbo.module import Module
from scelbo.nn import SharesOfCounts, of_types, shares_of, with_shares
from scelbo.train import preflight


class FromData(Module):
    """A module whose training starts at what the data say, or (``start="random"``) where its numbers happen to be."""

    start: str

    @torch.no_grad()
    def observe(self, data: Columns) -> None:
        if self.start == "data":
            self.start_at(data)

    def start_at(self, data: Columns) -> None:
        """Write what the data say."""
        raise TypeError(f"{type(self).__name__} must say its start_at(data)")


class OfSpots(FromData):
    """A module of spots. What it finds of a spot it may bring nearer to what networks read, and to what is around the spot."""

    reader: SharesOfCounts | None
    n_states: int
    nearby: Tensor  # how far shares around a spot are believed beside its own

    def profiles(self, spots: Spots) -> Float[Tensor, "*spots states genes"]:
        """What a unit of each type is expected to show."""
        raise TypeError(f"{type(self).__name__} must say its profiles(spots)")

    def best(self, spots: Spots, w: Tensor) -> Float[Tensor, "spots states_1"]:
        """The best amounts with these profiles."""
        raise TypeError(f"{type(self).__name__} must say its best(spots, w)")

    def shares(self, v: Float[Tensor, "spots states_1"]) -> Float[Tensor, "spots types"]:
        """Of each type, whatever its states."""
        return shares_of(of_types(v, self.n_states))

    def read(self, v: Float[Tensor, "spots states_1"], x: Counts) -> Float[Tensor, "spots types"]:
        """The shares, nearer to what the networks read off the counts, as far as these are trusted."""
        own = self.shares(v)
        return own if self.reader is None else self.reader.beside(own, x)

    def believed(self, spots: Spots) -> Float[Tensor, "*spots 1"]:
        """How far the shares around each spot are."""
        return self.nearby if spots.smoothed is None else self.nearby * (spots.smoothed.size > 0)

    def informed(self, v: Float[Tensor, "spots states_1"], spots: Spots) -> Float[Tensor, "spots states_1"]:
        """As much of all types together; their shares as read, and nearer to those around the spot, as far as these are believed."""
        if spots.smoothed is None and not (self.reader and self.reader.trusted):
            return v
        shares = self.read(v, spots.x)
        if spots.smoothed is not None:
            around = self.read(self.best(spots.seeing(spots.smoothed), self.profiles(spots)), spots.smoothed)
            shares = torch.lerp(shares, around, self.believed(spots))
        return with_shares(v, shares, self.n_states)


class SpatialModel(Model):
    """What such models share: they are made by :meth:`from_rna_model`, know the reference's types, and say which genes they read.

    Parameters
    ----------
    cell_types
        The reference's types.
    n_spots
        How many spots may train.
    left_out
        Why -> the genes that are not read.
    """

    cell_types: list[str] | None = None
    n_spots: int | None = None
    left_out: dict[str, list[str]] | None = None

    Cells = Spots
    Reference: ClassVar[type[Model]] = Model
    """The class of the reference's model."""

    @classmethod
    def from_rna_model(
        cls, st_adata: AnnData, sc_model: Model, *, anndata_setup_kwargs: dict[str, Any] | None = None, **arguments: Any
    ) -> Self:
        """A model of the spots, of the genes that they share with the reference; ``train()`` it.

        Parameters
        ----------
        st_adata
            Spots. They are set up here, where they were not; nothing else of them is changed.
        sc_model
            The trained model of the reference.
        anndata_setup_kwargs
            Arguments of ``setup_anndata``: ``layer, batch_key``.
        **arguments
            Of the class.

        Raises
        ------
        ArgumentError, NotTrainedError
            It is no such model, or was not trained.
        DataError
            Reference and spots share no gene, or spots have no counts in those that they share.
        """
        if not isinstance(sc_model, cls.Reference):
            raise ArgumentError(f"{cls.__name__} is made of {cls.Reference.__name__}, not of {type(sc_model).__name__}.")
        sc_model.require_trained()
        genes = sc_model.setup.var_names
        counted = sc_model.read()["x"].column_means(lambda x: x) > 0 if sc_model.adata is not None else torch.ones(len(genes)) > 0
        setup, left_out = genes_of_both(st_adata, set_up_spots(cls, st_adata, anndata_setup_kwargs), cls.Cells, genes, counted)
        about: dict[str, Any] = {"cell_types": sc_model.setup.categories["label"], "n_spots": st_adata.n_obs, "left_out": left_out}
        about |= cls.sizes(sc_model)
        for name in about.keys() & arguments:
            raise ArgumentError(f"{name}={arguments[name]!r} is not allowed: {name} comes with the data or the reference.", "Leave it out.")
        model = cls(st_adata, setup=setup, **about, **arguments)
        at = {gene: i for i, gene in enumerate(genes)}
        taken = torch.from_numpy(np.array([at[gene] for gene in setup.var_names]))
        model.take(sc_model, taken)
        model.calibration = analysis.learn_from_mixtures(model, sc_model, taken)
        model.module.observe(model.read())
        analysis.learn_from_surroundings(model)
        return model

    @classmethod
    def sizes(cls, reference: Any) -> dict[str, Any]:
        """Arguments that are the reference's."""
        return {}

    def take(self, reference: Any, genes: Tensor) -> None:
        """Copy into the module what the reference has learnt of these genes."""
        raise TypeError(f"{type(self).__name__} must say what it takes")

    def require_reference(self) -> None:
        """Raise where the model was not made by :meth:`from_rna_model`."""
        if self.cell_types is None:
            name, of = type(self).__name__, self.Reference.__name__
            raise SetupError(f"{name} is made of a trained {of}.", f"Call {name}.from_rna_model(spots, model).")

    check = classmethod(preflight.check_one)
    get_proportions = analysis.proportions
    estimate_proportions = analysis.proportion_intervals
    get_genes = analysis.genes_used
    get_elbo = analysis.elbo
