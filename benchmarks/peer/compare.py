"""How numbers are compared, and the topics that every model has: the same weights, a weight changed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from peer.twins import Both, Twins, both, losses

TOLERANCE = 1e-5
KL_WEIGHT = 0.7
SINGLE = 0.1
"""Of :func:`difference`: the ``share`` for numbers in float32, which have 7 digits."""


class Topic(NamedTuple):
    """What is printed, and what is wrong."""

    text: str
    failed: list[str]


def markdown(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table below its title."""
    lines = [f"| {' | '.join(row)} |".replace("|  |", "| |").replace("|  |", "| |") for row in (head, *rows)]
    return "\n".join([f"{title}\n", lines[0], "|" + "---|" * len(head), *lines[1:]])


def worst(title: str, kind: str, found: Iterable[tuple[str, dict[str, float]]]) -> Topic:
    """Of (what was compared, quantity -> difference): the largest difference of each quantity, and all that are above the tolerance."""
    largest, failed = defaultdict(float), []
    for what, differences in found:
        for name, value in differences.items():
            largest[name] = max(largest[name], value)
            if not value <= TOLERANCE:
                failed.append(f"{name} differs by {value:.1e}: {what}")
    return Topic(markdown(title, (kind, "largest relative difference"), ((n, f"{v:.1e}") for n, v in largest.items())), failed)


def difference(ours: Any, theirs: Any, share: float = 1e-3, floor: float = 1e-300) -> float:
    """Largest relative difference, element by element; what is below ``share`` of the largest value is held against that share.

    ``floor`` is for tensors that are nothing but rounding (the gradient of a bias that a batch norm takes out again).
    """
    ours, theirs = torch.as_tensor(ours).detach().double(), torch.as_tensor(theirs).detach().double()
    if ours.shape != theirs.shape:
        return float("inf")
    scale = theirs.abs().clamp_min(share * float(theirs.abs().max()))
    worst = float(((ours - theirs).abs() / scale.clamp_min(floor)).max())
    return worst if np.isfinite(worst) else float("inf")


def compare(pair: Both) -> dict[str, float]:
    """Quantity -> largest difference: as the models stand, and of the gradients that training would follow."""
    ours, theirs = losses(pair, KL_WEIGHT)
    found = {name: difference(ours[name], theirs[name]) for name in {**ours, **theirs}}
    found |= {name: difference(*values) for name, values in pair.taken.items()}
    for name in [name for name in ours if name.startswith("loss")]:
        slopes = gradients(pair, name).values()
        steepest = max(float(theirs.abs().max()) for _, theirs in slopes)
        found[name.replace("loss", "gradients", 1)] = max(difference(*g, share=0.1, floor=1e-6 * steepest) for g in slopes)
    return found


def gradients(pair: Both, of: str = "loss", training: bool = True) -> dict[str, tuple[Tensor, Tensor]]:
    """A loss's gradient in every parameter, ours and the peer's: as training would have it, or as the models stand."""
    modules = (pair.ours.module, pair.theirs.module)
    for module in modules:
        module.zero_grad()
    with as_in_training(*modules) if training else nullcontext():
        for values in losses(pair, KL_WEIGHT):
            values[of].backward()
    return {p.name: (p.ours.grad, p.view(p.theirs.grad)) for p in pair.pairs if p.ours.grad is not None}


@contextmanager
def as_in_training(*modules: nn.Module) -> Iterator[None]:
    """Batch statistics, but no dropout, and the running statistics stay as they are."""
    parts = [part for module in modules for part in module.modules()]
    momenta = {part: part.momentum for part in parts if isinstance(part, nn.BatchNorm1d)}
    for module in modules:
        module.train()
    for part in parts:
        if isinstance(part, nn.Dropout):
            part.eval()
        elif part in momenta:
            part.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
        for module in modules:
            module.eval()


def answers(pair: Both) -> dict[str, float]:
    """Question that users ask -> largest difference of the answers, which both give in float32."""
    pair.to(torch.float32)
    return {name: difference(*values, share=SINGLE) for name, values in pair.of.questions(pair).items()}


def same_weights(twins: Twins) -> Topic:
    """All cases of a model."""

    def found() -> Iterator[tuple[str, dict[str, float]]]:
        adata = twins.cells()
        for keys, hyper in twins.cases:
            pair = both(twins, adata, keys, **hyper)
            yield f"{twins.name}, {hyper}, {keys}", {**compare(pair), **answers(pair)}

    title = f"{twins.name}: {len(twins.cases)} models, the same weights, float64 (what get_...() answers: float32)"
    return worst(title, "quantity", found())


def one_weight_changed(twins: Twins) -> Topic:
    """Change one number of each parameter in turn, where the loss feels it most: the comparison has to notice."""
    keys, hyper = twins.richest
    pair = both(twins, twins.cells(), keys, **hyper)
    missed = []
    parameters = {p.name: p.ours.data.view(-1) for p in pair.pairs}
    for name, (slope, _) in gradients(pair, training=False).items():
        flat = parameters[name]
        at = int(slope.abs().argmax())
        before = float(flat[at])
        flat[at] += 0.01
        if max(compare(pair).values()) <= TOLERANCE:
            missed.append(name)
        flat[at] = before
    if max(compare(pair).values()) > TOLERANCE:
        missed.append("any parameter: the models differ with no weight changed")
    seen = f"NOT noticed in {', '.join(missed)}" if missed else "noticed, in every parameter of the model"
    text = f"{twins.name}, one weight changed by 0.01: {seen}"
    return Topic(text, [text] if missed else [])
