"""A tissue whose cells have states within their types, known in cells and spots, and a reference of the cells."""

import numpy as np
from anndata import AnnData
from scipy import sparse

from scelbo import CondSCVI
from scelbo.data.simulate import spots


def with_states(seed=0):
    """Cells of 3 types, and spots; half of the cells of type1 have a program of 15 genes on, and so have those of the first 60 spots."""
    cells, tissue = spots(120, 400, 120, n_types=3, stored=0.5, seed=seed)
    rng, program = np.random.default_rng(seed), np.arange(15)
    on = (cells.obs["cell_type"] == "type1").to_numpy() & (np.arange(cells.n_obs) % 2 == 0)
    x = cells.X.toarray()
    x[np.ix_(on, program)] += rng.poisson(0.02 * x[on].sum(1, keepdims=True), (on.sum(), 15))
    y = tissue.X.toarray()
    amount = tissue.obsm["proportions"]["type1"].to_numpy() * y.sum(1) * (np.arange(120) < 60)
    y[:, program] += rng.poisson(0.02 * amount[:, None], (120, 15))
    obs = cells.obs.assign(on=on)
    tissue = AnnData(sparse.csr_matrix(y), obs=tissue.obs, var=tissue.var, obsm=dict(tissue.obsm))
    return AnnData(sparse.csr_matrix(x), obs=obs, var=cells.var), tissue


def taught(cells, **arguments):
    """A reference of their types."""
    CondSCVI.setup_anndata(cells, labels_key="cell_type")
    model = CondSCVI(cells, n_hidden=32, **arguments)
    model.train(100, seed=0, plan_kwargs={"lr": 5e-3}, progress=False)
    return model
