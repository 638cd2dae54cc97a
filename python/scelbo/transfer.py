"""Transfer (scArches): a module grows rows for new categories, takes over a reference's weights, and keeps them fixed.

Lotfollahi et al., Nature Biotechnology 40:121 (2022), doi:10.1038/s41587-021-01001-7. One mechanism serves every conditional model:
the only weights that depend on categories are :class:`~scelbo.nn.PerCategory` tables, and their old rows are buffers, which no optimiser
and no weight decay can move. Differs from the paper's code in that the encoder gets weights for the new categories too (starting at
zero), so that the query's latent positions can move even where the reference's encoder sees no covariates.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import torch
from anndata import AnnData
from torch import nn

from scelbo import settings
from scelbo.data import Setup
from scelbo.errors import SetupError
from scelbo.module import Module
from scelbo.nn import MLP, Adversary, BatchNorm, ConditionalLinear, Encoder, Linear, PerCategory

if TYPE_CHECKING:
    from scelbo.model import Model

M = TypeVar("M", bound="Model")


def encoders(module: nn.Module) -> list[Encoder]:
    """The parts that read data."""
    return [m for m in module.modules() if isinstance(m, Encoder)]


def decoders(module: nn.Module) -> list[MLP]:
    """The hidden layers that explain data."""
    inside = {id(m) for e in encoders(module) for m in e.modules()}
    return [m for m in module.modules() if isinstance(m, MLP) and id(m) not in inside]


def _first_layers(module: nn.Module) -> Iterator[ConditionalLinear]:
    for encoder in encoders(module):
        yield encoder.body.linear[0]  # type: ignore[misc]


def grow(module: Module, setup: Setup) -> None:
    """Room for the categories that ``setup`` has beyond its reference's: in every table, and in every encoder's first layer.

    An adversary stays behind: it knows the reference's batches only, and what z means is fixed.
    """
    assert setup.reference is not None
    for name, part in list(module.named_children()):
        if isinstance(part, Adversary):
            setattr(module, name, None)
    for layer in _first_layers(module):
        seen = {shift.covariate for shift in layer.shifts}
        for covariate in setup.n_categories("batch", "extra"):
            if covariate not in seen:
                shift = PerCategory(covariate, setup.reference[covariate], layer.weight.shape[1], shift=True)
                shift.table.data.zero_()
                layer.shifts.append(shift)
    for part in module.modules():
        if isinstance(part, PerCategory):
            part.grow(len(setup.categories[part.covariate]))


@torch.no_grad()
def adopt(module: Module, reference: Module) -> None:
    """Take over all of the reference's weights; new rows start at the mean of its rows."""
    tables = {name: part for name, part in module.named_modules() if isinstance(part, PerCategory)}
    theirs = {name: part for name, part in reference.named_modules() if isinstance(part, PerCategory)}
    own = {f"{name}.{part}" for name in {*tables, *theirs} for part in ("fixed", "table")}
    state = module.state_dict()
    state.update({k: v for k, v in reference.state_dict().items() if k in state and k not in own})
    module.load_state_dict(state)
    for name, table in tables.items():
        if name in theirs:
            table.grow(len(table.rows()), rows=theirs[name].rows())


def freeze(
    module: Module,
    *,
    unfrozen: bool,
    freeze_dropout: bool,
    freeze_expression: bool,
    freeze_decoder_first_layer: bool,
    freeze_batchnorm_encoder: bool,
    freeze_batchnorm_decoder: bool,
    freeze_classifier: bool,
) -> None:
    """Say what may learn from the query (:func:`load_query_data` explains the options)."""
    tables = [part for part in module.modules() if isinstance(part, PerCategory)]
    if unfrozen:
        for table in tables:
            table.release()
    else:
        learning = {id(p) for table in tables for p in table.parameters() if p.requires_grad}
        for parameter in module.parameters():
            parameter.requires_grad_(id(parameter) in learning)
        if not freeze_expression:
            for layer in _first_layers(module):
                layer.weight.requires_grad_(True)
            for name, part in module.named_children():
                if isinstance(part, nn.Linear | Linear | ConditionalLinear) and name != "classifier":
                    part.weight.requires_grad_(True)
                    if part.bias is not None:
                        part.bias.requires_grad_(True)
        if not freeze_decoder_first_layer:
            for decoder in decoders(module):
                decoder.linear[0].weight.requires_grad_(True)
        classifier = getattr(module, "classifier", None)
        if classifier is not None and not freeze_classifier:
            classifier.requires_grad_(True)
        for parts, frozen in ((encoders(module), freeze_batchnorm_encoder), (decoders(module), freeze_batchnorm_decoder)):
            for norm in (m for part in parts for m in part.modules() if isinstance(m, BatchNorm)):
                norm.frozen = frozen
                norm.requires_grad_(not frozen)
    if freeze_dropout:
        for part in module.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
    module.eval()


def prepare_query_anndata(cls: type[M], adata: AnnData, reference_model: Model | str | Path) -> AnnData:
    """A copy of the query's cells with the reference's features only, in its order; those that were not measured stay absent.

    :func:`load_query_data` needs no such step: this shows what it will read.

    Parameters
    ----------
    adata
        The new cells.
    reference_model
        A trained model, or the folder of one.

    Raises
    ------
    DataError
        More than half of the reference's features are missing.
    """
    reference = _reference(cls, reference_model)
    reference.setup.absent_in(adata, cls.Cells)
    known = pd.Index([name for names in reference.setup.features.values() for name in names])
    part = adata[:, known[known.isin(adata.var_names)].unique()]
    return part.to_memory() if adata.isbacked else part.copy()


def _reference(cls: type[M], reference_model: Model | str | Path) -> Any:
    reference = cls.load(reference_model) if isinstance(reference_model, str | Path) else reference_model
    if type(reference) is not cls:
        raise SetupError(f"The reference is a {type(reference).__name__}, not a {cls.__name__}.")
    reference.require_trained()
    return reference


def load_query_data(
    cls: type[M],
    adata: AnnData,
    reference_model: Model | str | Path,
    *,
    unfrozen: bool = False,
    freeze_dropout: bool = False,
    freeze_expression: bool = True,
    freeze_decoder_first_layer: bool = True,
    freeze_batchnorm_encoder: bool = True,
    freeze_batchnorm_decoder: bool = True,
    freeze_classifier: bool = True,
) -> M:
    """A model of new data on a trained reference (scArches; Lotfollahi et al., Nature Biotechnology 40:121, 2022).

    New batches and new categories of any covariate get weights of their own, in decoder and encoder, and by default only
    these learn: the reference's answers for its own cells stay the same to the bit. ``train()`` the result, then ask it.

    Parameters
    ----------
    adata
        The new cells, with the reference's keys in ``obs``; features are matched by name.
    reference_model
        A trained model, or the folder of one.
    unfrozen
        Let everything learn.
    freeze_dropout
        No dropout while the query trains.
    freeze_expression
        False lets the weights learn that read and write genes.
    freeze_decoder_first_layer
        False lets the decoder's first layer learn.
    freeze_batchnorm_encoder, freeze_batchnorm_decoder
        False lets scale, shift and statistics of these norms learn: the reference then moves too.
    freeze_classifier
        False lets a classifier learn, where the model has one.

    Returns
    -------
    The query's model, ready to train.

    Raises
    ------
    SetupError
        The reference is of another class or was not trained.
    DataError
        Keys, or more than half of the reference's features, are missing in ``adata``. Fewer are left out of encoder and
        likelihood, not taken for zeros.
    """
    frozen = {name: value for name, value in locals().items() if name == "unfrozen" or name.startswith("freeze_")}
    reference = _reference(cls, reference_model)
    setup = reference.setup.extended(adata, cls.Cells)
    query = cls(adata, setup=setup, **{name: getattr(reference, name) for name in cls.hyperparameters()})
    adopt(query.module, reference.module)
    query.freeze, query.calibration = frozen, dict(reference.calibration)
    freeze(query.module, **frozen)
    query.module.observe(query.read())
    for field, names in setup.absent.items():
        total = len(setup.features[field])
        settings.say(f"{len(names):,} of {total:,} features were not measured in the query: they are left out.")
    query.is_trained = True
    return query
