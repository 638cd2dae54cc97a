"""What a model reads from an AnnData, declared once: the class of its minibatch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor

from scelbo.data.counts import Counts, there

Kind = Literal["counts", "matrix", "category", "categories", "numbers", "number"]


@dataclass(frozen=True)
class Field:
    """Where a minibatch attribute comes from: its kind, and the argument of ``setup_anndata`` that names its key.

    ``required``: without that argument there is no set-up. ``missing``: the argument that names the value of cells whose category is
    not known; they (and cells without a value) have the code -1, and it is no category. ``part``: the model chooses among the features
    (``Model.features``), and a cell's library size is that of all. ``mudata``: the argument's name in ``setup_mudata``, where it
    has another there. ``names``: the argument that names the entry of ``uns`` with a matrix's column names. ``types``: only features that
    ``var["feature_types"]`` calls so. ``may_lack``: cells may have no counts here, if they have some in another matrix. ``unknown``: the
    value of cells whose category is not known, where ``missing`` names none. ``within``: the argument that names a column in whose
    categories these are nested. ``of``: the field whose values these are means of, with the same features: they need not be whole, a
    cell may have none, and without the argument there are no such.
    """

    kind: Kind
    argument: str
    required: bool = False
    missing: str | None = None
    part: bool = False
    mudata: str | None = None
    names: str | None = None
    types: tuple[str, ...] = ()
    may_lack: bool = False
    unknown: str | None = None
    within: str | None = None
    of: str | None = None

    @property
    def arguments(self) -> list[str]:
        """Those of ``setup_anndata``."""
        return [a for a in (self.argument, self.missing, self.names) if a]

    @property
    def of_features(self) -> bool:
        """Whether it is a matrix of cells x features."""
        return self.kind in ("counts", "matrix")


def counts(argument: str, *, part: bool = False, mudata: str | None = None, types: Sequence[str] = (), may_lack: bool = False) -> Any:
    """A count matrix: a layer, or ``X`` where the key is None -> :class:`~scelbo.data.Counts`."""
    return Field("counts", argument, part=part, mudata=mudata, types=tuple(types), may_lack=may_lack)


def means(argument: str, *, of: str) -> Any:
    """Means (or sums) of the counts of another field over cells nearby, a layer -> :class:`~scelbo.data.Counts`, or None."""
    return Field("counts", argument, of=of)


def table(argument: str, *, names: str | None = None, mudata: str | None = None, required: bool = False, may_lack: bool = False) -> Any:
    """Counts of a few features in ``obsm`` (a data frame, or an array with names in ``uns``) -> (cells, features), or None."""
    return Field("matrix", argument, required, names=names, mudata=mudata, may_lack=may_lack)


def category(
    argument: str, *, required: bool = False, missing: str | None = None, unknown: str | None = None, within: str | None = None
) -> Any:
    """One categorical column of ``obs`` -> (cells,) codes; a single category ``"all"`` where the key is None."""
    return Field("category", argument, required, missing, unknown=unknown, within=within)


def categories(argument: str) -> Any:
    """Several categorical columns of ``obs`` -> ``{column: (cells,) codes}``."""
    return Field("categories", argument)


def numbers(argument: str) -> Any:
    """Several numeric columns of ``obs`` -> (cells, columns), or None."""
    return Field("numbers", argument)


def number(argument: str) -> Any:
    """One positive numeric column of ``obs`` -> (cells, 1), or None."""
    return Field("number", argument)


class Batch:
    """A minibatch of cells. Subclasses declare what it holds: ``name: type = counts(...)``, ``category(...)``, ...

    ``index`` says which cells of the data set these are, (cells,); ``beside`` holds further cells that go along with these in
    training (``Model.beside``); ``share`` is what a mean over these cells counts, where other processes have the rest of the minibatch;
    ``spans`` says, where several data sets train side by side (``Model.streams``), how many of its cells, one after another, are of each.
    """

    index: Tensor
    posterior: dict[str, Tensor] | None = None  # of minified cells
    beside: Self | None = None
    share: float = 1.0
    spans: tuple[int, ...] = ()

    def __init__(self, **values: Any):
        self.__dict__.update(values)

    @classmethod
    def fields(cls) -> dict[str, Field]:
        """The declared fields by attribute name, base classes first."""
        return {k: f for c in reversed(cls.__mro__) for k, f in vars(c).items() if isinstance(f, Field)}

    def __len__(self) -> int:
        return len(self.index)

    def codes(self, covariate: str) -> Tensor:
        """Category codes of a covariate, (cells,): ``"batch"``, or ``"extra.donor"`` for one of several columns."""
        name, _, column = covariate.partition(".")
        value = getattr(self, name)
        return value[column] if column else value

    def replace(self, values: Mapping[str, float | Tensor]) -> Self:
        """The same cells with other covariates: ``cells.replace({"batch": 3})`` asks what they would be in batch 3.

        ``"extra.donor"`` is one of several categorical columns, ``"numbers.0"`` the first continuous one.
        """
        new = {name: value for name, value in self.__dict__.items() if name != "spans"}
        for covariate, value in values.items():
            name, _, column = covariate.partition(".")
            if isinstance(new[name], dict):
                new[name] = {**new[name], column: _filled(new[name][column], value)}
            elif column:
                new[name] = new[name].clone()
                new[name][:, int(column)] = value
            else:
                new[name] = _filled(new[name], value)
        return type(self)(**new)

    def take(self, rows: Tensor | slice) -> Self:
        """Some of these cells, in the order asked for."""
        return type(self)(**{k: _take(v, rows) for k, v in self.__dict__.items() if k not in ("beside", "share", "spans")})

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As ``Tensor.to`` for every part; a dtype converts floating point parts only."""
        return type(self)(**{k: _to(v, *args, **kwargs) for k, v in self.__dict__.items()})


def _take(value: Any, rows: Tensor | slice) -> Any:
    if isinstance(value, dict):
        return {k: _take(v, rows) for k, v in value.items()}
    if value is None:
        return None
    if not isinstance(value, Tensor):
        return value.take(rows)
    return value[rows] if isinstance(rows, slice) else value.index_select(0, there(rows, value.device))


def _filled(old: Tensor, value: float | Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full_like(old, value)


def _to(value: Any, *args: Any, **kwargs: Any) -> Any:
    if isinstance(value, dict):
        return {k: _to(v, *args, **kwargs) for k, v in value.items()}
    if isinstance(value, Tensor) and not value.is_floating_point():
        device = torch.empty(0).to(*args, **kwargs).device if args or kwargs else value.device
        return value.to(device)
    return value if value is None or isinstance(value, float | tuple) else value.to(*args, **kwargs)


class Cells(Batch):
    """The fields that most models share."""

    x: Counts = counts("layer")
    batch: Tensor = category("batch_key")
    label: Tensor = category("labels_key")
    extra: dict[str, Tensor] = categories("categorical_covariate_keys")
    numbers: Tensor | None = numbers("continuous_covariate_keys")


class PlainCells(Batch):
    """Cells of which nothing but a batch and a label is known."""

    x: Counts = counts("layer")
    batch: Tensor = category("batch_key")
    label: Tensor = category("labels_key")


class TypedCells(PlainCells):
    """Cells whose type is known of every one."""

    label: Tensor = category("labels_key", required=True)


class TypedSizedCells(TypedCells):
    """The same, whose size factors may be given, and of some of which a finer label is known (else the code -1)."""

    size: Tensor | None = number("size_factor_key")
    fine: Tensor = category("fine_labels_key", missing="unlabeled_category", unknown="unlabeled", within="labels_key")


class Spots(Batch):
    """Spots of a tissue, each with cells of unknown types."""

    x: Counts = counts("layer")
    batch: Tensor = category("batch_key")
    smoothed: Counts | None = means("smoothed_layer", of="x")

    def seeing(self, x: Counts) -> Self:
        """The same spots with other counts."""
        return type(self)(**{**self.__dict__, "x": x})


class SizedCells(Cells):
    """Cells whose size factors may be given."""

    size: Tensor | None = number("size_factor_key")


class LabelledCells(SizedCells):
    """Cells of which some have a known label, and the others the code -1."""

    label: Tensor = category("labels_key", required=True, missing="unlabeled_category")


class MarkerCells(Batch):
    """Cells of which a few features are read."""

    x: Counts = counts("layer", part=True)
    batch: Tensor = category("batch_key")
    extra: dict[str, Tensor] = categories("categorical_covariate_keys")
    numbers: Tensor | None = numbers("continuous_covariate_keys")
    size: Tensor | None = number("size_factor_key")


class MultiCells(SizedCells):
    """Cells with genes, regions and proteins, each of which a cell may lack."""

    x: Counts = counts("rna_layer", types=("Gene Expression",), may_lack=True)
    atac: Counts | None = counts("atac_layer", types=("Peaks",), may_lack=True)
    protein: Tensor | None = table("protein_expression_obsm_key", names="protein_names_uns_key", mudata="protein_layer", may_lack=True)
