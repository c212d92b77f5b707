"`frequency_test` can fail, and the oracle is right item by item."

import pytest
import torch

from discrete_diffusion.forward import Absorbing, Uniform, linear_schedule
from discrete_diffusion.losses import oracle
from discrete_diffusion.worlds import (
    all_states,
    frequency_test,
    full_posterior,
    loo_posterior,
    random_world,
)

WORLD = random_world(3, 2, seed=1)


def drawn(n=20_000):
    return WORLD.sample(n, torch.Generator().manual_seed(0))


def test_honest_draws_pass_flat_or_as_a_table():
    for law in (WORLD.law, WORLD.p):
        assert frequency_test(drawn(), law, turned=WORLD.p.T) < 0.02


def test_draws_of_another_law_fail():
    with pytest.raises(AssertionError, match="draws lie"):
        frequency_test(drawn().flip(1), WORLD.law)


def test_a_mistake_that_would_pass_fails():
    near = 0.999 * WORLD.law + 0.001 / 9
    with pytest.raises(AssertionError, match="nearly is .* away, needed"):
        frequency_test(drawn(), WORLD.law, nearly=near)


@pytest.mark.parametrize(
    "reads, posterior",
    [("full", full_posterior), ("leave-one-out", loo_posterior)],
)
def test_the_oracle_has_each_items_own_time(reads, posterior):
    noise = Uniform(3, linear_schedule())
    every, times = all_states(3, 2), torch.linspace(0.1, 1, 9).double()
    answer = oracle(WORLD, noise, reads)(every, times).exp()
    for i, t in enumerate(times.tolist()):
        clean = torch.arange(3)[:, None]
        want = posterior(WORLD, noise.probs(clean, t)[:, 0])[i]
        torch.testing.assert_close(answer[i], want, rtol=0, atol=1e-12)


def test_under_masks_it_needs_no_time():
    masks = Absorbing(3, linear_schedule())
    page = torch.tensor([[0, 3]])
    answer = oracle(WORLD, masks)(page, None).exp()[0]
    torch.testing.assert_close(answer[0], torch.eye(3)[0].double())
    want = WORLD.p[0] / WORLD.p[0].sum()
    torch.testing.assert_close(answer[1], want)


def test_another_reading_is_refused():
    with pytest.raises(ValueError, match="reads: expected one of"):
        oracle(WORLD, Uniform(3, linear_schedule()), "loo")
