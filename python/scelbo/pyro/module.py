r"""Models written as a Pyro model and guide, which are set up, trained, saved and asked like any other (extra ``pyro``).

.. math:: \mathrm{ELBO} = E_q\big[\log p(x, z_n, w)\big] - E_q\big[\log q(z_n, w)\big]
    = \sum_n E_q[\log p(x_n \mid z_n, w)] - \sum_n KL(q(z_n) \,\|\, p(z_n \mid w)) - KL(q(w) \,\|\, p(w))

with latents z of the cells and w that all share: each site of the pair is one named part of the :class:`~scelbo.module.Loss`. KLs are
exact where they have a closed form, else log q - log p at the draw (Bingham et al., J. Mach. Learn. Res. 20:28, 2019).
"""

from __future__ import annotations

import contextlib
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from scelbo.data import Batch, Columns
from scelbo.errors import ArgumentError
from scelbo.module import VAE, Loss
from scelbo.pyro.sites import CELLS, FreeNormals, Kind, Site, divergence, drawn, found, kinds


class PyroModule(VAE):
    """A Pyro pair: write ``model(cells)``; what ``encode`` does not give a q, the guide gives a free normal.

    The model puts what each cell has inside ``with self.plate(cells)``, and what all share outside. A latent in the plate without an
    encoder has parameters for each cell of the data set (then the model can only be asked of these). Any other guide may be written
    instead, as ``guide(cells)``. ``names`` may say what the numbers of a site of the cells are called: site -> names.

    Examples
    --------
    A Poisson model of the rate of each gene, of which the posterior is a Gamma:

    >>> import pyro, torch
    >>> import pyro.distributions as dist
    >>> from scelbo.data.simulate import counts
    >>> from scelbo.pyro import PyroModel, PyroModule
    >>> class Rates(PyroModule):
    ...     def model(self, cells):
    ...         rate = pyro.sample("rate", dist.Gamma(torch.ones(cells.x.n_vars), 1.0).to_event(1))
    ...         with self.plate(cells):
    ...             pyro.sample("x", dist.Poisson(rate).to_event(1), obs=cells.x.dense())
    >>> class RateModel(PyroModel):
    ...     def build(self, setup):
    ...         return Rates()
    >>> adata = counts(100, 20)
    >>> RateModel.setup_anndata(adata)
    >>> model = RateModel(adata)
    >>> model.train(max_epochs=2, progress=False)
    >>> sorted(model.sample_posterior(n_samples=100)["rate"])
    ['mean', 'q05', 'q50', 'q95', 'sd']
    """

    n_cells: Tensor  # of the data set

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n_cells", torch.tensor(0))
        self.free = FreeNormals()
        self.names: dict[str, Sequence[str]] = {}
        self._sites: dict[str, Site] | None = None
        self._kinds: dict[str, Kind] | None = None
        self._plate: tuple[Tensor, Any] | None = None

    # ------------------------------------------------------------------ what a subclass says
    def model(self, cells: Any) -> Any:
        """p: draws of the latents with ``pyro.sample``, and the data with ``obs=`` or :func:`explains`."""
        raise TypeError(f"{type(self).__name__} must say its model(cells)")

    def encode(self, cells: Any) -> dict[str, Any]:
        """Latent of the cells -> q(latent | its data): amortised, by a network."""
        return {}

    def plate(self, cells: Batch) -> Any:
        """The plate over cells, of which these are a minibatch (scaled to the data set): the same one wherever it is asked for."""
        if self._plate is None or self._plate[0] is not cells.index:
            self._plate = cells.index, pyro.plate(CELLS, max(int(self.n_cells), len(cells)), subsample=cells.index, dim=-1)
        return self._plate[1]

    def guide(self, cells: Any) -> None:
        """q: what ``encode`` says, and free normals, on the reals or mapped to the latent's support."""
        sites = self.sites(cells)
        frames = {frame.name: frame for site in sites.values() for frame in site.frames}
        plates = {name: self.plate(cells) if name == CELLS else pyro.plate(name, f.size, dim=f.dim) for name, f in frames.items()}
        for name, q in self.q(cells).items():
            with contextlib.ExitStack() as inside:
                for frame in sites[name].frames:
                    inside.enter_context(plates[frame.name])
                pyro.sample(name, q)

    # ------------------------------------------------------------------ q
    def sites(self, cells: Any) -> dict[str, Site]:
        """The model's latents, in its order."""
        if self._sites is None:
            self._sites = found(self.model, cells)
        return self._sites

    def q(self, cells: Any) -> dict[str, Any]:
        """Latent -> its q, in the model's order."""
        encoded = self.encode(cells)
        whole = lambda q, site: dist.Independent(q, max(0, site.event_dim - len(q.event_shape)))  # noqa: E731
        return {
            name: whole(encoded[name] if name in encoded else self.free(name, site, cells), site)
            for name, site in self.sites(cells).items()
        }

    def own(self, cells: Any) -> list[str]:
        """Latents with free parameters for each cell of the data set."""
        return [name for name, site in self.sites(cells).items() if name in self.free and site.own is not None]

    def observe(self, data: Columns) -> None:
        """Note how many cells there are, and start each free normal at its prior's median."""
        self.n_cells.fill_(len(data))
        first = data.take(np.arange(min(len(data), 64)))
        sites, encoded = self.sites(first), self.encode(first)
        for name, site in sites.items() if type(self).guide is PyroModule.guide else ():
            if name not in encoded:
                self.free.start(name, site, len(data))

    def inference(self, cells: Any) -> Any:
        """The q's of all latents by name, for questions: batch dimensions only."""
        q = {name: d.base_dist for name, d in self.q(cells).items()}
        return namedtuple("Latents", q)(**q)

    # ------------------------------------------------------------------ the ELBO
    def forward(self, cells: Batch) -> Loss:
        with pyro.validation_enabled(False):
            guide = poutine.trace(self.guide).get_trace(cells)
            model = poutine.trace(poutine.replay(self.model, trace=guide)).get_trace(cells)
            return self._parts(model, guide)

    def _parts(self, model: Any, guide: Any) -> Loss:
        orders = [[name for name in drawn(trace) if name in other] for trace, other in ((model, guide), (guide, model))]
        exact = orders[0] == orders[1]  # else a closed form would hold fixed what is drawn later
        loss = Loss({})
        for name, site in model.nodes.items():
            if site["type"] != "sample" or site_is_subsample(site) or site["infer"].get("_deterministic"):
                continue
            if site["is_observed"]:
                self._add(loss.nll, loss.kl_global, name, site, -site["fn"].log_prob(site["value"]))
            elif name not in guide:
                raise ArgumentError(f"The guide has no q for the latent {name!r}.", "Sample it in guide(cells), or leave guide() out.")
            else:
                self._add(loss.kl, loss.kl_global, name, site, divergence(guide.nodes[name]["fn"], site, exact))
        for name, site in guide.nodes.items():
            if site["type"] == "sample" and site["infer"].get("is_auxiliary"):  # of Pyro's own guides
                self._add(loss.kl, loss.kl_global, name, site, site["fn"].log_prob(site["value"]))
        return loss

    def _add(self, of_cells: dict[str, Tensor], of_all: dict[str, Tensor], name: str, site: Any, value: Tensor) -> None:
        """A site's term, (cells,) if it is in their plate, else one number; the plan does what the plate's scale is for."""
        plate = next((f for f in site["cond_indep_stack"] if f.name == CELLS), None)
        scale = site["scale"] if plate is None else site["scale"] * plate.size / plate.full_size
        value = scale_and_mask(value, scale=scale, mask=site["mask"])
        if plate is None:
            of_all[name] = value.sum()
        else:
            of_cells[name] = value.movedim(plate.dim, -1).reshape(-1, plate.size).sum(0)

    # ------------------------------------------------------------------ draws
    @torch.no_grad()
    def draws(self, cells: Any, sites: list[str], n: int, shared: dict[str, Tensor]) -> dict[str, Tensor]:
        """``n`` posterior draws of these sites, each (n, ...): latents, deterministic ones, or new data in place of observed ones.

        ``shared`` keeps the draws of what all cells have in common, so that those of other minibatches go with them.
        """
        with pyro.validation_enabled(False):
            told = self._drawn(cells, n, shared)
            shared.update({name: value for name, value in told.items() if self.sites(cells)[name].own is None})
            for run, asked in ((self.model, "deterministic"), (poutine.uncondition(self.model), "observed")):
                rest = [name for name in sites if name not in told and self.kinds(cells)[name].drawn == asked]
                told |= _each(run, cells, n, told, rest) if rest else {}
        return {name: told[name] for name in sites}

    def _drawn(self, cells: Any, n: int, shared: dict[str, Tensor]) -> dict[str, Tensor]:
        if type(self).guide is PyroModule.guide:  # every q is there before anything is drawn: all at once
            return {name: shared[name] if name in shared else q.sample((n,)) for name, q in self.q(cells).items()}
        return _each(self.guide, cells, n, shared, list(self.sites(cells)))

    def kinds(self, cells: Any) -> dict[str, Kind]:
        """Every site of the model."""
        if self._kinds is None:
            self._kinds = kinds(self.model, cells)
        return self._kinds


def _each(run: Any, cells: Any, n: int, known: dict[str, Tensor], wanted: list[str]) -> dict[str, Tensor]:
    """Values of the wanted sites, (n, ...), in ``n`` runs with what is known of each."""
    given = [{name: value[i] for name, value in known.items()} for i in range(n)]
    traces = [poutine.trace(poutine.condition(run, data=data)).get_trace(cells) for data in given]
    return {name: torch.stack([trace.nodes[name]["value"] for trace in traces]) for name in wanted}
