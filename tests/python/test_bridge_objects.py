"""Whole objects between R and Python: values are exact, and what a number or a table is, is told."""

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scelbo import bridge, bridge_objects


@pytest.mark.parametrize(("values", "kind"), [([1.0, 2.5], "float32"), ([0.1], "float64"), ([np.nan], "float64"), ([1e300], "float64")])
def test_numbers_are_narrow_only_where_that_loses_nothing(values, kind):
    sent = np.array(values)
    got = bridge.exact(sent)
    assert got.dtype == kind
    np.testing.assert_array_equal(got, values)
    sent[:] = -1  # R may free or change its own
    assert got[0] != -1


def test_the_bits_of_a_missing_number_stay():
    missing = np.array([0x7FF00000000007A2], "uint64").view("float64")  # R's NA
    assert bridge.exact(missing).view("uint64")[0] == 0x7FF00000000007A2


def test_matrices_go_either_way():
    matrix = sp.random(4, 6, 0.5, format="csc", random_state=0)
    slots = matrix.indices, matrix.indptr, matrix.data
    np.testing.assert_array_equal(bridge.by_rows(*slots, 6, 4).toarray(), matrix.toarray().T)
    np.testing.assert_array_equal(bridge.by_columns(*slots, 4, 6).toarray(), matrix.toarray())
    adata = AnnData(bridge.by_rows(*slots, 6, 4))
    told = bridge.piece(adata, "X")
    np.testing.assert_array_equal(told["i"], matrix.indices)
    np.testing.assert_array_equal(told["x"], matrix.data)
    assert told["dim"] == [4, 6]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"), (1, "vector"), ("a", "vector"), (np.array([1, 2]), "vector"), (["a", "b"], "vector"), (np.ones((2, 2)), "dense"),
        ({"a": 1}, "list"), (pd.DataFrame({"a": [1]}), "frame"), (np.array([(1,)], dtype=[("a", int)]), "records"), (sp.eye(2), "sparse"),
        (print, "other"), (pd.Categorical(["a"]), "vector"),
    ],
)  # fmt: skip
def test_each_value_has_a_kind(value, kind):
    assert bridge_objects._plain(value)["kind"] == kind


def test_an_array_of_one_number_is_no_number():
    assert bridge_objects._plain(np.array([3]))["one"]
    assert not bridge_objects._plain(3)["one"]


def test_text_stays_text_in_a_file_and_may_be_missing(tmp_path):
    adata = AnnData(np.ones((3, 1), "float32"), obs=pd.DataFrame({"text": ["b", "a", "a"], "some": ["b", None, "a"]}, index=list("xyz")))
    adata.uns["inside"] = {"frame": pd.DataFrame({"some": ["b", None]}, index=["1", "2"])}
    bridge.write(adata, str(tmp_path / "cells.h5ad"))
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert back.obs["text"].tolist() == ["b", "a", "a"]
    assert back.obs["text"].dtype == object
    assert back.obs["some"].isna().tolist() == [False, True, False]
    assert back.uns["inside"]["frame"]["some"].isna().tolist() == [False, True]
