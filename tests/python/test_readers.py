"""Counts of reads become fragments, and what is no count of reads is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, ImplicitModificationWarning, read_h5ad
from scipy import sparse

from scelbo.data import reads_to_fragments
from scelbo.errors import ArgumentError, DataError, SetupError

READS = np.array([[2, 0, 4, 1], [0, 2, 3, 2], [5, 0, 0, 2]], "float32")
FRAGMENTS = np.array([[1, 0, 2, 1], [0, 1, 2, 1], [3, 0, 0, 1]], "float32")


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, np.array])
def test_fragments_are_half_of_the_reads_rounded_up(kind):
    adata = AnnData(kind(READS))
    reads_to_fragments(adata)
    fragments = adata.layers["fragments"]
    assert isinstance(fragments, sparse.csr_matrix) and fragments.dtype == np.float32
    np.testing.assert_array_equal(fragments.toarray(), FRAGMENTS)
    x = adata.X if kind is np.array else adata.X.toarray()
    np.testing.assert_array_equal(x, READS)


@pytest.mark.parametrize("dtype", ["int32", "uint16", "float64"])
def test_fragments_are_a_copy_of_their_own(dtype):
    adata = AnnData(sparse.csr_matrix(READS.astype(dtype)))
    reads_to_fragments(adata)
    adata.X.data[:] = 0
    adata.X.eliminate_zeros()  # it moves the indices, too
    np.testing.assert_array_equal(adata.layers["fragments"].toarray(), FRAGMENTS)


def test_layers_are_read_and_named():
    adata = AnnData(np.zeros_like(READS), layers={"reads": sparse.csr_matrix(READS)})
    reads_to_fragments(adata, layer="reads", fragment_layer="halved")
    np.testing.assert_array_equal(adata.layers["halved"].toarray(), FRAGMENTS)
    np.testing.assert_array_equal(adata.layers["reads"].toarray(), READS)
    with pytest.raises(SetupError, match=r"layer 'raeds' is unknown. Did you mean 'reads'\?"):
        reads_to_fragments(adata, layer="raeds")
    with pytest.raises(ArgumentError, match="where the reads stand"):
        reads_to_fragments(adata, layer="reads", fragment_layer="reads")


def test_values_stored_twice_are_one_count():
    twice = sparse.csr_matrix((np.array([1, 1, 2], "float32"), np.array([0, 0, 1]), np.array([0, 3])), shape=(1, 2))
    adata = AnnData(twice)
    reads_to_fragments(adata)
    np.testing.assert_array_equal(adata.layers["fragments"].toarray(), [[1, 1]])


@pytest.mark.parametrize("column", ["modality", "feature_types"])
def test_genes_keep_their_counts(column):
    genes = np.array([[1, 1], [1, 3], [1, 0]], "float32")  # more ones than twos, which stops no peak
    kinds = ["Gene Expression"] * 2 + ["Peaks"] * 4
    adata = AnnData(sparse.csr_matrix(np.hstack([genes, READS])), var=pd.DataFrame({column: kinds}, index=list("abcdef")))
    reads_to_fragments(adata)
    np.testing.assert_array_equal(adata.layers["fragments"].toarray(), np.hstack([genes, FRAGMENTS]))
    adata.var[column] = "Gene Expression"
    with pytest.raises(DataError, match="has no 'Peaks'"):
        reads_to_fragments(adata)


@pytest.mark.parametrize("values", [[1, 1, 1, 2], [1, 1, 1, 1], [3, 1, 2, 1]])
def test_fragments_are_not_halved_again(values):
    adata = AnnData(sparse.csr_matrix(np.array([values], "float32")))
    with pytest.raises(DataError, match=r"look like fragments already: . values are 1 and only . are 2") as raised:
        reads_to_fragments(adata)
    assert "Use them as they are" in raised.value.hint
    assert not adata.layers


def test_a_real_call_twice():
    draw = np.random.default_rng(0)
    both = draw.poisson(0.5, (300, 80))  # fragments with both ends in the peak, and with one
    adata = AnnData(sparse.csr_matrix((2 * both + (draw.random(both.shape) < 0.05)).astype("float32")))
    reads_to_fragments(adata)
    with pytest.raises(DataError, match="fragments already"):
        reads_to_fragments(adata, layer="fragments", fragment_layer="again")


@pytest.mark.parametrize("odd", [-2.0, 1.5, np.nan])
def test_what_is_no_count_is_refused(odd):
    reads = READS.copy()
    reads[0, 0] = odd
    with pytest.raises(DataError, match="whole numbers from zero"):
        reads_to_fragments(AnnData(reads))


def test_reads_on_disk(tmp_path):
    AnnData(sparse.csr_matrix(READS)).write_h5ad(tmp_path / "reads.h5ad")
    adata = read_h5ad(tmp_path / "reads.h5ad", backed="r")
    reads_to_fragments(adata)
    np.testing.assert_array_equal(adata.layers["fragments"].toarray(), FRAGMENTS)


def test_a_view_becomes_an_anndata_of_its_own():
    whole = AnnData(sparse.csr_matrix(np.vstack([READS, READS])))
    part = whole[:3]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImplicitModificationWarning)
        reads_to_fragments(part)
    np.testing.assert_array_equal(part.layers["fragments"].toarray(), FRAGMENTS)
    assert not whole.layers
