"""One model in scvi-tools and in scelbo: one setup, one set of weights, the same draws of the latents, the numbers of both.

A model joins the comparison with a :class:`Twins`, at the end of a file of its own, and a line in ``parity.py``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from anndata import AnnData
from torch import Tensor
from torch.distributions import Normal

from scelbo.data import Counts
from scelbo.data.simulate import counts
from scelbo.scvi_tools import blocks
from scelbo.scvi_tools.blocks import Pair

Case = tuple[dict[str, Any], dict[str, Any]]
"""setup_anndata's arguments, the constructor's."""
Numbers = dict[str, Tensor]
"""Quantity -> value. Names that start with "loss" are what training would minimise: their gradients are compared too."""
BATCH = {"batch_key": "batch", "labels_key": "cell_type"}
MORE = {**BATCH, "categorical_covariate_keys": ["donor", "site"], "continuous_covariate_keys": ["percent_mito", "score"]}


def cells(n_cells: int = 120, n_vars: int = 80) -> AnnData:
    """Simulated cells with one covariate of every kind."""
    adata, rng = counts(n_cells, n_vars, n_batches=3, stored=0.3), np.random.default_rng(0)
    adata.layers["capped"] = adata.X.minimum(3)
    adata.obs["site"] = rng.choice(["north", "south"], n_cells)
    adata.obs["score"] = rng.normal(size=n_cells)
    adata.obs["size_factor"] = rng.uniform(0.5, 2, n_cells)
    return adata


def start(theirs: Any, adata: AnnData) -> None:
    """Weights of scvi-tools' model with which every part of it matters: running statistics, and latents that spread."""
    for name, buffer in theirs.module.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.3, 0.8)
    for name, weight in theirs.module.named_parameters():
        if "encoder" in name and "Layer" not in name:
            weight.mul_(1.5)


def tensors(theirs: Any, adata: AnnData | None, n: int) -> dict[str, Tensor]:
    """scvi-tools' minibatch of all cells, or of other ones."""
    loader = theirs._make_data_loader(theirs.adata if adata is None else theirs._validate_anndata(adata), batch_size=n)
    return {k: v.double() if v.is_floating_point() else v for k, v in next(iter(loader)).items()}


@dataclass(frozen=True)
class Twins:
    """What the comparison has to know of a model.

    Parameters
    ----------
    name
        The model's.
    ours, theirs
        Its two classes.
    pairs
        Of our module and theirs: which parameter is which.
    ours_says, theirs_says
        Of a module, the minibatch as it reads it, a :class:`Noise` and a KL weight: the numbers, by the same names.
    cases
        The setups and arguments to compare.
    richest
        The case with a parameter of every kind.
    start
        Writes weights into scvi-tools' model, of which ours gets a copy.
    cells
        Makes the data.
    tensors
        Of their model, other cells or None, and how many: the minibatch as it reads it.
    from_data
        Pairs that either takes from the data: compared as they are before ours gets a copy.
    questions
        What a user would ask of both, in float32: quantity -> answers.
    only_ours
        Arguments that ours has beside theirs, to be as theirs is.
    queries, query_keys
        Arguments and setup of the references that queries are mapped to.
    """

    name: str
    ours: type
    theirs: type
    pairs: Callable[[Any, Any], Iterator[Pair]]
    ours_says: Callable[[Any, Any, Noise, float], Numbers]
    theirs_says: Callable[[Any, Any, Noise, float], Numbers]
    cases: Sequence[Case]
    richest: Case
    start: Callable[[Any, AnnData], None] = start
    cells: Callable[[], AnnData] = cells
    tensors: Callable[[Any, AnnData | None, int], Any] = tensors
    from_data: tuple[str, ...] = ()
    questions: Callable[[Both], dict[str, tuple[Any, Any]]] = lambda pair: {}
    only_ours: dict[str, Any] = field(default_factory=dict)
    queries: tuple[dict[str, Any], ...] = ()
    query_keys: dict[str, Any] = field(default_factory=lambda: {"batch_key": "batch"})


class Both(NamedTuple):
    """The same model twice, with the same weights, in float64."""

    of: Twins
    ours: Any
    theirs: Any
    pairs: list[Pair]
    taken: dict[str, tuple[Tensor, Tensor]]
    """What either took from the data."""

    def to(self, dtype: torch.dtype) -> None:
        """Both modules in another precision, ready to answer."""
        for model in (self.ours, self.theirs):
            model.module.to(dtype).eval()
        self.ours.is_trained = self.theirs.is_trained_ = True


def both(twins: Twins, adata: AnnData, keys: dict[str, Any], seed: int = 0, **hyper: Any) -> Both:
    """Two models of the same arguments, ours with the peer's weights."""
    adata = adata.copy()
    torch.manual_seed(seed)
    twins.theirs.setup_anndata(adata, **keys)
    theirs = twins.theirs(adata, **hyper)
    twins.ours.setup_anndata(adata, **keys)
    ours = twins.ours(adata, **(twins.only_ours | hyper))
    with torch.no_grad():
        twins.start(theirs, adata)
    Both(twins, ours, theirs, [], {}).to(torch.float64)
    found = list(twins.pairs(ours.module, theirs.module))
    forgotten = {n for n, p in ours.module.named_parameters() if p.requires_grad and not any(p is pair.ours for pair in found)}
    assert not forgotten, f"{twins.name}: no pair for {', '.join(sorted(forgotten))}"
    taken = {p.name: (p.ours.detach().clone(), p.view(p.theirs).detach()) for p in found if p.name in twins.from_data}
    return Both(twins, ours, theirs, blocks.copy(found), taken)


def answering_for(theirs: Any, model: Any, pairs: Iterator[Pair]) -> Any:
    """Our model with the weights that the peer's was trained to: it then answers for it."""
    blocks.copy(pairs)
    model.is_trained = True
    mine = model.get_latent_representation()
    worst = np.abs(mine - theirs.get_latent_representation()).max() / np.abs(mine).max()
    assert worst < 1e-4, f"the copy is not the original: latents differ by {worst:.1e}"
    return model


class Noise:
    """Standard normal numbers: a latent is drawn with the same ones whenever its name is the same."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def draw(self, name: str, q: Any) -> Tensor:
        """A draw of a latent, differentiable; what is known has none."""
        if not isinstance(q, Normal):
            return q.mean
        generator = torch.Generator().manual_seed(self.seed + zlib.crc32(name.encode()))
        return q.loc + q.scale * torch.randn(q.loc.shape, dtype=q.loc.dtype, generator=generator)

    def latents(self, q: Any) -> Any:
        """One draw of everything that our ``inference`` gives, by the names it has there."""
        return type(q)(**{name: self.draw(name, d) for name, d in q._asdict().items()})


def losses(pair: Both, kl_weight: float = 1.0, adata: AnnData | None = None) -> tuple[Numbers, Numbers]:
    """The numbers of both, ours first, for all cells or other ones."""
    mine, others = minibatch(pair, adata)
    with _no_float32():
        return (
            pair.of.ours_says(pair.ours.module, mine, Noise(), kl_weight),
            pair.of.theirs_says(pair.theirs.module, others, Noise(), kl_weight),
        )


def minibatch(pair: Both, adata: AnnData | None = None) -> tuple[Any, Any]:
    """All cells, or other ones, as either model reads them."""
    n = (pair.ours.adata if adata is None else adata).n_obs
    mine = next(pair.ours.batches(adata, batch_size=n)).to(torch.float64)
    mine.x = Counts(mine.x.crow, mine.x.col, mine.x.val, mine.x.n_vars)  # what was summed in float32 is made again
    return mine, pair.of.tensors(pair.theirs, adata, n)


@contextmanager
def _no_float32() -> Iterator[None]:
    """scvi-tools makes its one-hot codes with ``.float()``, which a model in float64 cannot multiply."""
    original, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.float = original  # type: ignore[method-assign]
