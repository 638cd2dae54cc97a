"""Transfer (scArches): a module grows rows for new categories, takes over a reference's weights, and keeps them fixed.

Lotfollahi et al., Nature Biotechnology 40:121 (2022), doi:10.1038/s41587-021-01001-7. One mechanism serves every conditional model:
the only weights that depend on categories are :class:`~scelbo.nn.PerCategory` tables, and their old rows are buffers, which no optimiser
and no weight decay can move. Differs from the paper's code in that the encoder gets weights for the new categories too (starting at
zero), so that the query's latent positions can move even where the reference's encoder sees no covariates.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from scelbo.data import Setup
from scelbo.module import Module
from scelbo.nn import MLP, BatchNorm, ConditionalLinear, GaussianEncoder, PerCategory


def encoders(module: nn.Module) -> list[GaussianEncoder]:
    """The parts that read data."""
    return [m for m in module.modules() if isinstance(m, GaussianEncoder)]


def decoders(module: nn.Module) -> list[MLP]:
    """The hidden layers that explain data."""
    inside = {id(m) for e in encoders(module) for m in e.modules()}
    return [m for m in module.modules() if isinstance(m, MLP) and id(m) not in inside]


def _first_layers(module: nn.Module) -> Iterator[ConditionalLinear]:
    for encoder in encoders(module):
        yield encoder.body.linear[0]  # type: ignore[misc]


def grow(module: Module, setup: Setup) -> None:
    """Room for the categories that ``setup`` has beyond its reference's: in every table, and in every encoder's first layer."""
    assert setup.reference is not None
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
    state.update({k: v for k, v in reference.state_dict().items() if k not in own})
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
    """Say what may learn from the query (``Model.load_query_data`` explains the options)."""
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
                if isinstance(part, nn.Linear) and name != "classifier":
                    part.requires_grad_(True)
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
