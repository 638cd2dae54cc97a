"""Arguments of scvi-tools' models and of ours: which is which, and what either lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from scelbo.errors import StorageError
from scelbo.scvi_tools import maps
from scelbo.scvi_tools.pickles import Named

NETWORK = {"log_variational": True, "encode_covariates": False, "deeply_inject_covariates": True, "var_activation": "exp"}
NORMS = {"use_batch_norm": "both", "use_layer_norm": "none"}
OF_SCANVI = ("n_hidden", "n_latent", "n_layers", "dropout_rate", "dispersion", "gene_likelihood", "use_observed_lib_size")
OF_SCVI = (*OF_SCANVI, "latent_distribution")
EMBEDDING = {"batch_representation": "one-hot", "batch_embedding_dim": 5}
RNA_SPARE = ("l_encoder.", "px_r", "decoder.px_r_decoder.", "decoder.px_dropout_decoder.")
OF_DATA = {"datamodule", "n_genes", "n_regions", "sc_params", "cell_type_mapping", "use_gpu", "use_cuda", "extra_payload_autotune"}
"""Arguments of scvi-tools that say what the data, the weights or the machine say."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


@dataclass(frozen=True)
class Counterpart:
    """A model of scvi-tools and ours of the same name.

    Parameters
    ----------
    pairs
        Of our module and theirs: which weight is which.
    own
        Arguments of its class that ours has by the same name.
    module
        Further ones of its module, with their defaults there.
    stands_for
        Ours that it lacks -> what it stands for.
    training
        Ours that it lacks, and that concern training alone -> what comes nearest.
    without
        Arguments of our set-up that it lacks.
    fullest
        Arguments with which our module has every part that its module holds, used or not.
    spare
        Where the names begin of weights that it holds also where its model does not use them.
    """

    pairs: Callable[[Any, Any], Any]
    own: tuple[str, ...] = ()
    module: Mapping[str, Any] = field(default_factory=dict)
    stands_for: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    fullest: Mapping[str, Any] = field(default_factory=dict)
    spare: tuple[str, ...] = ()


COUNTERPARTS = {
    "SCVI": Counterpart(
        maps.scvi,
        OF_SCVI,
        NETWORK | NORMS | EMBEDDING,
        {"activation": "relu"},
        fullest={"use_observed_lib_size": False, "gene_likelihood": "zinb", "dispersion": "gene-cell"},
        spare=RNA_SPARE,
    ),
    "SCANVI": Counterpart(
        maps.scanvi,
        (*OF_SCANVI, "linear_classifier"),
        NETWORK | NORMS | {"classifier_n_hidden": None, "classifier_n_layers": None, "classifier_dropout_rate": None},
        {"activation": "relu", "latent_distribution": "normal", **EMBEDDING},
        {"labels_in_elbo": False},
        fullest={"use_observed_lib_size": False, "gene_likelihood": "zinb", "dispersion": "gene-cell"},
        spare=(*RNA_SPARE, "y_prior"),
    ),
    "LinearSCVI": Counterpart(
        maps.linear_scvi,
        OF_SCVI,
        {"log_variational": True, "use_batch_norm": "both", "bias": False},
        {"activation": "relu", "encode_covariates": False, "deeply_inject_covariates": True, "use_layer_norm": "none"}
        | {"var_activation": "exp", **EMBEDDING},
        without=("size_factor_key", "categorical_covariate_keys", "continuous_covariate_keys"),
        fullest={"use_observed_lib_size": False, "gene_likelihood": "zinb"},
        spare=RNA_SPARE,
    ),
    "PEAKVI": Counterpart(
        maps.peakvi,
        _words("""n_hidden n_latent n_layers_encoder n_layers_decoder dropout_rate model_depth region_factors use_batch_norm
            use_layer_norm latent_distribution deeply_inject_covariates encode_covariates"""),
    ),
    "TOTALVI": Counterpart(
        maps.totalvi,
        _words("""n_latent gene_dispersion protein_dispersion gene_likelihood latent_distribution
            empirical_protein_background_prior override_missing_proteins"""),
        {"n_hidden": 256, "n_layers_encoder": 2, "n_layers_decoder": 1, "dropout_rate_encoder": 0.2, "dropout_rate_decoder": 0.2}
        | {"log_variational": True, "encode_covariates": True, "use_observed_lib_size": True}
        | NORMS,
        {"deeply_inject_covariates": True, "encoder_reads": "relative", "background_activation": "softplus"},
        {"adversarial_classifier": None},
        without=("labels_key",),
        fullest={"use_observed_lib_size": False, "gene_likelihood": "zinb", "protein_efficiency": True},
        spare=("encoder.l_gene_", "decoder.px_dropout_decoder_gene."),
    ),
    "MULTIVI": Counterpart(
        maps.multivi,
        _words("""modality_weights modality_penalty n_hidden n_latent n_layers_encoder n_layers_decoder dropout_rate region_factors
            gene_likelihood dispersion use_batch_norm use_layer_norm latent_distribution deeply_inject_covariates encode_covariates
            fully_paired protein_dispersion"""),
        stands_for={"mixing": "scvi-tools", "use_observed_lib_size": False, "log_variational": False, "background_activation": "exp"},
        training={"hide_modalities": 0.0, "adversarial_mixing": True},
        without=("labels_key", "size_factor_key"),
        fullest={"gene_likelihood": "zinb", "dispersion": "gene-cell", "modality_weights": "universal"},
        spare=_words("""mod_weights px_r z_decoder_expression.px_r_decoder. z_decoder_expression.px_dropout_decoder. z_encoder_protein.
            z_decoder_pro. py_r background_pro_"""),
    ),
    "CondSCVI": Counterpart(
        maps.condscvi,
        ("n_hidden", "n_latent", "n_layers", "weight_obs", "dropout_rate"),
        {"log_variational": True, "encode_covariates": False, "prior": "normal", "num_classes_mog": 10},
        {"gene_likelihood": "nb"},
        without=("fine_labels_key", "size_factor_key"),
        spare=("ct_weight",),
    ),
    "RNAStereoscope": Counterpart(maps.rna_stereoscope, training={"start": "random"}, without=("batch_key",), spare=("ct_weight",)),
    "SpatialStereoscope": Counterpart(
        maps.spatial_stereoscope,
        ("prior_weight",),
        stands_for={"augmentation": False, "start": "random"},
        without=("batch_key", "smoothed_layer"),
    ),
}
"""Name of the model, in both -> what is known of it."""


# ------------------------------------------------------------------ theirs -> ours
def ours_of(name: str, init: Mapping[str, Any], version: tuple[int, ...], weights: Mapping[str, Any]) -> dict[str, Any]:
    """Our arguments, of ``init_params_`` of a saved model.

    Raises
    ------
    StorageError
        One that ours has no counterpart of.
    """
    known = COUNTERPARTS[name]
    out = {**known.module, **known.stands_for, **known.training}
    for argument, value in _flat(init).items():
        if argument in OF_DATA:
            continue
        if argument in known.own or argument in known.module:
            out[argument] = _value(name, argument, value)
        elif argument == "classifier_parameters" and name == "SCANVI":
            out |= {f"classifier_{part}": of for part, of in (value or {}).items() if part in ("n_hidden", "n_layers", "dropout_rate")}
            _nothing_left(name, argument, {k: v for k, v in (value or {}).items() if f"classifier_{k}" not in out})
        elif argument == "batch_embedding_kwargs" and value and name == "SCVI":
            out["batch_embedding_dim"] = value.get("embedding_dim", 5)
            _nothing_left(name, argument, {k: v for k, v in value.items() if k != "embedding_dim"})
        else:
            _nothing_left(name, argument, value)
    return out | _of_version(name, version, weights)


def _flat(init: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by name: those that went on to the module stand in dictionaries."""
    own = init.get("non_kwargs", {k: v for k, v in init.items() if not isinstance(v, dict)})
    more = init.get("kwargs", {k: v for k, v in init.items() if isinstance(v, dict)})
    return dict(own) | {k: v for part in more.values() for k, v in (part or {}).items()}


def _nothing_left(name: str, argument: str, value: Any) -> None:
    if value is None or value is False or (isinstance(value, dict | list | tuple) and not value):
        return
    raise StorageError(
        f"scvi-tools' {name} was made with {argument}={value!r}, which scelbo's {name} has no counterpart of.",
        "It would be another model; train it here, or ask it in scvi-tools.",
    )


def _value(name: str, argument: str, value: Any) -> Any:
    if argument == "var_activation":
        if value is None:
            return "exp"
        if isinstance(value, type) and issubclass(value, Named) and value.name.endswith(".softplus"):
            return "softplus"
        _nothing_left(name, argument, value)
    if name == "LinearSCVI" and argument == "use_batch_norm":
        return "both" if value else "encoder"
    return value


def _of_version(name: str, version: tuple[int, ...], weights: Mapping[str, Any]) -> dict[str, Any]:
    """What a version of scvi-tools did without being told."""
    if name == "TOTALVI":
        told = "log_per_batch_efficiency" in weights  # since 1.3.1
        return {
            "protein_efficiency": told,
            "encoder_reads": "relative" if told else "counts",
            "background_activation": "softplus" if version >= (1, 2) else "exp",
        }
    if name == "CondSCVI":  # 1.2 says that it reads log(1 + x), and reads x; until 1.4.0 rho = softplus(f)
        until_1_4_0 = {} if "per_ct_bias" in weights else {"gene_likelihood": "additive"}
        return until_1_4_0 | ({"log_variational": False} if version == (1, 2) else {})
    if name in ("MULTIVI", "PEAKVI"):
        first = weights[f"z_encoder{'_expression' * (name == 'MULTIVI')}.mean_encoder.weight"]
        return {"n_latent": first.shape[0], "n_hidden": first.shape[1]}
    return {}


# ------------------------------------------------------------------ ours -> theirs
def theirs_of(model: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of scvi-tools' class, and of its module, where these are not its defaults.

    Raises
    ------
    StorageError
        The model has a setting that scvi-tools' has no counterpart of.
    """
    name = type(model).__name__
    if name not in COUNTERPARTS:
        raise StorageError(f"A {name} cannot be saved for scvi-tools: only {', '.join(COUNTERPARTS)} can.", "model.save() keeps it.")
    known = COUNTERPARTS[name]
    for argument, value in known.stands_for.items():
        lacking(name, argument, getattr(model, argument), value)
    for argument, allowed in {
        "use_batch_norm": ("both", "encoder") if name == "LinearSCVI" else None,
        "gene_likelihood": ("nb", "zinb") if name == "TOTALVI" else None,
        "gene_dispersion": ("gene", "gene-batch"), "protein_dispersion": ("protein", "protein-batch"),
        "dispersion": ("gene",) if name == "MULTIVI" else ("gene", "gene-batch") if name == "LinearSCVI" else None,
        "modality_weights": ("equal", "universal"),
    }.items():  # fmt: skip
        if allowed is not None and hasattr(model, argument) and getattr(model, argument) not in allowed:
            lacking(name, argument, getattr(model, argument), *allowed)
    own = {argument: getattr(model, argument) for argument in known.own}
    more = {argument: getattr(model, argument) for argument, default in known.module.items() if getattr(model, argument) != default}
    classifier = {part.removeprefix("classifier_"): more.pop(part) for part in list(more) if part.startswith("classifier_")}
    if classifier:
        more["classifier_parameters"] = classifier
    if "batch_embedding_dim" in more:
        more["batch_embedding_kwargs"] = {"embedding_dim": more.pop("batch_embedding_dim")}
    if "var_activation" in more:
        more["var_activation"] = torch.nn.functional.softplus
    if name == "LinearSCVI" and "use_batch_norm" in more:
        more["use_batch_norm"] = False
    return own, more


def lacking(name: str, argument: str, value: Any, *allowed: Any) -> None:
    """Raise where a setting of ours is another one than scvi-tools' model stands for."""
    if value not in allowed:
        raise StorageError(
            f"{argument}={value!r} of this {name} has no counterpart in scvi-tools, which has {' or '.join(map(repr, allowed))}.",
            "scvi-tools would take it for another model, so nothing was written. model.save() keeps it as it is.",
        )
