"""The two players of an adversary, in one backward pass."""

import torch
from torch.nn.functional import cross_entropy, log_softmax

from scelbo import settings
from scelbo.nn import Adversary
from scelbo.train.options import PlanOptions


def _game():
    with settings.private_seed(0):
        return Adversary(4, 3), torch.randn(10, 4, requires_grad=True), torch.arange(10) % 3


def test_each_player_moves_only_itself():
    adversary, z, origin = _game()
    penalties = adversary.penalties(z, origin)
    penalties["fooling"].backward(retain_graph=True)
    assert all(p.grad is None for p in adversary.parameters())
    assert z.grad.abs().sum() > 0
    z.grad = None
    penalties["adversary"].backward()
    assert z.grad is None
    assert all(p.grad.abs().sum() > 0 for p in adversary.parameters())


def test_what_they_minimise():
    adversary, z, origin = _game()
    penalties = adversary.penalties(z, origin)
    logits = adversary(z)
    torch.testing.assert_close(penalties["adversary"], cross_entropy(logits, origin))
    others = torch.ones_like(logits).scatter_(1, origin[:, None], 0.0) / 2
    torch.testing.assert_close(penalties["fooling"], -(others * log_softmax(logits, -1)).sum(-1).mean())


def test_the_adversary_fades_as_the_kl_sets_in():
    assert PlanOptions().weights(0.25)["fooling"] == 0.75
    assert PlanOptions(scale_adversarial_loss=5.0).weights(0.25)["adversary"] == 5.0
