"""Several processes that train one model, each on its part of every minibatch: what they share, and how the loss of one is told."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from scelbo import settings
from scelbo.errors import ArgumentError, BackendError
from scelbo.nn import BatchNorm

T = TypeVar("T")
CONNECTION = re.compile(r"gloo|nccl|c10d|connection|socket|process group|store", re.IGNORECASE)
"""Words of what torch says when another process does not answer."""


def several() -> bool:
    """Whether other processes train along."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gathered(value: T) -> list[T]:
    """Plain values of all processes, in their order; each must ask."""
    if not several():
        return [value]
    out: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(out, value)
    return out


class Summed(torch.autograd.Function):
    """The sum of a tensor over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.contiguous().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return Summed.apply(grad)


def leave() -> None:
    """What a process does before it ends: threads of gloo's that outlive Python's may abort it (PyTorch's pull request 179291)."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextlib.contextmanager
def sharing(module: nn.Module, rank: int, of: int, seed: int) -> Iterator[None]:
    """Inside, batch norms take the statistics of whole minibatches, and each process draws noise of its own."""
    if of > 1:
        atexit.unregister(leave)
        atexit.register(leave)
    norms = [part for part in module.modules() if isinstance(part, BatchNorm)] if of > 1 else []
    for norm in norms:
        norm.over = Summed.apply
    if rank:
        torch.manual_seed(noise_of(seed, rank))
    try:
        yield
    finally:
        for norm in norms:
            del norm.over


def noise_of(seed: int, *which: int) -> int:
    """A seed of its own for each process."""
    return int(np.random.SeedSequence([seed, *which]).generate_state(1)[0])


def require_agreement(what: dict[str, Any]) -> None:
    """Raise where processes are about to train different things."""
    for rank, theirs in enumerate(gathered(what)):
        for name, value in what.items():
            if theirs[name] != value:
                raise ArgumentError(
                    f"{name} is {theirs[name]!r} in process {rank}, and {value!r} in process {dist.get_rank()}.",
                    "All processes must run the same program on the same data and files: give folders that all machines see.",
                )


def seed_for_all(given: int | None, several_wanted: bool) -> int:
    """The seed of the training: with several processes one that all of them know."""
    if several_wanted and given is None and settings.seed is None:
        raise ArgumentError("Several processes need the same seed, and there is none.", "Give one: train(seed=0).")
    return settings.fresh_seed(given)


def require_alone() -> None:
    """Raise where torchrun started several processes, and each would train a whole model."""
    if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        here, all_of_them = os.environ.get("LOCAL_WORLD_SIZE", "1"), os.environ["WORLD_SIZE"]
        nodes = int(all_of_them) // int(here)
        raise ArgumentError(
            f"torchrun started {all_of_them} processes, and each would train a model of its own.",
            f"To train one together: devices={here}{f', num_nodes={nodes}' if nodes > 1 else ''}.",
        )


def require_launcher() -> None:
    """Raise where the processes cannot be started: they run the same program, and a session is none."""
    started = any(name in os.environ for name in ("LOCAL_RANK", "SLURM_PROCID"))
    if not started and (hasattr(sys, "ps1") or not os.path.isfile(sys.argv[0] if sys.argv else "")):
        raise ArgumentError(
            "Several processes each run a whole program, and this is a session without one.",
            "Write the training into a script: python script.py, or torchrun --nproc-per-node 2 script.py (docs/many_machines.md).",
        )


def require_as_many(wanted: int, started: int) -> None:
    """Raise where torchrun or SLURM started other processes than training asks for."""
    if wanted != started:
        raise ArgumentError(
            f"devices and num_nodes make {wanted} processes, and {started} were started.",
            "devices is how many each machine has (torchrun --nproc-per-node, srun --ntasks-per-node), num_nodes how many machines.",
        )


def of_ray() -> tuple[Any, Any]:
    """How the workers of Ray Train are joined: Lightning's strategy and environment, as Ray gives them."""
    try:
        from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment
    except ImportError as error:
        raise BackendError("strategy='ray' needs Ray Train.", "pip install 'scelbo[tune]'.") from error
    return RayDDPStrategy(find_unused_parameters=True), RayLightningEnvironment()


def lost(error: BaseException) -> bool:
    """Whether an error says that another process does not answer any more."""
    return several() and isinstance(error, RuntimeError) and bool(CONNECTION.search(f"{type(error).__name__} {error}"))
