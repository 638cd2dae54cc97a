"""Networks that several data sets share."""

import torch

from scelbo.nn import BatchNorm, GroupedNorm


def test_each_group_has_statistics_of_its_own():
    """A grouped norm is a batch norm for each group with one scale and shift, in training and after it."""
    rng = torch.Generator().manual_seed(0)
    grouped, alone = GroupedNorm(5, 3, momentum=0.1), [BatchNorm(5, momentum=0.1) for _ in range(3)]
    for training in (True, True, False):
        for g, norm in enumerate(alone):
            y = (1 + g) * torch.randn(2, 10, 5, generator=rng) + g
            torch.testing.assert_close(grouped.train(training)(y, g), norm.train(training)(y.flatten(0, 1)).view_as(y))
    assert not torch.allclose(grouped.running_mean[0], grouped.running_mean[2])
