"""Pictures show the numbers that they are of."""

import numpy as np
import pytest
from matplotlib.collections import PatchCollection

from scelbo import errors, pl
from scelbo.data.simulate import spots


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
