"""Model: what a user holds. A dataclass whose fields are the hyper-parameters of its module."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, dataclass_transform, get_type_hints

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData

from scelbo import kernels, scvi_tools, settings, storage, transfer
from scelbo.data import Batch, Cells, Columns, Loader, Setup, index_of
from scelbo.data.modalities import keys_of
from scelbo.errors import ArgumentError, DataError, NotTrainedError, SetupError, of_kind, unknown
from scelbo.module import Module
from scelbo.train import call, preflight
from scelbo.train.options import PlanOptions, TrainOptions

MODELS: dict[str, type[Model]] = {}
"""Every model class that has been defined, by name: what a saved model may be."""


@dataclass_transform(kw_only_default=True)
@dataclass(eq=False, repr=False)
class Model:
    """Subclasses add hyper-parameters as fields, ``Cells`` (what a minibatch holds), ``build`` (the maths), and questions.

    Parameters
    ----------
    adata
        Data that ``setup_anndata`` has seen.
    setup
        Instead of the setup noted in ``adata`` (used when a model is loaded).
    """

    adata: AnnData | None
    setup: Setup = field(default=None, kw_only=True)  # type: ignore[assignment]  # __post_init__ finds it
    Cells: ClassVar[type[Batch]] = Cells
    modalities: ClassVar[dict[str, str]] = {"rna": "x"}
    regions: ClassVar[str] = "x"
    """What users call the matrices that the model explains -> their fields; the field whose features are regions of the genome."""
    plan: ClassVar[PlanOptions] = PlanOptions()
    """The training plan's defaults for this model."""
    plans: ClassVar[dict[str, PlanOptions]] = {"scvi-tools": PlanOptions(n_epochs_kl_warmup=400)}
    """Other plans, by the name that ``train(plan=...)`` takes."""
    training: ClassVar[TrainOptions] = TrainOptions()
    """``train``'s defaults for this model."""

    def __init_subclass__(cls) -> None:
        dataclass(kw_only=True, eq=False, repr=False)(cls)
        MODELS[cls.__name__] = cls

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        known = cls.hyperparameters()
        for name in kwargs:
            if name not in inspect.signature(cls.__init__).parameters:
                raise ArgumentError(unknown(f"{cls.__name__}() argument", name, known))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, kind in self.hyperparameters().items():
            of_kind(name, getattr(self, name), kind)
        loaded = self.setup is not None
        if not loaded:
            self.setup = Setup.stored(self.adata, type(self).__name__)
        if not self.setup.features:
            self.setup = self.setup.bind(self.source(), self.Cells, self.features(self.source()))
        self.setup.require_labels(type(self).__name__, {name: getattr(self, name) for name in self.hyperparameters()})
        self._data: Columns | None = None
        with settings.private_seed():
            self.module: Module = self.build(self.setup.of_reference())
            if self.setup.reference is not None:
                transfer.grow(self.module, self.setup)
        self.module.eval()
        if not loaded:  # else the weights will say what was observed
            self.module.observe(self.read())
        self.is_trained, self.trained_epochs = False, 0
        self.optimizer_state: dict[str, Any] | None = None
        self.freeze: dict[str, bool] | None = None  # set on a query's model: what its reference lets learn
        self.outcome, self.calibration = dict[str, Any](), dict[str, Any]()  # how the last training ended; see conclude
        self._history = pd.DataFrame()
        self.train_indices = self.validation_indices = self.test_indices = np.array([], dtype=np.int64)

    # ------------------------------------------------------------------ what a subclass says
    def build(self, setup: Setup) -> Module:
        """The module for data of this setup; read the hyper-parameters from ``self``."""
        raise TypeError(f"{type(self).__name__} must say its build(setup)")

    def features(self, adata: AnnData) -> Iterable[str] | None:
        """Those of the first matrix that a new model reads; None for all."""
        return None

    def beside(self, train: np.ndarray) -> Callable[[np.random.Generator], np.ndarray] | None:
        """Which further cells go along with the minibatches of a pass over the cells ``train``; None for none."""
        return None

    def streams(self) -> list[np.ndarray]:
        """Rows of the data sets that train side by side, as many of each in a minibatch: one, unless a model says otherwise."""
        return [np.arange(self.read().n_obs)]

    def conclude(self) -> None:
        """What is taken from held-out cells after training: plain data, kept in ``calibration`` and saved with the model."""

    @classmethod
    def hyperparameters(cls) -> dict[str, Any]:
        """Name -> type of every constructor argument."""
        hints = get_type_hints(cls)
        return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.name not in ("adata", "setup")}

    # ------------------------------------------------------------------ data
    @classmethod
    def setup_anndata(cls, adata: AnnData, *, allow_non_counts: bool = False, **keys: str | Sequence[str] | None) -> None:
        """Say which layer and which columns of ``obs`` the model reads; everything is checked here, and nothing is changed.

        Parameters
        ----------
        adata
            Cells x features, in memory or on disk (:func:`scelbo.data.read_backed`). Only ``uns["scelbo"]`` is written.
        allow_non_counts
            Accept values that are negative or not whole (for ``gene_likelihood="normal"``).
        **keys
            The arguments that the model's ``Cells`` declares: ``layer, batch_key, labels_key, ...``; None leaves one out.

        Raises
        ------
        DataError
            With a list of everything that is wrong.
        """
        given = {k: v for k, v in keys.items() if v is not None}
        Setup.of(adata, cls.Cells, given, allow_non_counts).store(adata, cls.__name__)

    @classmethod
    def setup_mudata(
        cls, mdata: MuData, *, modalities: dict[str, str] | None = None, allow_non_counts: bool = False, **keys: str | Sequence[str] | None
    ) -> None:
        """The same for several modalities of cells: which layers, of which modality, and which columns of ``obs``.

        Parameters
        ----------
        mdata
            Modalities that share cells, some of which may be missing in some. Only ``uns["scelbo"]`` is written.
        modalities
            Argument -> the modality that it is about: ``{"rna_layer": "rna", "protein_layer": "adt", "batch_key": "rna"}``. By default
            each layer in the modality that its argument is named after, and columns in ``mdata.obs`` or wherever they are found.
        allow_non_counts, **keys
            As in :meth:`setup_anndata`; layers are ``rna_layer, atac_layer, protein_layer``, as far as the model reads them.
        """
        given = keys_of(mdata, cls.Cells, modalities, {k: v for k, v in keys.items() if v is not None})
        Setup.of(mdata, cls.Cells, given, allow_non_counts).store(mdata, cls.__name__)

    check = classmethod(preflight.check)
    save_as_scvi_tools = scvi_tools.save

    def source(self, adata: AnnData | None = None) -> AnnData:
        """The cells that a question is about: ``adata``, or the model's own."""
        if adata is not None:
            return adata
        if self.adata is None:
            raise SetupError("This model was loaded without data.", "Give the data: adata=..., or load it with them.")
        return self.adata

    def cell_names(self, adata: AnnData | None = None, indices: Any = None) -> pd.Index:
        """Names of the cells asked for, in the order asked for."""
        names = self.source(adata).obs_names
        return names[index_of(len(names), indices)]

    @property
    def held_out_indices(self) -> np.ndarray:
        """Rows of the model's cells that no training has seen."""
        return np.concatenate([self.validation_indices, self.test_indices])

    def read(self, adata: AnnData | None = None) -> Columns:
        """All cells of ``adata`` (default: the training data) as the model reads them; features are aligned by name."""
        source = self.source(adata)
        if source is not self.adata:
            return self.setup.read(source, self.Cells)
        if self._data is None:
            self._data = self.setup.read(self.adata, self.Cells)
        elif not self._data.intact:
            raise DataError(
                "The counts in adata were changed in place since the model read them.",
                "Normalise a copy, or keep the counts in a layer: adata.layers['counts'] = adata.X.copy(), and set up with layer='counts'.",
            )
        return self._data

    def batches(self, adata: AnnData | None = None, indices: Any = None, batch_size: int | None = None) -> Iterator[Batch]:
        """The cells asked for in minibatches, in the order asked for, where the module is."""
        data = self.read(adata)
        for cells in Loader(data, index_of(data.n_obs, indices), batch_size or 512):
            yield cells if self.device.type == "cpu" else cells.to(self.device)

    def require_trained(self) -> None:
        """Raise unless the model was trained."""
        if not self.is_trained:
            raise NotTrainedError(f"This {type(self).__name__} has not been trained.", "Call model.train() first.")

    # ------------------------------------------------------------------ training
    train = call.train

    @property
    def history(self) -> dict[str, pd.DataFrame]:
        """Name -> data frame of one column of that name, by epoch. ``elbo_*`` is minus the ELBO a cell: lower is better."""
        return {name: self._history[[name]].dropna() for name in self._history}

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.module.parameters()).device

    def to_device(self, device: str | int | torch.device) -> None:
        """Move the module, e.g. to ``"cuda:0"`` or ``"cpu"``."""
        self.module.to(device)

    # ------------------------------------------------------------------ storage
    def save(self, folder: str | Path, *, overwrite: bool = False, save_anndata: bool = False) -> None:
        """Write ``model.json`` and ``weights.safetensors`` (and ``data.h5ad`` on request) into ``folder``, whole or not at all."""
        storage.save(self, folder, overwrite=overwrite, save_anndata=save_anndata)

    @classmethod
    def load(cls, folder: str | Path, adata: AnnData | None = None) -> Self:
        """Open a saved model, ours or scvi-tools', with its data (``adata``, or those in the folder) or without. No code in it is run."""
        return storage.load(folder, adata, MODELS, expected=cls)

    def __repr__(self) -> str:
        said = ", ".join(f"{k}={getattr(self, k)!r}" for k in self.hyperparameters() if getattr(self, k) != getattr(type(self), k))
        state = f"trained {self.trained_epochs} epochs" if self.is_trained else "not trained"
        return f"{type(self).__name__}({said}): {self.setup.n_vars} features, {state}, {kernels.in_words(*self.module.parameters())}"
