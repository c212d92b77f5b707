"Kernels of one's own are served by their own laws, and values are plain: they pickle, copy and compare."

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from discrete_diffusion.bounds import masked_rate, score_rate
from discrete_diffusion.core import per_item
from discrete_diffusion.ctmc import rate_matrix, reveal_rate
from discrete_diffusion.d3pm import D3PM, MaskedD3PM
from discrete_diffusion.flow import FlowMatching
from discrete_diffusion.forward import (
    Absorbing,
    Kernel,
    MatrixKernel,
    Redraw,
    Schedule,
    Uniform,
    absorbs,
    betas_schedule,
    cosine_schedule,
    gaussian_kernel,
    geometric_schedule,
    linear_schedule,
    polynomial_schedule,
    redraws,
)
from discrete_diffusion.losses import exact_bound, prior_term
from discrete_diffusion.mdlm import MaskedText, TimedMaskedText
from discrete_diffusion.posterior import posterior, posterior_draw
from discrete_diffusion.sampling import sample, sampler_law
from discrete_diffusion.sedd import ScoreEntropy
from discrete_diffusion.worlds import (
    all_states,
    full_posterior,
    random_world,
    state_index,
)

T = 6
GROUP = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2)).double() / 2


class InGroups(Redraw):
    "Symbols 0, 1 and symbols 2, 3 are redrawn among themselves: all seven laws are its own."

    def __init__(self, alpha):
        super().__init__(4, torch.full((4,), 0.25), alpha)

    def matrix(self, s, t):
        a = self.alpha.ratio(*self.check_pair(s, t))[..., None, None]
        return a * torch.eye(4, dtype=torch.float64) + (1 - a) * GROUP

    def _from_data(self, t, batch):
        a = self.alpha(t).expand(batch)[:, None, None]
        return a * torch.eye(4, dtype=torch.float64) + (1 - a) * GROUP

    def _row(self, Q, x):
        return Q[per_item(torch.arange(len(x)), x), x]

    def probs(self, x_0, t):
        return self._row(
            self._from_data(self.check(x_0, 4, "x_0", t), len(x_0)), x_0
        )

    def evidence(self, x_t, t):
        return self._row(
            self._from_data(self.check(x_t, 4, "x_t", t), len(x_t)).mT, x_t
        )

    def likelihood(self, x_t, s, t):
        s, t = self.check(x_t, 4, "x_t", t, s)
        return self._row(self.matrix(s, t).expand(len(x_t), 4, 4).mT, x_t)

    def push(self, w, t):
        w = w.double()
        Q = self._from_data(torch.as_tensor(t, dtype=torch.float64), len(w))
        return (w.reshape(len(w), -1, 4) @ Q).reshape(w.shape)

    def sample(self, x_0, t, generator=None):
        return torch.multinomial(
            self.probs(x_0, t).reshape(-1, 4), 1, generator=generator
        ).reshape(x_0.shape)

    def jump(self, x_s, s, t, generator=None):
        rows = self._row(self.matrix(s, t).expand(len(x_s), 4, 4), x_s)
        return torch.multinomial(
            rows.reshape(-1, 4), 1, generator=generator
        ).reshape(x_s.shape)


def in_groups():
    "The kernel, and the same as given matrices."
    own = InGroups(linear_schedule())
    steps = torch.stack([own.matrix(i / T, (i + 1) / T) for i in range(T)])
    return own, MatrixKernel(
        steps, pi=torch.full((4,), 0.25, dtype=torch.float64)
    )


class OnlyMatrix(Kernel):
    "The same groups, from the one method that a kernel must have."

    def __init__(self, alpha):
        self.K = self.N = 4
        self.pi = torch.full((4,), 0.25, dtype=torch.float64)
        self.alpha = alpha

    def matrix(self, s, t):
        a = self.alpha.ratio(s, t)[..., None, None]
        return a * torch.eye(4) + (1 - a) * GROUP


class MatrixOfRedraw(Redraw):
    "A subclass of Redraw that writes its matrix anew and nothing else."

    def __init__(self, alpha):
        super().__init__(4, torch.full((4,), 0.25), alpha)

    def matrix(self, s, t):
        a = self.alpha.ratio(s, t)[..., None, None]
        return a * torch.eye(4) + (1 - a) * GROUP


class GroupMatrix:
    "The matrix alone, for any kernel of four symbols."

    def matrix(self, s, t):
        a = self.alpha.ratio(s, t)[..., None, None]
        return a * torch.eye(4) + (1 - a) * GROUP


class FromAnotherClass(GroupMatrix, Uniform):
    "The matrix comes from a class that is no kernel."

    def __init__(self, alpha):
        super().__init__(4, alpha)


class WrittenLater(Uniform):
    "The matrix comes after the class was made, as fastcore's `patch` does it."

    def __init__(self, alpha):
        super().__init__(4, alpha)


WrittenLater.matrix = GroupMatrix.matrix


def table(alpha):
    "alpha I + (1 - alpha) G, one entry at a time."
    Q = torch.zeros(4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            Q[i, j] = alpha * (i == j) + (1 - alpha) * (i // 2 == j // 2) / 2
    return Q


@pytest.mark.parametrize(
    "kind",
    [OnlyMatrix, MatrixOfRedraw, InGroups, FromAnotherClass, WrittenLater],
)
def test_all_methods_follow_from_the_matrix(kind):
    k = kind(linear_schedule())
    s = torch.tensor([0.3, 0.0, 0.2])
    t = torch.tensor([0.7, 0.5, 1.0])
    g = torch.Generator().manual_seed(0)
    x_0 = torch.randint(4, (3, 2, 5), generator=g)
    x_t = k.sample(x_0, t, g)
    w = torch.rand(3, 2, 5, 4, dtype=torch.float64, generator=g)
    got = posterior(k, x_0, x_t, s, t)
    for b in range(3):
        a_s, a_t = 1 - s[b].double().item(), 1 - t[b].double().item()
        Qs, Qt, Q = table(a_s), table(a_t), table(a_t / a_s)
        pairs = [
            (k.matrix(s, t)[b], Q),
            (k.probs(x_0, s)[b], Qs[x_0[b]]),
            (k.probs(x_0, t)[b], Qt[x_0[b]]),
            (k.evidence(x_t, t)[b], Qt.T[x_t[b]]),
            (k.likelihood(x_t, s, t)[b], Q.T[x_t[b]]),
            (k.push(w, t)[b], w[b] @ Qt),
        ]
        joint = Qs[x_0[b]] * Q.T[x_t[b]]
        pairs += [(got[b], joint / joint.sum(-1, keepdim=True))]
        for mine, counted in pairs:
            torch.testing.assert_close(mine, counted, rtol=0, atol=1e-12)
    # Hoeffding: off by more than .01 with probability below 1e-8 for an entry
    many = torch.full((1, 100_000), 2)
    for draws, alpha in (
        (k.sample(many, 0.5, g), 0.5),
        (k.jump(many, 0.2, 0.6, g), 0.5),
        (posterior_draw(k, many, many, 0.2, 0.6, g), None),
        (k.draw_pi((100_000,), g), None),
    ):
        seen = torch.bincount(draws.flatten(), minlength=4) / 100_000
        if alpha is None and draws.ndim == 2:
            law = posterior(k, many[:, :1], many[:, :1], 0.2, 0.6)[0, 0]
        else:
            law = k.pi if alpha is None else table(alpha)[2]
        assert (seen - law).abs().max() < 0.01
    assert not k.shown(x_t).any()
    assert not redraws(k)


def test_noise_at_time_0_needs_its_own_from_data():
    k = OnlyMatrix(geometric_schedule())
    with pytest.raises(ValueError, match=r"needs its own from_data\(t\)"):
        k.probs(torch.zeros(2, 3, dtype=torch.int64), 0.5)


def oracle(world, kernel):
    def net(x_t, t, y=None):
        Q = kernel.probs(torch.arange(4)[:, None], float(t[0]))[:, 0]
        return full_posterior(world, Q)[state_index(x_t, 4)].log()

    net.reads = "full"
    return net


def test_a_subclass_with_laws_of_its_own_is_not_served_by_shortcuts():
    own, given = in_groups()
    assert redraws(Uniform(4, linear_schedule()))
    assert not redraws(own)
    world = random_world(4, 2, seed=1)
    every = all_states(4, 2)
    mine, theirs = (
        exact_bound(oracle(world, k), k, every, T).diffusion
        for k in (own, given)
    )
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-10)
    for k in (own, given):
        law = sampler_law(oracle(world, k), k, 2, T)
        torch.testing.assert_close(law.sum(), torch.tensor(1.0).double())
    x_0 = torch.zeros(2000, 1, dtype=torch.int64)
    x_t = own.sample(x_0, 0.5, torch.Generator().manual_seed(0))
    x_s = posterior_draw(
        own, x_0, x_t, 0.2, 0.5, torch.Generator().manual_seed(0)
    )
    assert x_s.max() <= 1, "a draw has left the token's group"
    torch.testing.assert_close(
        posterior(own, x_0, x_t, 1 / T, 3 / T),
        posterior(given, x_0, x_t, 1 / T, 3 / T),
    )


def test_continuous_time_refuses_laws_it_does_not_know():
    own, _ = in_groups()
    x = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(TypeError, match="laws follow from alpha and pi"):
        score_rate(own, torch.zeros(2, 3, 4), x, x, 0.5)

    class Hidden(Absorbing):
        def matrix(self, s, t):
            return super().matrix(s, t)

    assert not absorbs(Hidden(4, linear_schedule()))
    with pytest.raises(TypeError, match="laws follow from alpha and pi"):
        masked_rate(
            Hidden(4, linear_schedule()), torch.zeros(2, 3, 4), x, x, 0.5
        )


@pytest.mark.parametrize(
    "law", ["probs", "sample", "jump", "from_data", "draw_pi"]
)
def test_a_law_of_its_own_needs_a_matrix_of_its_own(law):
    "Else it would be mixed, without a word, with the laws of alpha and pi."
    method = {law: lambda self, *given: getattr(Uniform, law)(self, *given)}
    Mixed = type("Mixed", (Uniform,), method)
    with pytest.raises(TypeError, match=f"expected `matrix` beside {law}"):
        Mixed(3, linear_schedule())


@pytest.mark.parametrize("kind", [Uniform, Absorbing])
def test_fresh_states_come_from_pi_whoever_set_it(kind):
    kernel = kind(3, linear_schedule())
    kernel.pi = torch.zeros(kernel.N, dtype=torch.float64)
    kernel.pi[1] = 1
    x = kernel.sample(torch.zeros(1, 9, dtype=torch.int64), 1.0)
    assert bool((x == 1).all())


def test_rates_are_refused_to_laws_that_have_their_own():
    for rates in (rate_matrix, reveal_rate):
        with pytest.raises(TypeError, match="expected a Redraw kernel"):
            rates(MatrixOfRedraw(linear_schedule()), 0.5)


def test_matrices_with_several_stationary_laws_are_refused_unless_a_start_is_given():
    steps = (0.5 * torch.eye(4, dtype=torch.float64) + 0.5 * GROUP).expand(
        T, 4, 4
    )
    with pytest.raises(ValueError, match="one stationary law, got 2 of them"):
        MatrixKernel(steps)
    MatrixKernel(
        steps, pi=torch.tensor([0.1, 0.1, 0.4, 0.4], dtype=torch.float64)
    )


def test_samplers_take_their_start():
    own, given = in_groups()
    world = random_world(4, 2, seed=1)
    net = oracle(world, given)
    noised = world.noised(given.probs(torch.arange(4)[:, None], 1.0)[:, 0])

    def far(start):
        law = sampler_law(net, given, 2, T, start=start)
        return (law - world.law).abs().sum().item() / 2

    assert far(noised) < far(None) / 2
    start = torch.tensor([[0, 2]] * 500)
    x = sample(
        net,
        given,
        (500, 2),
        T,
        generator=torch.Generator().manual_seed(0),
        start=start,
    ).x
    assert (x // 2 == start // 2).all(), "no token leaves its group"


def test_a_plain_cosine_is_accepted():
    plain = Schedule(lambda t: torch.cos(torch.pi / 2 * t), "plain cosine")
    x = torch.zeros(2, 3, dtype=torch.int64)
    assert (prior_term(Absorbing(4, plain), x) == 0).all()


def test_a_schedule_without_a_gradient_is_refused():
    table = torch.linspace(1, 0, 11, dtype=torch.float64)
    with pytest.raises(ValueError, match="give the slope as well"):
        Schedule(lambda t: table[(10 * t).long()], "table")
    with pytest.raises(ValueError, match="give the slope as well"):
        Schedule(
            lambda t: torch.from_numpy(np.interp(t.numpy(), [0, 1], [1, 0]))
        )


SCHEDULES = [
    linear_schedule(),
    cosine_schedule(),
    polynomial_schedule(3),
    geometric_schedule(),
    betas_schedule(torch.linspace(0.01, 0.3, 9)),
]
VALUES = [
    *SCHEDULES,
    *(Uniform(4, s) for s in SCHEDULES),
    Absorbing(4, cosine_schedule()),
    Redraw(3, torch.tensor([0.2, 0.3, 0.5]), geometric_schedule()),
    gaussian_kernel(4, torch.full((5,), 0.3)),
    D3PM(Uniform(4, cosine_schedule()), 10),
    MaskedD3PM(Absorbing(4, linear_schedule()), 10),
    MaskedText(Absorbing(4, linear_schedule())),
    TimedMaskedText(Absorbing(4, cosine_schedule())),
    FlowMatching(Uniform(4, linear_schedule())),
    ScoreEntropy(Uniform(4, geometric_schedule())),
]


def test_kernels_compare_by_value():
    assert Uniform(4, linear_schedule()) == Uniform(4, linear_schedule())
    assert Uniform(4, linear_schedule()) != Uniform(4, cosine_schedule())
    assert Uniform(4, linear_schedule()) != Uniform(5, linear_schedule())
    even = torch.full((4,), 0.25)
    assert Uniform(4, linear_schedule()) != Redraw(4, even, linear_schedule())
    assert OnlyMatrix(linear_schedule()) == OnlyMatrix(linear_schedule())
    widths = torch.full((5,), 0.3)
    assert gaussian_kernel(4, widths) == gaussian_kernel(4, widths)
    assert gaussian_kernel(4, widths) != gaussian_kernel(4, 2 * widths)
    assert len({Uniform(4, linear_schedule()) for _ in range(3)}) == 1


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_pickle_and_copy(value):
    for other in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value)):
        assert repr(other) == repr(value)
        assert other == value
        kernel = getattr(other, "kernel", other)
        if isinstance(kernel, Kernel):
            x = torch.zeros(2, 3, dtype=torch.int64)
            mine = getattr(value, "kernel", value)
            assert torch.equal(
                kernel.probs(x, 0.4 if kernel.T else 0.3),
                mine.probs(x, 0.4 if kernel.T else 0.3),
            )


@pytest.mark.parametrize("times", [4, 3, 1])
def test_a_matrix_for_one_time_only_is_refused(times):
    "With as many items as states the shapes would fit, and rows sum to 1.45."

    class OneTime(OnlyMatrix):
        def matrix(self, s, t):
            a = self.alpha.ratio(s, t).reshape(-1, 1)
            return a * torch.eye(4)[:1] + (1 - a) * GROUP[:1]

    k = OneTime(linear_schedule())
    x = torch.zeros(times, 2, dtype=torch.int64)
    t = torch.linspace(0.2, 0.8, times, dtype=torch.float64)
    wanted = rf"matrix: expected shape \({times}, 4, 4\).*\[..., None, None\]"
    for call in (
        lambda: k.probs(x, t),
        lambda: k.evidence(x, t),
        lambda: k.likelihood(x, t / 2, t),
        lambda: k.jump(x, 0.1, t),
    ):
        with pytest.raises(ValueError, match=wanted):
            call()


def test_a_schedule_under_another_name_is_refused():
    "As self.schedule it would hide that time 0 carries noise."

    class Misnamed(OnlyMatrix):
        def __init__(self, schedule):
            super().__init__(None)
            self.schedule = schedule

        def matrix(self, s, t):
            a = self.schedule.ratio(s, t)[..., None, None]
            return a * torch.eye(4) + (1 - a) * GROUP

    k = Misnamed(geometric_schedule())
    with pytest.raises(ValueError, match="the schedule as self.alpha, got"):
        k.probs(torch.zeros(1, 1, dtype=torch.int64), 0.5)


def square(t):
    return 1 - t**2


@pytest.mark.parametrize(
    "slope",
    [
        lambda t: 2 * t,
        lambda t: -2.1 * t,
        torch.zeros_like,
        lambda t: torch.where(t < 0.9, -2 * t, -2.0),
        lambda t: t * float("nan"),
    ],
)
def test_a_wrong_slope_is_refused(slope):
    with pytest.raises(ValueError, match="slope: expected the derivative of"):
        Schedule(square, "square", slope)


@pytest.mark.parametrize(
    "alpha",
    [
        lambda t: 1 - t * t.detach(),
        lambda t: 0.02 * (1 - t) + 0.98 * (1 - t).detach(),
        lambda t: 1 - t.detach() ** 2 / 2 - t / 2,
    ],
)
def test_a_slope_that_is_lost_in_part_is_refused(alpha):
    with pytest.raises(ValueError, match="slope: expected.*as well: Schedule"):
        Schedule(alpha, "half lost")


def test_a_cosine_may_write_its_slope():
    def alpha(t):
        return torch.cos(math.pi / 2 * t)

    def slope(t):
        return -math.pi / 2 * torch.sin(math.pi / 2 * t)

    schedule = Schedule(alpha, "cosine", slope)
    assert schedule(1.0) == 0
    x = torch.zeros(1, 2, dtype=torch.int64)
    assert prior_term(Absorbing(5, schedule), x) == 0


def test_right_slopes_are_accepted():
    Schedule(square, "square", lambda t: -2 * t)
    Schedule(lambda t: (1 - t) ** 0.5, "root", lambda t: -0.5 / (1 - t) ** 0.5)
    Schedule(lambda t: torch.ones_like(t), "none", torch.zeros_like)
    betas_schedule(torch.tensor([0.0, 0.5] * 2500).double() / 100)
    for power in (0.1, 0.5, 7.0):
        polynomial_schedule(power)


def test_a_schedule_is_told_what_it_got():
    cases = {
        "name: expected a str, got function; the slope comes third": (
            lambda: Schedule(square, lambda t: -2 * t)
        ),
        "torch.cos, not math.cos": lambda: Schedule(
            lambda t: math.cos(t * math.pi / 2)
        ),
        "element by element.*got 0.5": lambda: Schedule(lambda t: 0.5),
        "slope: expected a function of a float64": lambda: Schedule(
            lambda t: 1 - t, "line", lambda t: -1.0
        ),
    }
    for said, make in cases.items():
        with pytest.raises(TypeError, match=said):
            make()


def test_rows_that_were_worked_out_in_float32_are_told_so():
    class Single(OnlyMatrix):
        def matrix(self, s, t):
            a = self.alpha.ratio(s, t)[..., None, None].float()
            third = torch.full((4, 4), 0.1).fill_diagonal_(0.7)
            return a * torch.eye(4) + (1 - a) * third

    x = torch.zeros(1, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="worked out in float32"):
        Single(linear_schedule()).sample(x, 0.5)
