"""Training steps that a GPU goes through by itself: recorded once as a CUDA graph, then played again on each minibatch.

A step of these models is a hundred and more small operations, and to start one takes a processor longer than a GPU to do it. What is
recorded is the whole step, from the loss to the optimiser's. It works on one minibatch's memory, which the next is copied into; so shapes
must stay, and nobody may look at a number on the way. A first step in which that is tried says whether a model keeps to this; one that
does not is trained as anywhere else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from scelbo.data import Batch
from scelbo.data.dense import SparseNeededError, copied, dense, tensors
from scelbo.module import Loss
from scelbo.train.epochs import EpochPlan
from scelbo.train.plan import Sums

WAITS = "called a synchronizing CUDA operation"


class Recorded:
    """A step as it was recorded, with the memory that it works on."""

    def __init__(self, plan: GraphPlan, cells: Batch):
        self.cells, self.graph, self.played = copied(cells), torch.cuda.CUDAGraph(), 0
        self.memory, sums = tensors(self.cells), Sums(plan.n_cells)
        plan.optimizer.zero_grad()
        with torch.cuda.graph(self.graph, pool=plan.pool, capture_error_mode="thread_local"):
            self.loss = plan.moved(self.cells, sums)
            self.found = torch.stack([value.double() for value in (*sums.parts.values(), *sums.seen.values())])
        self.parts, self.seen, self.totals = list(sums.parts), list(sums.seen), torch.zeros_like(self.found)

    def play(self, cells: Batch) -> Tensor:
        """Do the step of these cells; their loss."""
        torch._foreach_copy_(self.memory, tensors(cells))
        self.graph.replay()
        self.totals += self.found
        self.played += 1
        return self.loss.clone()

    def give(self, sums: Sums) -> None:
        """Add what was found since the last time."""
        totals = iter(self.totals.clone())
        for names, of in ((self.parts, sums.parts), (self.seen, sums.seen)):
            of.update({name: of.get(name, 0) + next(totals) for name in names})
        sums.cells += self.played * len(self.cells)
        self.played = 0
        self.totals.zero_()


class GraphPlan(EpochPlan):
    """The plan, with recorded steps."""

    capturable = True

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.recorded: dict[Any, Recorded] = {}
        self.seen_once: set[Any] = set()
        self.still, self.rates = True, list[float]()

    def total(self, loss: Loss) -> Tensor:
        """What a minibatch costs: by a weight that is read when a step is played, not noted when it is recorded."""
        return loss.total(self.weight_there, self.n_cells, self.options.weights(self.weight_there))

    # ------------------------------------------------------------------ training
    def on_train_start(self) -> None:
        self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
        self.weight_there = torch.zeros((), device=self.device)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.weight_there.fill_(self.weight)
        rates = [group["lr"] for group in self.optimizer.param_groups]
        if rates != self.rates:  # they are a part of what was recorded
            self.recorded, self.rates = {}, rates

    def step(self, cells: Batch) -> None:
        if self.options.n_steps_kl_warmup:
            self.weight = self.kl_weight
            self.weight_there.fill_(self.weight)
        self.sums.losses.append((self.one(cells), cells.index))

    def one(self, cells: Batch) -> Tensor:
        """A step; its loss."""
        if self.still:
            whole = dense(cells)
            shapes = (whole.spans, *(part.shape for part in tensors(whole)))
            if shapes in self.seen_once and shapes not in self.recorded:
                self.recorded[shapes] = Recorded(self, whole)
            if shapes in self.recorded:
                return self.recorded[shapes].play(whole)
            self.seen_once.add(shapes)
            try:
                return self.tried(whole)
            except (SparseNeededError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and WAITS not in str(error):
                    raise
                self.still = False
        self.optimizer.zero_grad()
        return self.moved(cells, self.sums)

    def tried(self, cells: Batch) -> Tensor:
        """A step beside the others, as recording asks for, in which nothing may wait."""
        before = torch.cuda.get_sync_debug_mode()
        self.optimizer.zero_grad()
        self.stream.wait_stream(torch.cuda.current_stream())
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.cuda.stream(self.stream):
                return self.moved(cells, self.sums)
        finally:
            torch.cuda.set_sync_debug_mode(before)
            torch.cuda.current_stream().wait_stream(self.stream)

    def moved(self, cells: Batch, sums: Sums) -> Tensor:
        """The loss, after the optimiser's step."""
        loss = self.module(cells)
        total = self.total(loss)
        sums.add(loss, total, cells)
        total.backward()
        self.optimizer.step()
        return total.detach()

    def note_training(self) -> dict[str, float]:
        for recorded in self.recorded.values():
            recorded.give(self.sums)
        return super().note_training()

    def on_train_end(self) -> None:
        self.recorded = {}
