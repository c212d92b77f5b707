"""Two models on the same items are compared by the differences of the items."""

import math

import pytest
import torch

from discrete_diffusion.evaluation import Bits, bits_per_dim, difference
from discrete_diffusion.forward import Absorbing, linear_schedule
from discrete_diffusion.losses import exact_bound, nats_to_bits
from discrete_diffusion.worlds import all_states


def model(scale):
    logits = scale * torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    return lambda x_t, t, y=None: logits.expand(*x_t.shape, 3)


def report(values):
    each = torch.tensor(values, dtype=torch.float64)
    return Bits(each.mean(), 0.0, 0.0, 0.0, 0.0, 0.0, 1, 2, len(each), each)


def test_mean_and_error_by_hand():
    mean, error = difference(report([1.0, 2.0, 4.0]), report([0.0, 1.0, 1.0]))
    assert mean == pytest.approx(5 / 3)
    spread = math.sqrt((2 * (1 - 5 / 3) ** 2 + (3 - 5 / 3) ** 2) / 2)
    assert error == pytest.approx(spread / math.sqrt(3))


def test_items_are_those_of_the_enumeration():
    x, masks = all_states(3, 2), Absorbing(3, linear_schedule())
    a, b = (bits_per_dim(model(s), masks, x, 1, passes=2) for s in (1.0, 2.0))
    nats = [exact_bound(model(s), masks, x, 1).total for s in (1.0, 2.0)]
    torch.testing.assert_close(a.each, nats_to_bits(nats[0], 2))
    d = nats_to_bits(nats[0] - nats[1], 2)
    mean, error = difference(a, b)
    assert mean == pytest.approx(d.mean().item(), abs=1e-9)
    assert error == pytest.approx(d.std().item() / 3, abs=1e-9)
    assert a.total == pytest.approx(a.each.mean().item())


def test_what_cannot_be_paired_is_refused():
    a = report([1.0, 2.0])
    without = Bits(1.0, 1.0, 0.0, 0.0, 0.1, 0.1, 1, 2, 2)
    with pytest.raises(ValueError, match="the same 2 items, got 3"):
        difference(a, report([1.0, 2.0, 3.0]))
    with pytest.raises(TypeError, match="values of their items"):
        difference(a, without)


def test_reports_can_be_compared_with_one_another():
    assert report([1.0, 2.0]).items == 2
    assert "bits/dim" in repr(report([1.0, 2.0]))
