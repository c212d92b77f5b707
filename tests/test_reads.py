"What a network's answer means comes from the system or the network, and is never guessed where it matters."

import pytest
import torch

from discrete_diffusion.bounds import (
    continuous_bound,
    exact_continuous_bound,
    flow_rate,
    masked_rate,
    score_rate,
    uniform_rate,
)
from discrete_diffusion.ctmc import euler
from discrete_diffusion.d3pm import D3PM, MaskedD3PM
from discrete_diffusion.evaluation import bits_per_dim
from discrete_diffusion.flow import FlowMatching
from discrete_diffusion.forward import (
    Absorbing,
    Uniform,
    cosine_schedule,
    linear_schedule,
)
from discrete_diffusion.losses import bound, exact_bound, step_kl
from discrete_diffusion.posterior import full_from_loo, reading
from discrete_diffusion.samplers import way_back
from discrete_diffusion.sampling import (
    Denoise,
    reverse_rows,
    sample,
    sampler_law,
)
from discrete_diffusion.sedd import Triples, first_jump
from discrete_diffusion.worlds import (
    all_states,
    loo_posterior,
    random_world,
    state_index,
)

UNIFORM = Uniform(3, linear_schedule())
MASKS = Absorbing(3, linear_schedule())
WORLD = random_world(3, 3, seed=1)


def leave_one_out(kernel, said=True):
    "A perfect network of the leave-one-out kind."

    def net(x_t, t, y=None):
        Q = kernel.probs(torch.arange(3)[:, None], float(t[0]))[:, 0]
        return loo_posterior(WORLD, Q)[state_index(x_t, kernel.N)].log()

    if said:
        net.reads = "leave-one-out"
    return net


def far(law):
    return (law - WORLD.law).abs().sum().item() / 2


def test_the_right_reading_is_taken_from_the_network():
    right = far(sampler_law(leave_one_out(UNIFORM), UNIFORM, 3, 64))
    wrong = far(
        sampler_law(leave_one_out(UNIFORM), UNIFORM, 3, 64, reads="full")
    )
    print(
        f"total variation to the data: {right:.4f} read rightly, {wrong:.4f} wrongly"
    )
    assert right < 0.01 and wrong > 0.1
    for step in (euler, first_jump):
        moves = way_back(UNIFORM, 64, step)
        same = sampler_law(leave_one_out(UNIFORM), UNIFORM, 3, moves)
        assert far(same) < 0.02


@pytest.mark.parametrize(
    "call",
    [
        lambda net, k, x: bound(net, k, x, 4),
        lambda net, k, x: exact_bound(net, k, x, 4),
        lambda net, k, x: bits_per_dim(net, k, x, 4),
        lambda net, k, x: sample(net, k, (2, 3), 4),
        lambda net, k, x: sampler_law(net, k, 3, 4),
        lambda net, k, x: sample(net, k, (2, 3), way_back(k, 4, euler)),
        lambda net, k, x: sampler_law(net, k, 3, way_back(k, 4, first_jump)),
        lambda net, k, x: step_kl(k, torch.zeros(2, 3, 3), x, x, 0.2, 0.5),
        lambda net, k, x: reverse_rows(k, torch.ones(2, 3, 3) / 3, x, 0.2, 0.5),
    ],
)
def test_nothing_on_uniform_noise_runs_without_a_reading(call):
    x = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="reads: on Uniform"):
        call(leave_one_out(UNIFORM, said=False), UNIFORM, x)
    call(
        leave_one_out(MASKS, said=False), MASKS, x
    )  # masks: both readings are one


def test_systems_say_how_they_read():
    assert D3PM(UNIFORM, 8).reads == "leave-one-out"
    assert D3PM(MASKS, 8).reads == "full"
    assert FlowMatching(Uniform(3, cosine_schedule())).reads == "leave-one-out"
    assert Denoise(leave_one_out(UNIFORM), 3).reads == "leave-one-out"


@pytest.mark.parametrize("total", [continuous_bound, exact_continuous_bound])
def test_a_rate_refuses_a_network_that_says_something_else(total):
    "Its number would be that of another network, without a word."

    def net(x_t, t, y=None):
        return torch.zeros(*x_t.shape, 3, dtype=torch.float64)

    x = torch.zeros(2, 3, dtype=torch.int64)
    for rate, said in (
        (uniform_rate, "full"),
        (uniform_rate, "score"),
        (flow_rate, "leave-one-out"),
        (score_rate, "full"),
    ):
        net.reads = said
        with pytest.raises(ValueError, match=f"read as '{rate.reads}'"):
            total(net, UNIFORM, x, rate)
        net.reads = rate.reads
        total(net, UNIFORM, x, rate)
    for said in ("full", "leave-one-out"):  # masks: both are one
        net.reads = said
        total(net, MASKS, x, masked_rate)


def test_counted_triples_say_how_they_read():
    tokens = torch.tensor([0, 1, 2, 0, 1, 1, 2, 0])
    net = Triples(tokens, UNIFORM, dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    out = sample(net, UNIFORM, (500, 4), 64, generator=g)
    assert out.x.max() < 3
    x = torch.tensor([[0, 1, 2, 0]])
    plain = exact_bound(net, UNIFORM, x, 16)
    told = exact_bound(net, UNIFORM, x, 16, reads="leave-one-out")
    torch.testing.assert_close(plain.total, told.total)


def test_either_reading_gives_one_law():
    def full(x_t, t, y=None):
        p = leave_one_out(UNIFORM)(x_t, t).softmax(-1)
        return full_from_loo(UNIFORM, p, x_t, t).log()

    full.reads = "full"
    one = sampler_law(full, UNIFORM, 3, 8)
    other = sampler_law(leave_one_out(UNIFORM), UNIFORM, 3, 8)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    x = all_states(3, 3)
    costs = [
        exact_bound(n, UNIFORM, x, 8).total
        for n in (full, leave_one_out(UNIFORM))
    ]
    torch.testing.assert_close(*costs, rtol=0, atol=1e-9)
    assert reading(UNIFORM, model=full) == "full"


@pytest.mark.parametrize("use", ["loss", "bits", "sample"])
@pytest.mark.parametrize(
    "system, wrong",
    [
        (D3PM(UNIFORM, T=5, classes=2), "full"),
        (MaskedD3PM(MASKS, T=5, classes=2), "score"),
    ],
    ids=["uniform", "masks"],
)
def test_d3pm_asks_for_the_reading_that_it_was_made_for(system, wrong, use):
    "A full answer is no leave-one-out answer: in the loss, too, and in bits."
    x, y = torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4).long()
    noised = system.noise(x, y, torch.Generator().manual_seed(0))
    arguments = {"loss": noised, "bits": (x, y), "sample": (y, (2,), 3)}[use]

    def net(x_t, t, y=None):
        return torch.zeros(*x_t.shape, 3)

    for net.reads in (None, system.reads):
        getattr(system, use)(net, *arguments)
    net.reads = wrong
    with pytest.raises(ValueError, match="read as"):
        getattr(system, use)(net, *arguments)
