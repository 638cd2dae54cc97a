"""scVI in scvi-tools and in scelbo: one setup, one set of weights, the same latents, the numbers of both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import scvi
import torch
from anndata import AnnData
from torch import Tensor, nn

from peer import blocks
from peer.blocks import Pair
from scelbo import SCVI
from scelbo.data import Counts
from scelbo.models.scvi import Latents


class Both(NamedTuple):
    """The same model twice, with the same weights, in float64."""

    ours: Any
    theirs: Any
    pairs: list[Pair]
    priors: tuple[Tensor, Tensor] | None
    """Mean and variance of the log library size in each batch, as each of them took it from the data."""


def pairs(ours: Any, theirs: Any) -> Iterator[Pair]:
    """Every learnt number of an SCVI module."""
    yield from blocks.encoder("z", ours.z, theirs.z_encoder)
    if ours.l is not None:
        yield from blocks.encoder("l", ours.l, theirs.l_encoder)
    yield from blocks.mlp("decoder", ours.decoder, theirs.decoder.px_decoder)
    yield from blocks.same("rho", ours.rho, theirs.decoder.px_scale_decoder[0])
    if ours.pi is not None:
        yield from blocks.same("pi", ours.pi, theirs.decoder.px_dropout_decoder)
    if isinstance(ours.log_theta, nn.Linear):
        yield from blocks.same("log_theta", ours.log_theta, theirs.decoder.px_r_decoder)
    elif isinstance(ours.log_theta, nn.ParameterDict):
        yield Pair("log_theta", ours.log_theta["all"], theirs.px_r)
    else:
        yield from blocks.table("log_theta", ours.log_theta, theirs.px_r, transposed=True)
    if ours.l_prior is not None:
        yield Pair("l_prior", ours.l_prior.table, torch.cat([theirs.library_log_means, theirs.library_log_vars]).T)
    if ours.batch_embedding is not None:
        yield from blocks.table("batch_embedding", ours.batch_embedding, theirs.get_embedding("batch").weight)


def both(adata: AnnData, keys: dict[str, Any], seed: int = 0, **hyper: Any) -> Both:
    """Two models of the same arguments, ours with the peer's weights; running statistics are made up, so that they matter."""
    adata = adata.copy()
    torch.manual_seed(seed)
    scvi.model.SCVI.setup_anndata(adata, **keys)
    theirs = scvi.model.SCVI(adata, **hyper)
    SCVI.setup_anndata(adata, **keys)
    ours = SCVI(adata, **hyper)
    with torch.no_grad():
        for name, buffer in theirs.module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.3, 0.8)
        for name, weight in theirs.module.named_parameters():
            if "encoder" in name and "Layer" not in name:
                weight.mul_(1.5)  # latents that spread, so that the decoder is looked at in more than one place
        if not theirs.module.use_observed_lib_size:  # libraries of a sensible size, as after training
            theirs.module.l_encoder.mean_encoder.bias.fill_(np.log(adata.X.sum(1).mean()))
            theirs.module.l_encoder.mean_encoder.weight.mul_(0.2)
    theirs.module.double().eval()
    ours.module.double().eval()
    own = None if ours.module.l_prior is None else ours.module.l_prior.rows().detach().clone()
    made = {p.name: p for p in blocks.copy(pairs(ours.module, theirs.module))}
    return Both(ours, theirs, list(made.values()), None if own is None else (own, made["l_prior"].theirs))


def minibatch(pair: Both, adata: AnnData | None = None) -> tuple[Any, dict[str, Tensor]]:
    """All cells, or other ones, as either model reads them."""
    n = (pair.ours.adata if adata is None else adata).n_obs
    cells = next(pair.ours.batches(adata, batch_size=n)).to(torch.float64)
    cells.x = Counts(cells.x.crow, cells.x.col, cells.x.val, cells.x.n_vars)  # what was summed in float32 is made again
    loader = pair.theirs._make_data_loader(pair.theirs.adata if adata is None else pair.theirs._validate_anndata(adata), batch_size=n)
    return cells, {k: v.double() if v.is_floating_point() else v for k, v in next(iter(loader)).items()}


def losses(pair: Both, kl_weight: float = 1.0, seed: int = 0, adata: AnnData | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Quantity -> value, ours and the peer's, at the same draw of the latents (differentiable)."""
    cells, tensors = minibatch(pair, adata)
    noise = torch.randn(len(cells), pair.ours.n_latent + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with _no_float32():
        return _ours(pair.ours.module, cells, noise, kl_weight), _theirs(pair.theirs.module, tensors, noise, kl_weight)


@contextmanager
def _no_float32() -> Iterator[None]:
    """scvi-tools makes its one-hot codes with ``.float()``, which a model in float64 cannot multiply."""
    original, torch.Tensor.float = torch.Tensor.float, torch.Tensor.double  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.float = original  # type: ignore[method-assign]


def _ours(module: Any, cells: Any, noise: Tensor, kl_weight: float) -> dict[str, Tensor]:
    q = module.inference(cells)
    free = isinstance(q.log_l, torch.distributions.Normal)
    log_l = q.log_l.mean + q.log_l.stddev * noise[:, -1:] if free else q.log_l.mean
    p = module.generative(Latents(q.z.mean + q.z.stddev * noise[:, :-1], log_l), cells)
    loss = module.loss(cells, q, p)
    out = {"z mean": q.z.mean, "z variance": q.z.variance, "rho": p.x.scale, "mean": p.x.mean}
    if free:
        out |= {"l mean": q.log_l.mean, "l variance": q.log_l.variance, "KL l": loss.kl_fixed["log_l"]}
    if hasattr(p.x, "log_theta"):
        out["theta"] = p.x.log_theta.exp().expand_as(p.x.mean)
    elif hasattr(p.x, "log_sigma"):
        out["sigma"] = p.x.log_sigma.exp().expand_as(p.x.mean)
    if hasattr(p.x, "zi_logits"):
        out["dropout logits"] = p.x.zi_logits
    return out | {"reconstruction": loss.nll["x"], "KL z": loss.kl["z"], "loss": loss.total(kl_weight)}


def _theirs(module: Any, tensors: dict[str, Tensor], noise: Tensor, kl_weight: float) -> dict[str, Tensor]:
    inferred = module.inference(**module._get_inference_input(tensors))
    qz, ql = inferred["qz"], inferred["ql"]
    z = qz.loc + qz.scale * noise[:, :-1]
    inferred["z"] = module.z_encoder.z_transformation(z)
    if ql is not None:
        inferred["library"] = ql.loc + ql.scale * noise[:, -1:]
    generated = module.generative(**module._get_generative_input(tensors, inferred))
    loss = module.loss(tensors, inferred, generated, kl_weight=kl_weight)
    px = generated["px"]
    out = {"z mean": qz.loc, "z variance": qz.scale**2, "rho": px.get_normalized("scale"), "mean": px.mean}
    if ql is not None:
        out |= {"l mean": ql.loc, "l variance": ql.scale**2, "KL l": loss.kl_local["kl_divergence_l"]}
    if isinstance(px, scvi.distributions.Normal):
        out["sigma"] = px.stddev.expand_as(px.mean)
    elif hasattr(px, "theta"):
        out["theta"] = px.theta.expand_as(px.mean)
    if hasattr(px, "zi_logits"):
        out["mean"], out["dropout logits"] = px.mu, px.zi_logits  # scvi-tools' mean counts the structural zeros in
    return out | {
        "reconstruction": loss.reconstruction_loss["reconstruction_loss"],
        "KL z": loss.kl_local["kl_divergence_z"],
        "loss": loss.loss,
    }
