"""What a classifier of doublets reads of cells, and of sums of cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from scelbo.data.columns import Columns
from scelbo.data.doublets import Evidence, added, partners
from scelbo.nn.neighbours import Neighbours


class DoubletEvidence(nn.Module):
    r"""u of a cell or sum: the log-odds of sums among its neighbours, or :math:`(E[z \mid x], \log l - m_{b})`. Nothing here learns.

    Parameters
    ----------
    vae
        Whose ``inference`` gives q(z | x).
    n_latent, lanes
        Length of z; number of lanes.
    neighbours
        Which of the two is read.
    ratio, seed
        Sums for each cell; of the random pairs.
    """

    lane_depth: Tensor  # (lanes,) mean log library size

    def __init__(self, vae: nn.Module, n_latent: int, lanes: int, neighbours: bool, ratio: int, seed: Any):
        super().__init__()
        self.vae: Any = vae.requires_grad_(False)
        self.neighbours = Neighbours() if neighbours else None
        self.n_inputs = n_latent + 1 if self.neighbours is None else self.neighbours.n_out
        self.ratio, self.seed = ratio, seed
        self.register_buffer("lane_depth", torch.zeros(lanes))

    def train(self, mode: bool = True) -> DoubletEvidence:
        super().train(mode)
        self.vae.eval()
        return self

    def observe(self, data: Columns) -> None:
        """Take the lanes' depths from the data, and the reference of neighbours."""
        log_size, lane = data["x"].size[:, 0].log(), data["batch"]
        means = torch.stack([log_size[lane == b].mean() for b in range(len(self.lane_depth))])
        self.lane_depth.copy_(means.nan_to_num(float(log_size.mean())))
        if self.neighbours is not None:
            with torch.no_grad():
                self.neighbours.observe(data, self, self.ratio, self.seed)

    def latent(self, cells: Any) -> Float[Tensor, "cells latents"]:
        """E[z | x]."""
        return self.vae.inference(cells).z.mean

    def depth(self, cells: Any) -> Float[Tensor, "cells 1"]:
        """Log library size about the lane's mean."""  # far from 0 batch norm's running mean would lag, and training stop too early
        return cells.x.size.log() - self.lane_depth[cells.batch][:, None]

    def inputs(self, cells: Any) -> Float[Tensor, "cells inputs"]:
        """u of a minibatch of cells, or sums."""
        if self.neighbours is not None:
            return self.neighbours(cells, self)
        return torch.cat([self.latent(cells), self.depth(cells)], 1)

    @torch.no_grad()
    def evidence(self, data: Columns, sums: bool) -> Columns:
        """u of every cell, and if asked of its sums with random others (not those in the reference)."""
        rows, lane = np.arange(len(data)), data["batch"].numpy()
        others = partners(lane, self.ratio if sums else 0, np.random.default_rng([self.seed, 1]))
        table = [torch.cat([self.inputs(c.to(self.lane_depth.device)) for c in added(data, rows, other)]) for other in (None, *others.T)]
        return Columns(Evidence, {"inputs": torch.stack(table, 1).cpu(), "batch": data["batch"]}, len(data))
