"""What :mod:`speed` measures, in processes of their own: models of either package on the same cells, trained and then asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any, NamedTuple

from children import SIZES, Size, forget_peak, peak_gb, read

PACKAGES = {"scelbo": "scelbo", "scvi-tools": "scvi"}
EPOCH, LATENT, NORMALISED, DE, DE_CHANGE, DA = "epoch", "latent", "normalised", "DE, vanilla", "DE, change", "DA"
IMPORT, FIRST_STEP, TO_DISK = "import", "import to first step", "normalised, to disk"
BATCH = {"batch_key": "batch"}
PROTEINS = {**BATCH, "protein_expression_obsm_key": "protein_expression"}
LABELS = {"labels_key": "cell_type"}


class Job(NamedTuple):
    """A model, its data, and how many times less CPU than scvi-tools it has to take to train for an epoch and to answer."""

    model: str
    size: str
    required: Mapping[str, float | None]
    arguments: Mapping[str, Any] = MappingProxyType({})
    keys: Mapping[str, Any] = MappingProxyType(BATCH)
    long: bool = False
    """Left out unless it is asked for."""
    memory: float = 1.0
    """Share of the other's peak memory that a question may take."""

    @property
    def sides(self) -> list[str]:
        """Who is measured: what only scelbo does has no other side."""
        return list(PACKAGES)[: 1 if TO_DISK in self.required else 2]


ASKED = {LATENT: 6.0, NORMALISED: 3.5}
JOBS = {
    "start": Job("SCVI", "few", {IMPORT: 1.0, FIRST_STEP: 1.0}),
    "scVI, NB": Job("SCVI", "genes", {EPOCH: 6.0}, {"gene_likelihood": "nb"}),
    "scVI, ZINB": Job("SCVI", "genes", {EPOCH: 5.0, **ASKED, DE: 5.0, DE_CHANGE: 5.0}),
    "scANVI, ZINB": Job("SCANVI", "genes", {EPOCH: 3.0}, keys={**BATCH, **LABELS, "unlabeled_category": "type3"}),
    "LDVAE": Job("LinearSCVI", "genes", {EPOCH: 4.0}),
    "AutoZI": Job("AUTOZI", "genes", {EPOCH: 3.0}),
    "PeakVI, 33,000 regions": Job("PEAKVI", "33k", {EPOCH: 2.5, LATENT: 4.5, NORMALISED: 2.5, DA: 2.5}, memory=0.5),
    "PeakVI, 115,000 regions": Job("PEAKVI", "115k", {EPOCH: 2.5, LATENT: 4.5, DA: 2.5}, long=True, memory=0.5),
    "totalVI, 14 proteins": Job("TOTALVI", "genes", {EPOCH: 2.5, LATENT: 4.0, NORMALISED: 3.0}, {"n_hidden": 256}, PROTEINS),
    "MultiVI, 3,000 genes, 30,000 regions": Job("MULTIVI", "33k", {EPOCH: 2.5, LATENT: 4.0, NORMALISED: 3.0}),
    "LDA, 20 topics": Job("AmortizedLDA", "genes", {EPOCH: 2.5, LATENT: 50.0}, keys={}),
    "Stereoscope, cells": Job("RNAStereoscope", "genes", {EPOCH: 2.0}, keys=LABELS),
    "Stereoscope, spots": Job("SpatialStereoscope", "spots", {EPOCH: 2.0}, keys={}),
    "CondSCVI": Job("CondSCVI", "genes", {EPOCH: 2.0}, keys=LABELS),
    "DestVI": Job("DestVI", "spots", {EPOCH: 2.0}, keys={}),
    "CellAssign": Job("CellAssign", "marked", {EPOCH: 2.0}, keys={}),
    "gimVI": Job("GIMVI", "spots", {EPOCH: 2.0}, keys={}),
    "values on disk": Job("SCVI", "whole", {TO_DISK: None}, long=True),
}
REFERENCES = {"SpatialStereoscope": "RNAStereoscope", "DestVI": "CondSCVI"}
MANY = 5_000
"""Cells of which a share is enough for an epoch."""
REPEATS = 3
"""Of each question."""
MOST_GB = 1.5
"""That values on disk may take in memory, which holds the counts too."""


# ------------------------------------------------------------------ the models
def class_of(package: Any, name: str) -> Any:
    places = [package, *(getattr(package, part) for part in ("model", "external") if hasattr(package, part))]
    return next(getattr(p, name) for p in places if hasattr(p, name))


def model_of(job: Job, adata: Any, package: Any) -> Any:
    """The job's model, not trained yet."""
    model, theirs = class_of(package, job.model), package.__name__ == "scvi"
    if job.model in REFERENCES:
        known, cells = class_of(package, REFERENCES[job.model]), adata[:500].copy()
        known.setup_anndata(cells, **LABELS)
        reference = known(cells, **({"prior": "mog"} if theirs and job.model == "DestVI" else {}))  # of its two priors one runs
        reference.train(1, accelerator="cpu")
        model.setup_anndata(adata, **job.keys)
        return model.from_rna_model(adata, reference)
    if job.model == "MULTIVI":
        adata.var["feature_types"] = ["Gene Expression"] * 3000 + ["Peaks"] * (adata.n_vars - 3000)
        if theirs:
            from peer.multivi import several

            return model(several(adata, dict(job.keys)), **job.arguments)
    if job.model == "GIMVI":
        half = adata.n_obs // 2
        two = [adata[:half].copy(), adata[half:, ::5].copy()]
        for part in two:
            model.setup_anndata(part)
        return model(*two)
    if job.model == "CellAssign":
        return marked(model, adata, theirs)
    model.setup_anndata(adata, **job.keys)
    return model(adata, **job.arguments)


def marked(model: Any, adata: Any, theirs: bool) -> Any:
    """A model of types that each have ten of the genes for markers."""
    import numpy as np
    import pandas as pd

    table = pd.DataFrame(np.repeat(np.eye(adata.n_vars // 10, dtype=int), 10, axis=0), adata.var_names)
    if theirs:
        size = np.asarray(adata.X.sum(1)).ravel()
        adata.obs["size"] = size / size.mean()
    model.setup_anndata(adata, **({"size_factor_key": "size"} if theirs else {}))
    return model(adata, table)


# ------------------------------------------------------------------ training
def settings_of(job: Job, model: Any, side: str, epochs: int, share: float) -> dict[str, Any]:
    """Arguments of ``train()``: both go by scvi-tools' plan, and neither validates nor shows a bar."""
    given: dict[str, Any] = {"max_epochs": epochs, "accelerator": "cpu"}
    if SIZES[job.size].cells >= MANY:  # of few cells nine in ten train, and of spots all
        given["train_size"] = share
    if side == "scelbo":
        given |= {"early_stopping": False, "check_val_every_n_epoch": epochs + 1, "plan_kwargs": {"reduce_lr_on_plateau": False}}
        return given | ({"plan": "scvi-tools"} if "scvi-tools" in model.plans else {})
    given["enable_progress_bar"] = False
    if job.model in ("PEAKVI", "MULTIVI", "TOTALVI", "CellAssign"):
        given |= {"early_stopping": False, "check_val_every_n_epoch": epochs + 1}
    return given | ({"reduce_lr_on_plateau": False} if job.model == "TOTALVI" else {})


def train(model: Any, side: str, given: dict[str, Any]) -> list[tuple[float, float]]:
    """(CPU, clock) at the end of each epoch."""
    ends: list[tuple[float, float]] = []

    def note() -> None:
        import torch

        if torch.cuda.is_initialized():  # else a GPU is still at it
            torch.cuda.synchronize()
        ends.append((time.process_time(), time.perf_counter()))

    if side == "scelbo":
        import scelbo

        scelbo.settings.on_event = lambda event: note() if event["event"] == "step" else None
        model.train(**given)
        scelbo.settings.on_event = None
        return ends
    from lightning.pytorch.callbacks import Callback

    class Clock(Callback):
        def on_train_epoch_end(self, trainer: Any, plan: Any) -> None:
            note()

    model.train(**given, callbacks=[Clock()])
    return ends


def loss_of(model: Any) -> dict[str, float]:
    """What the last epoch of training came to: reconstruction + KL where both packages note it, and else the loss."""
    names = [n for n in ("elbo_train", "train_loss_epoch", "train_loss") if n in model.history]
    return {name: float(model.history[name].to_numpy().ravel()[-1]) for name in names[:1]}


# ------------------------------------------------------------------ questions
def question(job: Job, model: Any, side: str, name: str, folder: str) -> Callable[[], Any]:
    """One of them, to be called."""
    silent: dict[str, Any] = {} if side == "scelbo" else {"silent": True}
    pair = {"groupby": "cell_type", "group1": "type0", "group2": "type1", "all_stats": True, **silent}
    array = {"return_numpy": True}
    match name:
        case "latent":
            return model.get_latent_representation
        case "normalised" if job.model == "PEAKVI":
            return lambda: model.get_normalized_accessibility(**array)
        case "normalised":
            return lambda: model.get_normalized_expression(**array)
        case "DE, vanilla":
            return lambda: model.differential_expression(mode="vanilla", **pair)
        case "DE, change":
            return lambda: model.differential_expression(mode="change", **pair)
        case "DA":
            return lambda: model.differential_accessibility(mode="change", **pair)
    return lambda: model.get_normalized_expression(out=f"{folder}/values{time.time()}.h5ad")


def measure(side: str, name: str, size: Size, folder: str, epochs: int, share: float, asked: list[str]) -> dict[str, Any]:
    """Question -> CPU seconds, those of the clock, peak memory; one after the other in this process."""
    package = __import__(PACKAGES[side])
    job = JOBS[name]
    model = model_of(job, read(size, folder), package)
    out: dict[str, Any] = {}
    forget_peak()
    if TO_DISK in asked:
        model.is_trained = True  # weights at their start decode as fast
    else:
        given = settings_of(job, model, side, epochs + 1, share)
        ends = list(pairwise(train(model, side, given)))  # the first epoch warms up
        spent = {"cpu": [b[0] - a[0] for a, b in ends], "wall": [b[1] - a[1] for a, b in ends], "peak": peak_gb()}
        out[EPOCH] = spent | {"settings": given, "after": epochs + 1, "loss": loss_of(model)}
    for what in [a for a in asked if a != EPOCH]:
        ask, cpu, wall = question(job, model, side, what, folder), [], []
        forget_peak()
        for _ in range(1 if what in (DA, TO_DISK) or job.model == "AmortizedLDA" else REPEATS):
            start = time.process_time(), time.perf_counter()
            ask()
            cpu.append(time.process_time() - start[0])
            wall.append(time.perf_counter() - start[1])
        out[what] = {"cpu": cpu, "wall": wall, "peak": peak_gb()}
    return out


def start(side: str, size: Size, folder: str) -> dict[str, Any]:
    """From the start of Python to the import's end, and to the end of one step of training."""
    begun = time.perf_counter() - time.process_time()
    package = __import__(PACKAGES[side])
    if side == "scelbo":
        package.SCVI  # noqa: B018
    out = {IMPORT: {"cpu": [time.process_time()], "wall": [time.perf_counter() - begun], "peak": peak_gb()}}
    job = JOBS["start"]
    model = model_of(job, read(size, folder), package)
    model.train(1, accelerator="cpu", train_size=1.0, batch_size=size.cells, **({} if side == "scelbo" else {"enable_progress_bar": False}))
    return out | {FIRST_STEP: {"cpu": [time.process_time()], "wall": [time.perf_counter() - begun], "peak": peak_gb()}}


def size_of(job: Job) -> Size:
    return SIZES[job.size]
