"""Which of scvi-tools' parameters is which of ours, block by block: the part that every model shares.

Every function yields :class:`Pair`; copying weights and comparing gradients are both loops over pairs. Only the names and shapes
that ``state_dict()`` shows are relied on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from scelbo.nn import MLP, ConditionalLinear, GaussianEncoder, PerCategory


class Pair(NamedTuple):
    """A parameter (or buffer) of ours, and where the peer holds the same numbers."""

    name: str
    ours: Tensor
    theirs: Tensor
    view: Callable[[Tensor], Tensor] = lambda t: t
    """From the peer's tensor (or its gradient) to our layout."""


def copy(pairs: Iterator[Pair]) -> list[Pair]:
    """Write the peer's numbers into ours."""
    done = list(pairs)
    with torch.no_grad():
        for p in done:
            p.ours.copy_(p.view(p.theirs))
    return done


def answering_for(theirs: Any, model: Any, pairs: Iterator[Pair]) -> Any:
    """Our model with the weights that the peer's was trained to: it then answers for it."""
    copy(pairs)
    model.is_trained = True
    mine = model.get_latent_representation()
    worst = np.abs(mine - theirs.get_latent_representation()).max() / np.abs(mine).max()
    assert worst < 1e-4, f"the copy is not the original: latents differ by {worst:.1e}"
    return model


def same(name: str, ours: nn.Module, theirs: nn.Module) -> Iterator[Pair]:
    """Modules of the same kind (a plain linear layer, a batch norm): parameters and buffers by name."""
    mirror = {**dict(theirs.named_parameters()), **dict(theirs.named_buffers())}
    for key, value in (*ours.named_parameters(), *ours.named_buffers()):
        yield Pair(f"{name}.{key}", value, mirror[key])


def columns(start: int, n: int) -> Callable[[Tensor], Tensor]:
    """Some input columns of a weight (out, in), as rows (in, out)."""
    return lambda t: t[:, start : start + n].T


def linear(name: str, ours: ConditionalLinear, theirs: nn.Linear) -> Iterator[Pair]:
    """The peer's one weight reads [input, continuous covariates, one-hot categories]; a covariate of one category has no column."""
    n_in, at = len(ours.weight), len(ours.weight)
    yield Pair(f"{name}.weight", ours.weight, theirs.weight, columns(0, n_in))
    if ours.bias is not None:
        yield Pair(f"{name}.bias", ours.bias, theirs.bias)
    if ours.slope is not None:
        yield Pair(f"{name}.slope", ours.slope, theirs.weight, columns(at, len(ours.slope)))
        at += len(ours.slope)
    for shift in ours.shifts:
        n = len(shift.rows())
        if at == theirs.weight.shape[1] and not shift.rows().any():
            continue  # a query's encoder: ours has room for new categories, at zero, where scvi-tools has none
        if n > 1:
            yield from rows(f"{name}.shift.{shift.covariate}", shift, theirs.weight, columns(at, n))
            at += n
    left = theirs.weight[:, at:]
    assert not left.any(), f"{name}: {left.shape[1]} of the peer's input columns are not accounted for, and not zero"


def mlp(name: str, ours: MLP, theirs: Any) -> Iterator[Pair]:
    """Hidden layers; ``theirs`` holds ``fc_layers``, each [linear, batch norm, ...]. Our layer norm has nothing to learn, as theirs."""
    for i, (ours_linear, ours_norm, layer) in enumerate(zip(ours.linear, ours.norm, theirs.fc_layers, strict=True)):
        yield from linear(f"{name}.{i}", ours_linear, layer[0])
        if isinstance(ours_norm[0], nn.BatchNorm1d):
            yield from same(f"{name}.{i}.norm", ours_norm[0], layer[1])


def encoder(name: str, ours: GaussianEncoder, theirs: Any) -> Iterator[Pair]:
    """A body, a head for the mean, a head for the variance."""
    yield from mlp(f"{name}.body", ours.body, theirs.encoder)
    yield from same(f"{name}.mean", ours.mean, theirs.mean_encoder)
    yield from same(f"{name}.var", ours.var, theirs.var_encoder)


def table(name: str, ours: PerCategory, theirs: Tensor, transposed: bool = False) -> Iterator[Pair]:
    """One row a category."""
    yield from rows(name, ours, theirs, (lambda t: t.T) if transposed else (lambda t: t))


def rows(name: str, ours: PerCategory, theirs: Tensor, view: Callable[[Tensor], Tensor]) -> Iterator[Pair]:
    """Rows that came with a reference, where there are any, and those that are its own."""
    n = len(ours.fixed)
    if n:
        yield Pair(f"{name}.fixed", ours.fixed, theirs, lambda t: view(t)[:n])
    if len(ours.table):
        yield Pair(name, ours.table, theirs, lambda t: view(t)[n:])
