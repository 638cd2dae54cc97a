"""Which of scvi-tools' parameters is which of ours, block by block: the part that every model shares.

Every function yields :class:`Pair`; copying weights either way and comparing gradients are loops over pairs. Only the names and shapes
that ``state_dict()`` shows are relied on, so the peer's side may be a live module or a :class:`~scelbo.scvi_tools.trees.Tree`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scelbo.errors import StorageError
from scelbo.nn import MLP, ConditionalLinear, GaussianEncoder, Linear, PerCategory
from scelbo.scvi_tools.trees import leaf

View = Callable[[Tensor], Tensor]


class Pair(NamedTuple):
    """A parameter (or buffer) of ours, and where the peer holds the same numbers."""

    name: str
    ours: Tensor
    theirs: Tensor
    view: View = lambda t: t
    """From the peer's tensor (or its gradient) to our layout."""
    back: View | None = None
    """From our tensor to the peer's, where ``view`` is not one of the same memory."""


def copy(pairs: Iterable[Pair]) -> list[Pair]:
    """Write the peer's numbers into ours."""
    done = list(pairs)
    with torch.no_grad():
        for p in done:
            p.ours.copy_(p.view(p.theirs))
    return done


def copy_back(pairs: Iterable[Pair]) -> None:
    """Write our numbers into the peer's."""
    with torch.no_grad():
        for p in pairs:
            ours = p.ours.detach().cpu()
            if p.back is None:
                p.view(p.theirs).copy_(ours)
            else:
                p.theirs.copy_(p.back(ours))


def same(name: str, ours: nn.Module, theirs: Any) -> Iterator[Pair]:
    """Modules of the same kind (a plain linear layer, a batch norm): parameters and buffers by name."""
    for key, value in (*ours.named_parameters(), *ours.named_buffers()):
        if isinstance(ours, Linear) and key == "weight":
            yield Pair(f"{name}.{key}", value, leaf(theirs, key, value, tuple(value.T.shape)), transposed)
        else:
            yield Pair(f"{name}.{key}", value, leaf(theirs, key, value))


def columns(start: int, n: int) -> View:
    """Some input columns of a weight (out, in), as rows (in, out)."""
    return lambda t: t[:, start : start + n].T


def transposed(t: Tensor) -> Tensor:
    """Rows as columns."""
    return t.T


def linear(name: str, ours: ConditionalLinear, theirs: Any) -> Iterator[Pair]:
    """The peer's one weight reads [input, continuous covariates, one-hot categories]; a covariate of one category has no column."""
    n_in, at, slope = len(ours.weight), len(ours.weight), ours.slope
    tables: list[PerCategory] = list(ours.shifts)  # type: ignore[arg-type]
    wide = n_in + (0 if slope is None else len(slope)) + sum(len(t.rows()) for t in tables if len(t.rows()) > 1)
    weight = leaf(theirs, "weight", ours.weight, (ours.weight.shape[1], wide))
    yield Pair(f"{name}.weight", ours.weight, weight, columns(0, n_in))
    if ours.bias is not None:
        yield Pair(f"{name}.bias", ours.bias, leaf(theirs, "bias", ours.bias))
    if slope is not None:
        yield Pair(f"{name}.slope", slope, weight, columns(at, len(slope)))
        at += len(slope)
    for shift in tables:
        n = len(shift.rows())
        if at == weight.shape[1] and not shift.rows().any():
            continue  # a query's encoder: ours has room for new categories, at zero, where scvi-tools has none
        if n > 1:
            yield from rows(f"{name}.shift.{shift.covariate}", shift, weight, columns(at, n))
            at += n
    left = weight[:, at:]
    if left.any():
        raise StorageError(f"{left.shape[1]} input columns of its weights for {name} are not accounted for, and not zero.")


def mlp(name: str, ours: MLP, theirs: Any) -> Iterator[Pair]:
    """Hidden layers; ``theirs`` holds ``fc_layers``, each [linear, batch norm, ...]. Our layer norm has nothing to learn, as theirs."""
    for i, (ours_linear, ours_norm) in enumerate(zip(ours.linear, ours.norm, strict=True)):
        layer = theirs.fc_layers[i]
        yield from linear(f"{name}.{i}", ours_linear, layer[0])  # type: ignore[arg-type]
        if isinstance(ours_norm[0], nn.BatchNorm1d):  # type: ignore[index]
            yield from same(f"{name}.{i}.norm", ours_norm[0], layer[1])  # type: ignore[index]


def encoder(name: str, ours: GaussianEncoder, theirs: Any) -> Iterator[Pair]:
    """A body, a head for the mean, a head for the variance."""
    yield from heads(name, ours, theirs.encoder, theirs.mean_encoder, theirs.var_encoder)


def heads(name: str, ours: Any, body: Any, mean: Any, var: Any) -> Iterator[Pair]:
    """The same, under any names."""
    yield from mlp(f"{name}.body", ours.body, body)
    yield from same(f"{name}.mean", ours.mean, mean)
    yield from same(f"{name}.var", ours.var, var)


def table(name: str, ours: PerCategory, there: Any, key: str, transposed: bool = False) -> Iterator[Pair]:
    """One row a category."""
    own = ours.rows().T if transposed else ours.rows()
    yield from rows(name, ours, leaf(there, key, own), (lambda t: t.T) if transposed else (lambda t: t))


def rows(name: str, ours: PerCategory, theirs: Tensor, view: View) -> Iterator[Pair]:
    """Rows that came with a reference, where there are any, and those that are its own."""
    n = len(ours.fixed)
    if n:
        yield Pair(f"{name}.fixed", ours.fixed, theirs, lambda t: view(t)[:n])
    if len(ours.table):
        yield Pair(name, ours.table, theirs, lambda t: view(t)[n:])


def dispersion(name: str, ours: nn.Module, there: Any, key: str, of_cells: Any = None) -> Iterator[Pair]:
    """What :func:`scelbo.nn.per_feature` made: one for each feature, one for each category, or (``of_cells``) a linear map."""
    if isinstance(ours, PerCategory):
        yield from table(name, ours, there, key, transposed=True)
    elif isinstance(ours, nn.ParameterDict):
        yield Pair(name, ours["all"], leaf(there, key, ours["all"]))
    else:
        yield from same(name, ours, of_cells)
