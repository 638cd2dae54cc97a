"""What holds for the whole session: the seed, how much is said, and to whom. No global random state is ever touched."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from scelbo.errors import of_kind

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
"""torch asks Linux for large pages, at 2 MB and above: a gradient of 150 MB then takes 25 ms to allocate, not 100."""

seed: int | None = 0
"""Seed of whatever draws random numbers and is not given one; ``None`` draws a fresh one each time."""

progress: bool = True
"""Whether long work shows a progress bar."""

compiled: bool = os.environ.get("SCELBO_COMPILED", "1") != "0"
"""Whether loops that numba compiled (on a GPU, Triton), and oneDNN's products, do what they can of the work; else torch does it all."""

record_steps: bool = os.environ.get("SCELBO_RECORD_STEPS", "0") != "0"
"""Whether training on a GPU records its steps as CUDA graphs and plays them again (:mod:`scelbo.train.graphs`)."""

on_event: Callable[[dict[str, Any]], None] | None = None
"""Where progress goes instead of a bar on the terminal (R sets this); Python then prints nothing."""


def fresh_seed(given: int | None = None) -> int:
    """``given``, else the session's seed, else a new one from the operating system."""
    if given is not None:
        of_kind("seed", given, int)
    chosen = seed if given is None else given
    return int(np.random.SeedSequence().entropy % 2**31) if chosen is None else int(chosen)  # type: ignore[operator]


@contextlib.contextmanager
def private_seed(given: int | None = None) -> Iterator[np.random.Generator]:
    """Inside, torch draws from ``given``; outside, the caller's random state is as it was. Yields numpy's twin."""
    chosen = fresh_seed(given)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
        torch.manual_seed(chosen)
        yield np.random.default_rng(chosen)


class Task:
    """One piece of long work: a bar on the terminal, or events to ``settings.on_event``, or silence.

    >>> from scelbo import settings
    >>> with settings.task("Decoding", 2, show=False) as work:
    ...     work.step()
    ...     work.step(loss=1.0)
    """

    def __init__(self, name: str, total: int, show: bool | None = None):
        self.name, self.total, self.done, self.reason = name, total, 0, "done"
        self.sink = on_event if show is not False else None
        self.bar: Any = None
        if self.sink is None and (progress if show is None else show):
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, desc=name, leave=False, mininterval=0.2)

    def _say(self, event: str, **more: Any) -> None:
        if self.sink is not None:
            self.sink({"event": event, "task": self.name, "done": self.done, "total": self.total, **more})

    def step(self, n: int = 1, **metrics: float) -> None:
        """``n`` more units are done; ``metrics`` are shown beside the bar."""
        self.done += n
        self._say("step", metrics=metrics)
        if self.bar is not None:
            self.bar.set_postfix({k: f"{v:.4g}" for k, v in metrics.items()}, refresh=False)
            self.bar.update(n)

    def __enter__(self) -> Task:
        self._say("start")
        return self

    def __exit__(self, *error: object) -> None:
        self._say("end", reason="error" if error[0] else self.reason)
        if self.bar is not None:
            self.bar.close()


task = Task


def say(text: str) -> None:
    """One line for the user: an event under R, a print in Python, nothing when ``progress`` is off."""
    if on_event is not None:
        on_event({"event": "message", "text": text})
    elif progress:
        print(text)


def first_process() -> bool:
    """Whether this is the process that writes, of those that train one model together."""
    return not (torch.distributed.is_available() and torch.distributed.is_initialized()) or torch.distributed.get_rank() == 0


def write(text: str, error: bool = False) -> None:
    """One line for whoever called the program ``scelbo``."""
    print(text, file=sys.stderr if error else sys.stdout, flush=True)
