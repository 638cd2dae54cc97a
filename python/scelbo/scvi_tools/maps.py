"""Which of scvi-tools' weights is which of ours, model by model: of our module and theirs (or a tree of its weights) all pairs.

In a :class:`~scelbo.scvi_tools.trees.Blank` the peer's weights come to be with the shapes that it has for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from scelbo.nn import ConditionalLinear, Linear, inverse_softplus
from scelbo.scvi_tools import blocks
from scelbo.scvi_tools.blocks import Pair
from scelbo.scvi_tools.trees import Blank, leaf

MODALITIES = {"x": "expression", "atac": "accessibility", "protein": "protein"}
"""Field -> what scvi-tools' MULTIVI calls it."""
EMBEDDED = 5
"""Length of an embedded batch in scvi-tools' CondSCVI."""


# ------------------------------------------------------------------ RNA
def scvi(ours: Any, theirs: Any) -> Iterator[Pair]:
    """SCVI."""
    yield from beside_the_decoder(ours, theirs)
    yield from blocks.mlp("decoder", ours.decoder, theirs.decoder.px_decoder)
    yield from blocks.same("rho", ours.rho, theirs.decoder.px_scale_decoder[0])
    if ours.pi is not None:
        yield from blocks.same("pi", ours.pi, theirs.decoder.px_dropout_decoder)


def beside_the_decoder(ours: Any, theirs: Any) -> Iterator[Pair]:
    """Encoders, dispersion, library prior, embedded batches."""
    yield from blocks.encoder("z", ours.z, theirs.z_encoder)
    if ours.l is not None:
        yield from blocks.encoder("l", ours.l, theirs.l_encoder)
    yield from blocks.dispersion("log_theta", ours.log_theta, theirs, "px_r", theirs.decoder.px_r_decoder if _of_cells(ours) else None)
    if ours.l_prior is not None:
        yield from library(ours.l_prior, theirs)
    if ours.batch_embedding is not None:
        yield from blocks.table("batch_embedding", ours.batch_embedding, theirs._embeddings_dict.batch, "weight")


def _of_cells(ours: Any) -> bool:
    return isinstance(ours.log_theta, Linear)


def library(ours: Any, theirs: Any) -> Iterator[Pair]:
    """Mean and variance of the log library size in each batch."""
    for i, key in enumerate(("library_log_means", "library_log_vars")):
        there = leaf(theirs, key, ours.rows()[None, :, 0])
        yield Pair(f"l prior, {key.rpartition('_')[2]}", ours.table[:, i], there, lambda t: t[0])


def scanvi(ours: Any, theirs: Any) -> Iterator[Pair]:
    """SCANVI."""
    yield from scvi(ours, theirs)
    yield from blocks.encoder("u", ours.u, theirs.encoder_z2_z1)
    of_u = theirs.decoder_z1_z2
    yield from blocks.heads("z of u", ours.z_of_u, of_u.decoder, of_u.mean_decoder, of_u.var_decoder)
    layers = theirs.classifier.classifier
    if ours.classifier.body is not None:
        yield from blocks.mlp("classifier", ours.classifier.body, layers[0])
    yield from blocks.same("classifier.logits", ours.classifier.logits, layers[0 if ours.classifier.body is None else 1])


def linear_scvi(ours: Any, theirs: Any) -> Iterator[Pair]:
    """LinearSCVI."""
    yield from beside_the_decoder(ours, theirs)
    yield from blocks.mlp("rho", ours.rho, theirs.decoder.factor_regressor)
    if ours.pi is not None:
        yield from blocks.mlp("pi", ours.pi, theirs.decoder.px_dropout_decoder)


# ------------------------------------------------------------------ open chromatin
def peakvi(ours: Any, theirs: Any) -> Iterator[Pair]:
    """PEAKVI."""
    yield from blocks.encoder("z", ours.z, theirs.z_encoder)
    if ours.depth is not None:
        yield from reader("depth", ours.depth, theirs.d_encoder)
    yield from blocks.mlp("decoder", ours.decoder, theirs.z_decoder.px_decoder)
    yield from blocks.linear("y", ours.y, theirs.z_decoder.output[0])
    if ours.r is not None:
        yield Pair("r", ours.r["all"], leaf(theirs, "region_factors", ours.r["all"]))


def reader(name: str, ours: Any, theirs: Any) -> Iterator[Pair]:
    """A network that reads one number off a cell."""
    yield from blocks.mlp(f"{name}.body", ours.body, theirs.px_decoder)
    yield from blocks.same(f"{name}.value", ours.value, theirs.output[0])


# ------------------------------------------------------------------ proteins, several modalities
def totalvi(ours: Any, theirs: Any) -> Iterator[Pair]:
    """TOTALVI."""
    read, decoder = theirs.encoder, theirs.decoder
    yield from blocks.heads("z", ours.z, read.encoder, read.z_mean_encoder, read.z_var_encoder)
    if ours.l is not None:
        yield from blocks.heads("l", ours.l, read.l_gene_encoder, read.l_gene_mean_encoder, read.l_gene_var_encoder)
        yield from library(ours.l_prior, theirs)
    yield from blocks.mlp("decoder", ours.decoder, decoder.px_decoder)
    yield from blocks.linear("rho", ours.rho, decoder.px_scale_decoder.fc_layers[0][0])
    if ours.pi is not None:
        yield from blocks.linear("pi", ours.pi, decoder.px_dropout_decoder_gene.fc_layers[0][0])
    yield from proteins(ours.proteins, theirs, decoder)
    yield from blocks.dispersion("log_theta", ours.log_theta, theirs, "px_r")


def proteins(ours: Any, theirs: Any, decoder: Any) -> Iterator[Pair]:
    """Decoder, dispersion, background and efficiency of the proteins."""
    own = ours.decoder
    for name, body in (("back_body", "py_back_decoder"), ("fore_body", "py_fore_decoder"), ("mixing_body", "sigmoid_decoder")):
        yield from blocks.mlp(name, getattr(own, name), getattr(decoder, body))
    for name, other in (
        ("back_mean", "py_back_mean_log_alpha"), ("back_sd", "py_back_mean_log_beta"),
        ("fore", "py_fore_scale_decoder"), ("mixing", "py_background_decoder"),
    ):  # fmt: skip
        yield from blocks.linear(name, getattr(own, name), getattr(decoder, other).fc_layers[0][0])
    yield from blocks.dispersion("log_phi", ours.log_phi, theirs, "py_r")
    yield from blocks.table("background mean", ours.back_mean, theirs, "background_pro_alpha", transposed=True)
    yield from blocks.table("background log sd", ours.back_log_sd, theirs, "background_pro_log_beta", transposed=True)
    if ours.efficiency is not None:
        yield from blocks.table("efficiency", ours.efficiency, theirs, "log_per_batch_efficiency", transposed=True)


def multivi(ours: Any, theirs: Any) -> Iterator[Pair]:
    """MULTIVI."""
    genes, regions = ours.genes, ours.regions
    for field in ours.fields:
        yield from blocks.encoder(f"z.{field}", ours.z[field], getattr(theirs, f"z_encoder_{MODALITIES[field]}"))
    if ours.proteins is not None:
        yield from proteins(ours.proteins, theirs, theirs.z_decoder_pro)
    if genes.l is not None:
        yield from reader("l", genes.l, theirs.l_encoder_expression)
    decoder = theirs.z_decoder_expression
    yield from blocks.mlp("genes.decoder", genes.decoder, decoder.px_decoder)
    yield from blocks.linear("rho", genes.rho, decoder.px_scale_decoder[0])
    if genes.pi is not None:
        yield from blocks.linear("pi", genes.pi, decoder.px_dropout_decoder)
    yield from blocks.dispersion("log_theta", genes.log_theta, theirs, "px_r", decoder.px_r_decoder if _of_cells(genes) else None)
    if regions is not None:
        yield from reader("depth", regions.depth, theirs.l_encoder_accessibility)
        yield from blocks.mlp("regions.decoder", regions.decoder, theirs.z_decoder_accessibility.px_decoder)
        yield from blocks.linear("y", regions.y, theirs.z_decoder_accessibility.output[0])
        if regions.r is not None:
            yield Pair("r", regions.r["all"], leaf(theirs, "region_factors", regions.r["all"]))
    if ours.joint.w is not None:
        n = len(ours.joint.w["all"])
        yield Pair("weights", ours.joint.w["all"], leaf(theirs, "mod_weights", ours.joint.w["all"], (3,)), lambda t: t[:n])


# ------------------------------------------------------------------ space
def condscvi(ours: Any, theirs: Any) -> Iterator[Pair]:
    """CondSCVI of scvi-tools 1.4.1 and later; the decoder's first layer reads [gamma, embedded batch, type] (see :func:`fold_batches`)."""
    read = theirs.z_encoder
    yield from _beside_embedded("z.body", ours.z.body, read.encoder)
    yield from blocks.same("z.mean", ours.z.mean, read.mean_encoder)
    yield from blocks.same("z.var", ours.z.var, read.var_encoder)
    yield from _beside_embedded("decoder", ours.decoder, theirs.decoder)
    yield from blocks.same("rho", ours.rho, theirs.px_decoder)
    yield from blocks.table("bias", ours.bias, theirs, "per_ct_bias")
    yield Pair("o", ours.o, leaf(theirs, "px_r", ours.o))
    if ours.states is not None:
        for name, key in (("logit", "prior_logits"), ("mean", "prior_means"), ("log_sd", "prior_log_std")):
            yield from blocks.table(f"states.{name}", getattr(ours.states, name), theirs, key)


def _beside_embedded(name: str, ours: Any, theirs: Any) -> Iterator[Pair]:
    """Hidden layers whose first also reads an embedded batch, where ours sees the batch."""
    for i, mine in enumerate(ours.linear):
        layer, (n_in, n_out), shifts = theirs.fc_layers[i][0], mine.weight.shape, {shift.covariate: shift for shift in mine.shifts}
        n_labels = len(shifts["label"].rows())
        wide = n_in + n_labels * (n_labels > 1) + EMBEDDED * (i == 0 and "batch" in shifts)
        weight = leaf(layer, "weight", mine.weight, (n_out, wide))
        yield Pair(f"{name}.{i}.weight", mine.weight, weight, blocks.columns(0, n_in))
        yield Pair(f"{name}.{i}.bias", mine.bias, leaf(layer, "bias", mine.bias))
        if n_labels > 1:
            yield Pair(f"{name}.{i}.label", shifts["label"].table, weight, blocks.columns(wide - n_labels, n_labels))


def condscvi_until_1_4_0(ours: Any, theirs: Any) -> Iterator[Pair]:
    """CondSCVI before: batches are one-hot codes, and rho = softplus(f), as published."""
    yield from blocks.encoder("z", ours.z, theirs.z_encoder)
    yield from blocks.mlp("decoder", ours.decoder, theirs.decoder)
    yield from blocks.same("rho", ours.rho, theirs.px_decoder[0])
    yield Pair("o", ours.o, leaf(theirs, "px_r", ours.o))


def _batches(ours: Any, theirs: Any) -> Iterator[tuple[int, ConditionalLinear, Any]]:
    """Of the networks that see the batch: number of the layer, our layer, and the peer's."""
    for mlp, body in ((ours.z.body, theirs.z_encoder.encoder), (ours.decoder, theirs.decoder)):
        for i, mine in enumerate(mlp.linear):
            if "batch" in {shift.covariate for shift in mine.shifts}:
                yield i, mine, body.fc_layers[i][0]


def _shift(layer: Any) -> Any:
    return next(shift for shift in layer.shifts if shift.covariate == "batch")


@torch.no_grad()
def fold_batches(ours: Any, theirs: Any) -> None:
    r"""What embedded batches e add to the first layers, :math:`W_e e_b`, as the shift that each batch has in ours."""
    embedded = theirs._embeddings_dict.batch.weight.double()  # the sum is then rounded once
    for i, mine, layer in _batches(ours, theirs):
        table = _shift(mine).table
        if i:
            table.zero_()
            continue
        n_in, width = len(mine.weight), embedded.shape[1]
        added = embedded @ layer.weight[:, n_in : n_in + width].double().T
        if len(added) == 1:
            mine.bias += added[0]
        else:
            table.copy_(added)


@torch.no_grad()
def unfold_batches(ours: Any, blank: Blank) -> bool:
    """The inverse, in a blank: batches as unit vectors. False where an embedding cannot say it: too many, or they enter deeper layers."""
    n = len(_shift(ours.decoder.linear[0]).table)
    leaf(blank._embeddings_dict.batch, "weight", ours.rho.weight, (n, EMBEDDED)).copy_(torch.eye(n, EMBEDDED) * (n > 1))
    for i, mine, layer in _batches(ours, blank):
        table = _shift(mine).table
        if n > 1 and i and table.any():
            return False
        if 1 < n <= EMBEDDED and not i:
            layer.weight[:, len(mine.weight) : len(mine.weight) + n] = table.T
    return n <= EMBEDDED


def rna_stereoscope(ours: Any, theirs: Any) -> Iterator[Pair]:
    """RNAStereoscope."""
    yield from blocks.table("W", ours.W, theirs, "W", transposed=True)
    yield Pair("o", ours.o, leaf(theirs, "px_o", ours.o))


def spatial_stereoscope(ours: Any, theirs: Any) -> Iterator[Pair]:
    """SpatialStereoscope."""
    w = leaf(theirs, "W", ours.w.T)
    yield Pair("w", ours.w, w, lambda t: F.softplus(t).T, lambda t: inverse_softplus(t).T)
    yield Pair("o", ours.o, leaf(theirs, "px_o", ours.o))
    yield Pair("V", ours.V.weight, leaf(theirs, "V", ours.V.weight.T), blocks.transposed)
    yield Pair("beta", ours.beta.table, leaf(theirs, "beta", ours.beta.table[0]), lambda t: t[None])
    yield Pair("eta", ours.noise["eta"], leaf(theirs, "eta", ours.noise["eta"]))
