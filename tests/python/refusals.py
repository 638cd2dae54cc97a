"""What is said to bad input, and whether the user's object is as it was."""

import hashlib
import pickle
import warnings

import numpy as np
import pandas as pd
from cases import CASES
from scipy import sparse

from scelbo import errors

FIRST = list({case.model: case for case in reversed(CASES)}.values())[::-1]
"""A row for each model."""


def fingerprint(adata):
    """All bytes of an object: values, names, types."""

    def told(x):
        if sparse.issparse(x):
            return x.format, x.shape, [told(getattr(x, part)) for part in ("data", "indices", "indptr") if hasattr(x, part)]
        if isinstance(x, np.ndarray):
            return x.dtype.str, x.shape, pickle.dumps(x.tolist()) if x.dtype == object else x.tobytes()
        if isinstance(x, pd.DataFrame):
            return told(x.index), [(name, str(x[name].dtype), told(x[name].array)) for name in x]
        if isinstance(x, pd.Index | pd.api.extensions.ExtensionArray):
            return repr(getattr(x, "categories", None)), pickle.dumps(list(x))
        return {str(k): told(v) for k, v in x.items()} if hasattr(x, "items") else repr(x)

    slots = ("X", "obs", "var", "layers", "obsm", "varm", "obsp", "varp", "uns")
    return hashlib.sha256(repr([told(getattr(adata, slot)) for slot in slots]).encode()).hexdigest()


def asked(call, adata, **arguments):
    """What is said: the error, or the warnings, of ours. Anything else that is raised goes through."""
    before = fingerprint(adata)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            call(adata, **arguments)
        except errors.ScelboError as error:
            return type(error), str(error)
        finally:
            now = fingerprint(adata)
            adata.uns.pop("scelbo", None)
            assert before in (now, fingerprint(adata)), "the object was changed"
    ours = [str(w.message) for w in heard if issubclass(w.category, errors.DataWarning)]
    return (errors.DataWarning, " ".join(ours)) if ours else (None, "")
