"""The networks that models are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Normal

from scelbo.data import Batch, Input
from scelbo.nn.conditional import ConditionalLinear, PerCategory, affine

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {name: getattr(F, name) for name in ("relu", "leaky_relu", "elu", "gelu", "silu")}


Where = Literal["encoder", "decoder", "none", "both"]


def norms_of(model: Any) -> dict[str, dict[str, Any]]:
    """Side -> arguments of :class:`MLP`, of a model's ``use_batch_norm`` and ``use_layer_norm`` (each a :data:`Where`)."""
    stands = lambda where, side: where in (side, "both")  # noqa: E731
    return {
        side: {"batch_norm": stands(model.use_batch_norm, side), "layer_norm": stands(model.use_layer_norm, side)}
        for side in ("encoder", "decoder")
    }


class BatchNorm(nn.BatchNorm1d):
    """Batch norm that can be frozen: then it uses, and keeps, the statistics it came with, while the rest trains.

    Where several processes share a minibatch (:mod:`scelbo.train.processes`), its statistics are those of the whole.
    """

    frozen = False
    over: Callable[[Tensor], Tensor] | None = None
    """Sums a tensor over these processes, with its gradient; None where this one has the whole minibatch."""

    def train(self, mode: bool = True) -> BatchNorm:
        return super().train(mode and not self.frozen)

    def total(self, x: Tensor) -> Tensor:
        """The sum over all processes."""
        return x if self.over is None else self.over(x)

    def rows(self, y: Tensor) -> int:
        """Of the whole minibatch."""
        return len(y) if self.over is None else int(self.total(torch.tensor(float(len(y)), device=y.device)))

    def mean_of(self, y: Float[Tensor, "cells n"]) -> Float[Tensor, " n"]:
        """Over the whole minibatch."""
        return y.mean(0) if self.over is None else self.over(y.sum(0)) / self.rows(y)

    @torch.no_grad()
    def note(self, running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, rows: int) -> None:
        """Keep the statistics of a minibatch for later."""
        rate = self.momentum or 0.0
        running_mean.lerp_(mean, rate)
        running_var.lerp_(var * (rows / max(1, rows - 1)), rate)

    def normed(self, y: Float[Tensor, "cells n"], running_mean: Tensor, running_var: Tensor) -> Float[Tensor, "cells n"]:
        """The cells by the statistics of the whole minibatch in training, else by those that were kept."""
        if self.over is None or not self.training:
            return F.batch_norm(y, running_mean, running_var, self.weight, self.bias, self.training, self.momentum or 0.0, self.eps)
        rows, mean = self.rows(y), self.mean_of(y)
        var = self.total((y - mean).square().sum(0)) / rows
        self.note(running_mean, running_var, mean, var, rows)
        out = (y - mean) * (var + self.eps).rsqrt()
        return out if self.weight is None else out * self.weight + self.bias

    def forward(self, y: Tensor) -> Tensor:
        if self.over is None or not self.training:
            return super().forward(y)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        return self.normed(y, self.running_mean, self.running_var)


class MLP(nn.Module):
    """``n_layers`` of conditional linear -> batch norm -> layer norm -> activation -> dropout.

    Categories enter every layer (``deep``) or the first only; continuous covariates enter the first.

    Parameters
    ----------
    n_in, n_hidden, n_layers
        Sizes.
    categories
        Covariate -> number of categories.
    n_continuous
        Width of the continuous covariates.
    dropout
        Share of hidden units dropped.
    batch_norm, layer_norm
        Which norms stand in each layer.
    deep
        Whether categories enter every layer.
    activation
        Name of the activation.
    """

    def __init__(
        self,
        n_in: int,
        n_hidden: int,
        n_layers: int,
        *,
        categories: Mapping[str, int] | None = None,
        n_continuous: int = 0,
        dropout: float = 0.0,
        batch_norm: bool = True,
        layer_norm: bool = False,
        deep: bool = True,
        activation: Activation = "relu",
    ):
        super().__init__()
        self.linear = nn.ModuleList(
            ConditionalLinear(n_in if i == 0 else n_hidden, n_hidden, categories if deep or i == 0 else None, n_continuous if i == 0 else 0)
            for i in range(n_layers)
        )
        norm = lambda: nn.Sequential(  # noqa: E731
            BatchNorm(n_hidden, momentum=0.01, eps=0.001) if batch_norm else nn.Identity(),
            nn.LayerNorm(n_hidden, elementwise_affine=False) if layer_norm else nn.Identity(),
        )
        self.norm = nn.ModuleList(norm() for _ in range(n_layers))
        self.dropout, self.activation = nn.Dropout(dropout), ACTIVATIONS[activation]

    def forward(self, h: Input, cells: Batch | None = None, t: Tensor | None = None) -> Float[Tensor, "*s cells n_hidden"]:
        for linear, norm in zip(self.linear, self.norm, strict=True):
            y: Tensor = linear(h, cells, t)
            y = norm(y.flatten(0, -2)).view_as(y)  # sample axes are just more rows
            h = self.dropout(self.activation(y))
        assert isinstance(h, Tensor)
        return h


class NormalisedLinear(MLP):
    r"""A linear layer and its batch norm, in one product.

    .. math:: \gamma \frac{y - E y}{\sqrt{\mathrm{Var}\,y + \epsilon}} + \beta, \qquad y = W h + \sum_k V_k[c_k] + U t + b

    With all that is read in u (h, one-hot c, t) and all weights in A, output g has over a minibatch the mean :math:`a_g^T \bar u + b_g`
    and the variance :math:`a_g^T \mathrm{Cov}(u)\, a_g`. So its statistics cost no pass over (cells, outputs), and the norm is folded into
    the weights.
    """

    def __init__(
        self, n_in: int, n_out: int, *,
        categories: Mapping[str, int] | None = None, n_continuous: int = 0, batch_norm: bool = True, bias: bool = True,
    ):  # fmt: skip
        super().__init__(n_in, n_out, 1, categories=categories, n_continuous=n_continuous, batch_norm=batch_norm)
        if not bias:
            self.linear[0].bias = None  # type: ignore[assignment]

    @property
    def layer(self) -> ConditionalLinear:
        """The linear layer."""
        return self.linear[0]  # type: ignore[return-value]

    @property
    def tables(self) -> list[PerCategory]:
        """What categories add; that of one category is zero."""
        return [shift for shift in self.layer.shifts if len(shift.rows()) > 1]  # type: ignore[operator,misc]

    def forward(self, h: Tensor, cells: Batch, t: Tensor | None = None) -> Float[Tensor, "*s cells n_out"]:  # type: ignore[override]
        layer, norm, tables = self.layer, self.norm[0][0], self.tables  # type: ignore[index]
        if not isinstance(norm, BatchNorm):
            return layer(h, cells, t)
        scale, offset = self._of_minibatch(norm, h, cells, t) if norm.training else self.folded()
        y = affine(h.flatten(0, -2), layer.weight * scale, offset).view(*h.shape[:-1], -1)
        for shift in tables:
            y = y + shift(cells, scale)
        return y if layer.slope is None or t is None else y + t @ (layer.slope * scale)

    def folded(self) -> tuple[Float[Tensor, " n_out"], Float[Tensor, " n_out"]]:
        """What multiplies the weights, and what is then added, by the statistics that training has kept."""
        norm, bias = self.norm[0][0], self.layer.bias  # type: ignore[index]
        if not isinstance(norm, BatchNorm):
            one = torch.ones_like(self.layer.weight[0])
            return one, torch.zeros_like(one) if bias is None else bias
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        return scale, norm.bias - (norm.running_mean if bias is None else norm.running_mean - bias) * scale

    def _of_minibatch(self, norm: BatchNorm, h: Tensor, cells: Batch, t: Tensor | None) -> tuple[Tensor, Tensor]:
        """As :meth:`folded`, by the statistics of these cells, which are noted in the norm."""
        layer = self.layer
        read: list[Tensor] = [h]
        weights: list[Tensor] = [layer.weight]
        for shift in self.tables:
            weights.append(shift.rows())
            read.append(F.one_hot(cells.codes(shift.covariate), len(weights[-1])).to(h.dtype))
        if layer.slope is not None and t is not None:
            read.append(t)
            weights.append(layer.slope)
        u = torch.cat([r.expand(*h.shape[:-1], -1) for r in read], -1).flatten(0, -2)
        middle, a, rows = norm.mean_of(u), torch.cat(weights), norm.rows(u)
        u = u - middle
        mean, var = middle @ a, ((norm.total(u.T @ u) @ a) * a).sum(0) / rows
        assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
        norm.num_batches_tracked += 1
        norm.note(norm.running_mean, norm.running_var, mean if layer.bias is None else mean + layer.bias, var, rows)
        scale = norm.weight * (var.clamp_min(0) + norm.eps).rsqrt()
        return scale, norm.bias - mean * scale


class Encoder(nn.Module):
    """What reads data: h = MLP(x)."""

    body: MLP


class PointEncoder(Encoder):
    """A value for each cell, :math:`W h + b` with h = MLP(x)."""

    def __init__(self, n_in: int, n_out: int, n_hidden: int, n_layers: int, **mlp: object):
        super().__init__()
        self.body = MLP(n_in, n_hidden, n_layers, **mlp)  # type: ignore[arg-type]
        self.value = nn.Linear(n_hidden, n_out)

    def forward(self, x: Input, cells: Batch | None = None, t: Tensor | None = None) -> Float[Tensor, "cells n_out"]:
        return self.value(self.body(x, cells, t))


class GaussianMLP(nn.Module):
    r""":math:`N(m(h), v(h) + \text{floor})` with h = MLP(x): the distribution, never a draw from it."""

    def __init__(
        self, n_in: int, n_latent: int, n_hidden: int, n_layers: int, *,
        var_activation: Literal["exp", "softplus"] = "exp", floor: float = 1e-4, **mlp: object,
    ):  # fmt: skip
        super().__init__()
        self.body = MLP(n_in, n_hidden, n_layers, **mlp)  # type: ignore[arg-type]
        self.mean, self.var = nn.Linear(n_hidden, n_latent), nn.Linear(n_hidden, n_latent)
        self.positive, self.floor = torch.exp if var_activation == "exp" else F.softplus, floor

    def forward(self, x: Input, cells: Batch | None = None, t: Tensor | None = None) -> Normal:
        h = self.body(x, cells, t)
        return Normal(self.mean(h), (self.positive(self.var(h)) + self.floor).sqrt(), validate_args=False)


class GaussianEncoder(GaussianMLP, Encoder):
    r"""A :class:`GaussianMLP` that reads data: :math:`q(z \mid x)`."""


class Classifier(nn.Module):
    """Logits of q(c | z): a linear map of z, or of an MLP of it."""

    def __init__(self, n_in: int, n_labels: int, n_hidden: int, n_layers: int, **mlp: Any):
        super().__init__()
        self.body = MLP(n_in, n_hidden, n_layers, **mlp) if n_layers else None
        self.logits = nn.Linear(n_hidden if n_layers else n_in, n_labels)

    def forward(self, z: Float[Tensor, "*s cells n_in"]) -> Float[Tensor, "*s cells labels"]:
        return self.logits(z if self.body is None else self.body(z))


def classified(
    logits: Float[Tensor, "cells labels"], label: Int[Tensor, " cells"], weight: Float[Tensor, " cells"] | None = None
) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, " cells"]]]:
    """What a classifier costs, the mean cross-entropy of cells with a label (not -1); it, and whether it is right, as figures of each."""
    known = label >= 0
    entropy = F.cross_entropy(logits, label, reduction="none", ignore_index=-1)  # 0 of the others
    cost = (entropy if weight is None else entropy * weight).sum() / known.sum().clamp_min(1)
    right = (logits.detach().argmax(-1) == label).to(logits.dtype)
    return cost, {name: q.masked_fill(~known, torch.nan) for name, q in (("classification_loss", entropy), ("accuracy", right))}
