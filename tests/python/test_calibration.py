"""What `make calibration` measures with: a right posterior passes, and one that is wrong is seen."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from calibrated import ranks

CELLS = 400


def of_conjugate(scale=1.0, shift=0.0, seed=0):
    """Ranks where z ~ N(0, 1) and x ~ N(z, 1), so that z | x ~ N(x / 2, 1 / 2); of posteriors as much too wide and too high as said."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(CELLS, 5))
    x = rng.normal(z)
    draws = x / 2 + shift + scale * 0.5**0.5 * rng.normal(size=(ranks.DRAWS, *x.shape))
    return ranks.ranks_of(z, draws, rng)


def test_the_exact_posterior_passes():
    found = ranks.summary(of_conjugate())
    assert found["leave the band"] <= 0.2 and found["least p"] > 0.01
    for level in ranks.LEVELS:
        assert found[f"{level:.0%}"] == pytest.approx(level, abs=0.03)


@pytest.mark.parametrize(("wrong", "covers"), [({"scale": 0.5}, 0.59), ({"scale": 2.0}, 0.999), ({"shift": 0.35}, 0.86)])
def test_a_wrong_posterior_is_seen(wrong, covers):
    found = ranks.summary(of_conjugate(**wrong))
    assert found["leave the band"] == 1 and found["least p"] < 1e-6
    assert found["90%"] == pytest.approx(covers, abs=0.03)


def test_the_band_holds_as_often_as_it_says():
    uniform = np.random.default_rng(1).integers(0, ranks.DRAWS + 1, (CELLS, 1000))
    assert ranks.leaves(uniform).mean() == pytest.approx(1 - ranks.CONFIDENCE, abs=0.02)


def test_ranks_count_draws_below_and_share_ties():
    rng = np.random.default_rng(0)
    assert ranks.ranks_of(np.array([0.5, -1.0, 9.0]), np.arange(4.0)[:, None], rng).tolist() == [1, 0, 4]
    assert set(ranks.ranks_of(np.zeros(100), np.zeros((3, 100)), rng)) == {0, 1, 2, 3}


def test_reliability_and_its_gap():
    rng = np.random.default_rng(0)
    chance = rng.random(20_000)
    honest = ranks.reliability(chance, rng.random(20_000) < chance)
    assert len(honest) == 10 and ranks.gap(honest) < 0.02
    bold = ranks.reliability(np.where(chance > 0.5, 0.99, 0.01), rng.random(20_000) < chance)
    assert ranks.gap(bold) == pytest.approx(0.24, abs=0.02)
