"""Pictures show the numbers that they are of."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PatchCollection, PathCollection
from matplotlib.colors import to_hex
from scipy.stats import beta

from scelbo import SCANVI, SCVI, errors, pl
from scelbo.data.simulate import counts, spots
from scelbo.pl.fit import label_unseen, reliability
from scelbo.pl.style import FAINT, FIRST, HUES, MUTED, SECOND, colours_of


@pytest.fixture
def tissue():
    return spots(40, 60, 30, seed=1)[1]


def patches(axes):
    return [c for c in axes.collections if isinstance(c, PatchCollection)]


def test_a_panel_for_each_type_is_coloured_by_its_share(tissue):
    shares = tissue.obsm["proportions"]
    figure = pl.proportions(tissue, types=["type2", "type0"], size=0.8)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["type2", "type0"]
    (drawn,) = patches(figure.axes[0])
    np.testing.assert_allclose(drawn.get_array(), shares["type2"])
    assert drawn.get_clim() == (0, shares[["type2", "type0"]].to_numpy().max())
    boxes = [path.get_extents() for path in drawn.get_paths()]
    np.testing.assert_allclose([(box.x0 + box.x1) / 2 for box in boxes], tissue.obsm["spatial"][:, 0], atol=1e-6)
    assert boxes[0].width == pytest.approx(0.8, rel=1e-3)  # neighbours are 1 apart
    assert pl.proportions(tissue, shares[["type1"]]).axes[0].get_title() == "type1"


@pytest.mark.parametrize("types", [None, ["type1", "type3"]])
def test_slices_of_pies_have_the_shares_angles(tissue, types):
    shares = tissue.obsm["proportions"]
    axes = pl.proportions(tissue, types=types, kind="pie").axes[0]
    drawn = {c.get_label(): c for c in patches(axes)}
    assert list(drawn) == (list(shares) if types is None else [*types, "others"])
    seen = shares.loc[shares["type1"] > 0.005, "type1"]
    areas = []
    for path in drawn["type1"].get_paths():
        x, y = path.to_polygons()[0].T
        areas.append(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)
    np.testing.assert_allclose(np.array(areas) / (np.pi * 0.45**2), seen, atol=0.01)


def test_images_rows_go_down(tissue):
    assert not pl.proportions(tissue).axes[0].yaxis_inverted()
    tissue.uns["spatial"] = {}
    assert pl.proportions(tissue).axes[0].yaxis_inverted()


def test_what_is_not_there_is_told(tissue):
    with pytest.raises(errors.ArgumentError, match="Did you mean 'type1'"):
        pl.proportions(tissue, types="typ1")
    with pytest.raises(errors.ArgumentError, match="panels, pie"):
        pl.proportions(tissue, kind="bars")
    with pytest.raises(errors.SetupError, match="get_proportions"):
        pl.proportions(tissue, "shares")
    with pytest.raises(errors.SetupError, match="basis"):
        pl.proportions(tissue, basis="X_space")
    with pytest.raises(errors.SetupError, match="30 spots of the table are not in adata"):
        pl.proportions(tissue[:10], tissue.obsm["proportions"])


# ---------------------------------------------------------------------- cells
@pytest.fixture
def cells():
    adata = counts(120, 30, seed=1)
    rng = np.random.default_rng(0)
    adata.obsm["X_umap"] = 5.0 * adata.obs["cell_type"].cat.codes.to_numpy()[:, None] + rng.normal(size=(120, 2))
    return adata


def dots(axes):
    return [c for c in axes.collections if isinstance(c, PathCollection) and len(c.get_offsets())]


def test_cells_have_their_groups_colour_in_scattered_order(cells):
    cells.obs.loc[cells.obs_names[:7], "cell_type"] = np.nan
    axes = pl.latent(cells, "cell_type").axes[0]
    unknown, known = dots(axes)
    np.testing.assert_array_equal(unknown.get_offsets(), cells.obsm["X_umap"][:7])
    assert to_hex(unknown.get_facecolor()[0]).upper() == FAINT
    at = {tuple(place): i for i, place in enumerate(cells.obsm["X_umap"])}
    rows = [at[tuple(place)] for place in known.get_offsets().data]
    assert sorted(rows) == list(range(7, 120))
    assert rows != sorted(rows)
    colours = colours_of(list(cells.obs["cell_type"].cat.categories))
    assert [to_hex(c).upper() for c in known.get_facecolor()] == [colours[g] for g in cells.obs["cell_type"].iloc[rows]]


def test_groups_that_lie_apart_are_named_at_their_medians(cells):
    axes = pl.latent(cells, "cell_type").axes[0]
    medians = pd.DataFrame(cells.obsm["X_umap"]).groupby(cells.obs["cell_type"].to_numpy()).median()
    assert [t.get_text() for t in axes.texts] == list(medians.index)
    np.testing.assert_allclose([t.xy for t in axes.texts], medians)
    assert axes.get_legend() is None
    mixed = pl.latent(cells, "batch").axes[0]
    assert not mixed.texts
    assert [t.get_text() for t in mixed.get_legend().get_texts()] == list(cells.obs["batch"].cat.categories)
    assert pl.latent(cells, "batch", label=True).axes[0].texts


def test_names_that_would_lie_on_each_other_step_aside():
    figure, axes = pl.style.one_panel()
    axes.scatter([0, 0, 0, 5], [0, 0.01, -0.01, 5])
    pl.style.name_places(axes, [0, 0, 0], [0, 0.01, -0.01], ["first", "second", "third"])
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in axes.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_numbers_on_both_sides_of_zero_are_centred(cells):
    axes = pl.latent(cells, np.linspace(-1, 3, 120)).axes[0]
    (drawn,) = dots(axes)
    assert drawn.get_clim() == (-3, 3)
    one_sided = np.linspace(1, 3, 120)
    one_sided[:5] = np.nan
    drawn = dots(pl.latent(cells, one_sided).axes[0])
    assert len(drawn) == 2
    assert drawn[1].get_cmap().name == "viridis"


def test_more_groups_than_hues_keep_colours_apart():
    assert list(colours_of("ab").values()) == [FIRST, SECOND]
    assert len(set(colours_of(range(21)).values())) == 3 * len(HUES)
    assert colours_of(range(8))[7] == "#003959"


def test_places_that_are_not_there_are_told(cells):
    with pytest.raises(errors.SetupError, match="Did you mean 'X_umap'"):
        pl.latent(cells, basis="X_uma")
    with pytest.raises(errors.ArgumentError, match="Did you mean 'batch'"):
        pl.latent(cells, "bach")
    with pytest.raises(errors.ArgumentError, match="3 values for 120 cells"):
        pl.latent(cells, [1, 2, 3])
    del cells.obsm["X_umap"]
    with pytest.raises(errors.SetupError, match="Give the model"):
        pl.latent(cells)


def test_abundance_is_told_by_group():
    table = pd.DataFrame({"log_fold_change": [2.0, 3, -1, 0.1], "is_da_fdr_0.05": [True, True, True, False]})
    axes = pl.abundance(table, ["b", "b", "a", "a"]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    colours = {to_hex(c.get_facecolor()[0]).upper(): sorted(c.get_offsets()[:, 0].tolist()) for c in dots(axes)}
    assert colours == {MUTED: [0.1], FIRST: [-1], SECOND: [2, 3]}
    with pytest.raises(errors.ArgumentError, match="contrast"):
        pl.abundance(table[["log_fold_change"]], table.index)


def test_doublets_are_counted_by_lane():
    table = pd.DataFrame({"lane": list("xxxy"), "probability": [0.1, 0.1, 0.9, 0.2], "call": [False, False, True, False]})
    figure = pl.doublets(table, bins=10)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["x: 33.3% of 3 cells called", "y: 0.0% of 1 cells called"]
    singlet, doublet = (patch.get_data().values for patch in figure.axes[0].patches)
    assert singlet.sum() == 2
    assert doublet[9] == 1


# ---------------------------------------------------------------------- features
def test_a_volcano_names_the_best_of_both_sides():
    p = [1, 1, 1, 1, 0.99, 0.98, 0.1]
    table = pd.DataFrame({"lfc_mean": [5, 4, 3, 2, -1, -0.5, -3], "proba_de": p, "bayes_factor": [9, 8, 7, 6, 5, 4, -2]})
    table.index = ["u1", "u2", "u3", "u4", "d1", "d2", "no"]
    named = lambda n: {t.get_text() for t in pl.volcano(table, n_labels=n).axes[0].texts}  # noqa: E731
    assert named(3) == {"u1", "d1", "u2"}
    assert named(6) == {"u1", "u2", "u3", "u4", "d1", "d2"}
    colours = {to_hex(c).upper() for c in dots(pl.volcano(table).axes[0])[0].get_facecolor()}
    assert colours == {MUTED, SECOND}
    with pytest.raises(errors.ArgumentError, match="change"):
        pl.volcano(table[["proba_de", "bayes_factor"]])


def test_topics_show_features_or_groups():
    top = pd.DataFrame({"topic": np.repeat(["topic_0", "topic_1"], 2), "rank": [1, 2] * 2, "feature": list("abca")})
    top["probability"] = [0.4, 0.3, 0.5, 0.1]
    figure = pl.topics(top, chosen=["topic_1"])
    (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["c", "a"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [50, 10])
    shares = pd.DataFrame({"topic_0": [1.0, 0.8, 0.1], "topic_1": [0.0, 0.2, 0.9]})
    axes = pl.topics(shares, ["x", "x", "y"]).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_array(), [[0.1, 0.9], [0.9, 0.1]])  # the first group on top
    with pytest.raises(errors.ArgumentError, match="Did you mean 'topic_1'"):
        pl.topics(top, chosen=["topic1"])


def test_loadings_are_those_farthest_from_the_average_gene():
    table = pd.DataFrame({"Z_0": [3.0, -1, 0, 0.5], "Z_1": [0.0, 0, 1, 0]}, index=list("abcd"))
    axes = pl.loadings(table, n=2, dims=["Z_0"]).axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [3 - 0.625, -1 - 0.625])


# ---------------------------------------------------------------------- fit
def test_training_curves_are_the_history(cells):
    SCVI.setup_anndata(cells)
    model = SCVI(cells, n_latent=3, n_hidden=16)
    model.train(max_epochs=3, progress=False)
    line, *_ = pl.training(model).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), model.history["elbo_train"]["elbo_train"])
    assert [a.get_ylabel() for a in pl.training(model, ["elbo", "kl_local"]).axes] == ["- ELBO, nats a cell", "KL, nats a cell"]
    with pytest.raises(errors.ArgumentError, match="metric"):
        pl.training(model, "nonsense")
    assert pl.latent(model, "batch", basis=(0, 2)).axes[0].get_ylabel() == "latent dimension 2"
    del cells.obsm["X_umap"]
    at = dots(pl.latent(model).axes[0])[0].get_offsets()
    assert np.var(at[:, 0]) == pytest.approx(np.linalg.eigvalsh(np.cov(model.get_latent_representation().T, bias=True))[-1], rel=1e-3)
    check = model.posterior_predictive_check(n_samples=4, seed=0)
    lines = pl.calibration(check).axes[0].lines
    np.testing.assert_allclose(lines[-2].get_ydata(), check.calibration["all"])


def test_reliability_is_what_was_counted():
    chance = pd.DataFrame({"a": [0.95, 0.92, 0.35, 0.6], "b": [0.05, 0.08, 0.65, 0.4]})
    table, error = reliability(chance, np.array(["a", "b", "b", "other"]))
    np.testing.assert_allclose(table["said"], [0.65, 0.935])
    np.testing.assert_allclose(table["right"], [1, 0.5])
    np.testing.assert_allclose(table["low"], beta.ppf(0.05, [1.5, 1.5], [0.5, 1.5]))
    assert table["high"].iloc[0] == 1
    assert error == pytest.approx((0.35 + 2 * 0.435) / 3)
    with pytest.raises(errors.ArgumentError, match="None of the true labels"):
        reliability(chance, np.array(["c"] * 4))


def test_labels_that_training_saw_are_not_asked(cells):
    cells.obs["known"] = cells.obs["cell_type"].astype(str).where(np.arange(120) % 3 > 0, "unknown")
    SCANVI.setup_anndata(cells, labels_key="known", unlabeled_category="unknown")
    model = SCANVI(cells, n_latent=3, n_hidden=16)
    model.train(max_epochs=2, train_size=0.8, progress=False)
    unseen = label_unseen(model)
    assert unseen[cells.obs["known"] == "unknown"].all()
    assert unseen[model.validation_indices].all()
    assert not unseen[np.intersect1d(model.train_indices, np.flatnonzero(cells.obs["known"] != "unknown"))].any()
    title = pl.calibration(model, "cell_type").axes[0].get_title(loc="left")
    assert f"{unseen.sum()} cells" in title
    with pytest.raises(errors.ArgumentError, match="Did you mean 'cell_type'"):
        pl.calibration(model, "celltype")
