"""Posteriors to hold an encoder's against, where the decoder is known: long chains, each cell's best diagonal normal, draws by weight.

All of them see the model as :data:`LogJoint`: from latents z, (draws, cells, dimensions), to log p(x, z), (draws, cells).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal

LogJoint = Callable[[Tensor], Tensor]
CHAINS, WARM_UP, KEPT, LEAPS = 4, 100, 200, 8
ACCEPTED = 0.8
"""The share of proposals that a cell's step is tuned to."""


class Chains(NamedTuple):
    """Draws (draws, cells, dimensions), thinned and mixed over chains; and split R-hat of each cell's log p(x, z) and z, the worst."""

    draws: Tensor
    r_hat: Tensor


def slope(log_joint: LogJoint, z: Tensor) -> tuple[Tensor, Tensor]:
    """log p(x, z) and its gradient in z."""
    z = z.detach().requires_grad_(True)
    value = log_joint(z)
    return value.detach(), torch.autograd.grad(value.sum(), z)[0]


def hamiltonian(log_joint: LogJoint, start: Normal, n_draws: int, kept: int = KEPT, warm_up: int = WARM_UP) -> Chains:
    """Hamiltonian Monte Carlo of every cell side by side, from draws of ``start``, whose scales are the masses."""
    scale, z = start.scale, start.sample((CHAINS,))
    log_step = torch.full(z.shape[:2], math.log(0.3))
    value, grad = slope(log_joint, z)
    seen, values = [], []
    for i in range(warm_up + kept):
        step = (log_step.exp() * torch.empty_like(log_step).uniform_(0.8, 1.2))[..., None]
        p = torch.randn_like(z)
        at, momentum, gradient, level = z, p, grad, value
        for _ in range(LEAPS):
            momentum = momentum + step / 2 * scale * gradient
            at = at + step * scale * momentum
            level, gradient = slope(log_joint, at)
            momentum = momentum + step / 2 * scale * gradient
        chance = (level - value - (momentum**2 - p**2).sum(-1) / 2).nan_to_num(-torch.inf).exp().clamp_max(1)
        taken = torch.rand_like(chance) < chance
        z, grad = torch.where(taken[..., None], at, z), torch.where(taken[..., None], gradient, grad)
        value = torch.where(taken, level, value)
        if i < warm_up:
            log_step = log_step + 2 / (10 + i) ** 0.6 * (chance - ACCEPTED)
        else:
            seen.append(z)
            values.append(value[..., None])
    whole = torch.cat([torch.stack(seen), torch.stack(values)], -1)  # kept, chains, cells, dimensions + 1
    pooled = torch.stack(seen).flatten(0, 1)
    order = torch.linspace(0, len(pooled) - 1, n_draws).round().long()
    return Chains(pooled[order], split_r_hat(whole).amax(-1))


def split_r_hat(values: Tensor) -> Tensor:
    """Of (draws, chains, ...): Gelman and Rubin's, each chain counted as two."""
    half = len(values) // 2
    parts = torch.cat([values[:half], values[half : 2 * half]], 1)
    within, between = parts.var(0).mean(0), parts.mean(0).var(0)
    return (1 + between / within.clamp_min(1e-12)).sqrt()


def best_normal(log_joint: LogJoint, start: Normal, steps: int = 300, draws: int = 8, lr: float = 0.02) -> Normal:
    """The diagonal normal with the highest ELBO for each cell by itself: what an encoder without error would give."""
    loc, log_scale = start.loc.clone().requires_grad_(True), start.scale.log().requires_grad_(True)
    optimizer = torch.optim.Adam([loc, log_scale], lr)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    mean = [torch.zeros_like(loc), torch.zeros_like(loc)]
    last = steps // 3
    for i in range(steps):
        noise = torch.randn(draws // 2, *loc.shape)
        z = loc + log_scale.exp() * torch.cat([noise, -noise])
        loss = -(log_joint(z).mean(0) + log_scale.sum(-1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
        if i >= steps - last:
            mean[0] += loc.detach() / last
            mean[1] += log_scale.detach() / last
    return Normal(mean[0], mean[1].exp())


@torch.no_grad()
def weighted(log_joint: LogJoint, q: Normal, n_draws: int, candidates: int = 1000, at_once: int = 20) -> tuple[Tensor, Tensor]:
    """Draws of q, chosen again by importance weight: (draws, cells, dimensions), and the effective share of the candidates, (cells,)."""
    z = q.sample((candidates,))
    log_w = torch.cat([log_joint(part) for part in z.split(at_once)]) - q.log_prob(z).sum(-1)
    w = log_w.double().softmax(0)
    chosen = torch.multinomial(w.T, n_draws, replacement=True).T
    return z.gather(0, chosen[..., None].expand(-1, -1, z.shape[-1])), 1 / (w**2).sum(0) / candidates
