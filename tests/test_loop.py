"""One loop: whatever the moves, the law that `sampler_law` propagates is the
product of the steps' matrices, with one state asked at a time, and draws of
`sample` land on it."""

import pytest
import torch
from torch.nn.functional import one_hot

from discrete_diffusion.core import draw
from discrete_diffusion.ctmc import (
    euler,
    frozen_rates,
    leap_rows,
    scores,
    tweedie,
)
from discrete_diffusion.flow import FlowMatching
from discrete_diffusion.forward import (
    Absorbing,
    Kernel,
    Schedule,
    Uniform,
    gaussian_kernel,
    linear_schedule,
    polynomial_schedule,
)
from discrete_diffusion.mdlm import MaskedText
from discrete_diffusion.posterior import reverse_eq4
from discrete_diffusion.samplers import (
    forward_backward,
    gibbs,
    hold_all,
    remask,
    way_back,
)
from discrete_diffusion.sampling import (
    Denoise,
    Moment,
    ancestral,
    forth,
    hold,
    reverse_rows,
    sample,
    sampler_law,
    stay,
    steps_down,
    temper,
)
from discrete_diffusion.sedd import ScoreEntropy, first_jump
from discrete_diffusion.worlds import (
    all_states,
    full_posterior,
    loo_posterior,
    random_world,
    state_index,
    tv,
    tv_limit,
)

WORLD = random_world(3, 2, seed=1)
NOISE = Uniform(3, polynomial_schedule(1.5))
MASKS = Absorbing(3, linear_schedule())
HALF = Schedule(lambda t: 0.6 * (1 - t), "0.6 (1 - t)")
SLOW = Schedule(lambda t: 1 - 0.9 * t**2, "1 - 0.9 t^2")
LEAVES, MASKS_LEAVE = Uniform(3, SLOW), Absorbing(3, SLOW)
GIVEN = gaussian_kernel(3, torch.full((12,), 0.3))


def oracle(kernel, reads="full"):
    "The perfect network of the world."
    if reads == "score":
        return score_network(kernel)
    posterior = full_posterior if reads == "full" else loo_posterior

    def net(x_t, t, y=None):
        Q = kernel.probs(torch.arange(3)[:, None], float(t[0]))[:, 0]
        return posterior(WORLD, Q)[state_index(x_t, kernel.N)].log()

    net.reads = reads
    return net


def mean_of_two(now):
    "One question at each end of the step."
    if not now.s:
        return ancestral(now)
    mean = (now.loo() + now.at(now.s).loo()) / 2
    return reverse_eq4(now.kernel, mean, now.x, now.s, now.t)


def mean_of_rates(now):
    "An Euler step with the mean of the reverse rates at both ends."
    if now.kernel.alpha(now.t) <= 0 or not now.s:
        return ancestral(now)
    both = frozen_rates(now) + frozen_rates(now.at(now.s))
    return leap_rows(both / 2, now.x, now.s, now.t)


def score_network(kernel):
    "A network that answers log-scores."
    net = oracle(kernel)

    def answer(x_t, t, y=None):
        ask = Denoise(net, 3)
        s = scores(Moment(kernel, x_t, None, float(t[0]), ask, "full"))
        return s.log()

    answer.reads = "score"
    return answer


def redraw(place):
    "Corrector: one token anew, given all others."

    def rows(now):
        law = now.kernel.push(now.loo(), now.t)
        stay = one_hot(now.x, now.kernel.N).to(law)
        chosen = torch.arange(now.x.shape[1]) == place
        return torch.where(chosen[:, None], law, stay)

    return rows


def annealed(now):
    "A temperature that falls on the way."
    p_0 = temper(now.answer.log(), (1 + now.t) / 2).softmax(-1)
    return reverse_rows(now.kernel, p_0, now.x, now.s, now.t, now.reads)


def way(kernel, steps, step=ancestral, then=None):
    "Moves down to time 0, each followed by one that stays."
    moves = []
    for k, (t, s) in enumerate(steps_down(kernel, steps)):
        moves.append((step, t, s))
        if then is not None and s:
            moves.append((then(k), s, s))
    return moves


FIRST = torch.tensor([2, -1])


def back_and_forth(kernel):
    "Each step is taken back and taken again."
    moves = []
    for t, s in steps_down(kernel, 4):
        moves.append((ancestral, t, s))
        if s:
            moves += [(forth, s, t), (ancestral, t, s)]
    return moves


SAMPLERS = {
    "ancestral, uniform": (NOISE, "full", 5),
    "ancestral, leave-one-out": (NOISE, "leave-one-out", 5),
    "ancestral, masks": (MASKS, "full", 5),
    "a noisy time 0": (Uniform(3, HALF), "leave-one-out", 3),
    "masks at time 0": (Absorbing(3, HALF), "full", 3),
    "given matrices": (GIVEN, "full", 6),
    "two questions": (NOISE, "full", way(NOISE, 5, mean_of_two)),
    "two questions, rates": (NOISE, "full", way(NOISE, 5, mean_of_rates)),
    "a corrector": (
        NOISE,
        "full",
        way(NOISE, 5, then=lambda k: redraw(k % 2)),
    ),
    "annealed": (MASKS, "full", way(MASKS, 5, annealed)),
    "annealed, uniform": (NOISE, "leave-one-out", way(NOISE, 5, annealed)),
    "given tokens": (
        MASKS,
        "full",
        [
            (hold(stay, FIRST), 1.0, 1.0),
            *way(MASKS, 5, hold(ancestral, FIRST)),
        ],
    ),
    "given tokens, noised": (
        Uniform(3, HALF),
        "full",
        way(Uniform(3, HALF), 3, hold(ancestral, FIRST, noised=True)),
    ),
    "back and forth": (NOISE, "full", back_and_forth(NOISE)),
    "Euler": (NOISE, "leave-one-out", way_back(NOISE, 5, euler)),
    "Euler, masks": (MASKS, "full", way_back(MASKS, 5, euler)),
    "first jump": (NOISE, "full", way_back(NOISE, 5, first_jump)),
    "first jump, a noisy time 0": (
        Absorbing(3, HALF),
        "full",
        way_back(Absorbing(3, HALF), 3, first_jump),
    ),
    "Tweedie": (NOISE, "full", way_back(NOISE, 5, tweedie)),
    "remasking": (MASKS, "full", way_back(MASKS, 5, remask(0.5))),
    "Gibbs": (NOISE, "full", way_back(NOISE, 5, first_jump, gibbs, 2)),
    "Gibbs, masks": (MASKS, "full", way_back(MASKS, 5, corrector=gibbs)),
    "forth and back": (
        MASKS,
        "full",
        way_back(MASKS, 5, corrector=lambda turn: forward_backward()),
    ),
    "held": (
        NOISE,
        "full",
        hold_all(way_back(NOISE, 5, euler, gibbs), FIRST, noised=True),
    ),
    "a score system, corrected": (
        NOISE,
        "leave-one-out",
        ScoreEntropy(NOISE).moves(5, "euler", corrections=2),
    ),
    "a flow, corrected": (
        NOISE,
        "leave-one-out",
        FlowMatching(NOISE).moves(5, 0.5, "coin", corrections=2),
    ),
    "a masked text, corrected": (
        MASKS,
        "full",
        MaskedText(MASKS).moves(5, corrections=2),
    ),
    "scores, Euler": (LEAVES, "score", way_back(LEAVES, 5, euler)),
    "scores, first jump": (LEAVES, "score", way_back(LEAVES, 5, first_jump)),
    "scores, Tweedie": (LEAVES, "score", way_back(LEAVES, 5, tweedie)),
    "scores, masks": (
        MASKS_LEAVE,
        "score",
        way_back(MASKS_LEAVE, 5, tweedie),
    ),
}


def by_enumeration(net, kernel, moves, **options):
    "The law, one state and one move at a time."
    if not isinstance(moves, list):
        moves = [(ancestral, t, s) for t, s in steps_down(kernel, moves)]
    states = all_states(kernel.N, 2)
    size = kernel.N if net.reads == "score" else kernel.K
    ask = Denoise(net, size, **options)
    law = kernel.pi[states].prod(-1)
    for step, t, s in moves:
        after = torch.zeros(kernel.N, kernel.N, dtype=torch.float64)
        for p, x in zip(law, states, strict=True):
            if p > 0:
                rows = step(Moment(kernel, x[None], s, t, ask, net.reads))[0]
                n = rows.shape[-1]
                after[:n, :n] += p * torch.outer(rows[0], rows[1])
        law = after.flatten()
    return law.reshape(kernel.N, kernel.N)[:3, :3].flatten()


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_law_is_the_product_of_the_steps(name):
    kernel, reads, moves = SAMPLERS[name]
    net = oracle(kernel, reads)
    law = sampler_law(net, kernel, 2, moves)
    slow = by_enumeration(net, kernel, moves)
    torch.testing.assert_close(law, slow, rtol=0, atol=1e-12)
    torch.testing.assert_close(law.sum().item(), 1.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_land_on_the_law(name):
    "False alarms: at most 1e-6 each."
    kernel, reads, moves = SAMPLERS[name]
    net, n = oracle(kernel, reads), 40_000
    g = torch.Generator().manual_seed(3)
    out = sample(net, kernel, (n, 2), moves, generator=g, keep_path=True)
    share = state_index(out.x, 3).bincount(minlength=9).double() / n
    law = sampler_law(net, kernel, 2, moves)
    assert tv(share, law) < tv_limit(9, n, 1e-6)
    steps = moves if isinstance(moves, list) else steps_down(kernel, moves)
    assert len(out.path) == 1 + len(steps)


@pytest.mark.parametrize("name", ["a corrector", "annealed"])
def test_options_belong_to_the_answer(name):
    kernel, reads, moves = SAMPLERS[name]
    net, options = oracle(kernel, reads), {"temperature": 0.7, "p": 0.9}
    law = sampler_law(net, kernel, 2, moves, **options)
    slow = by_enumeration(net, kernel, moves, **options)
    torch.testing.assert_close(law, slow, rtol=0, atol=1e-12)
    same = sampler_law(
        Denoise(net, kernel.K, **options), kernel, 2, moves, reads=reads
    )
    assert torch.equal(law, same)


def test_calls_are_those_of_the_network():
    g = torch.Generator().manual_seed(0)
    for name, calls in {
        "ancestral, uniform": 5,
        "a noisy time 0": 4,
        "two questions": 9,
        "a corrector": 9,
        "given tokens": 5,
        "back and forth": 7,
    }.items():
        kernel, reads, moves = SAMPLERS[name]
        net = oracle(kernel, reads)
        assert sample(net, kernel, (4, 2), moves, generator=g).calls == calls


def test_what_the_steps_are_for():
    net = oracle(NOISE)
    plain = tv(sampler_law(net, NOISE, 2, 16), WORLD.law)
    moves = way(NOISE, 16, then=lambda k: redraw(k % 2))
    assert tv(sampler_law(net, NOISE, 2, moves), WORLD.law) < plain / 2
    far = []
    wanted = WORLD.p.clone()
    wanted[:2] = 0
    wanted = (wanted / wanted.sum()).flatten()
    for T in (16, 64):
        moves = [
            (hold(stay, FIRST), 1.0, 1.0),
            *way(MASKS, T, hold(ancestral, FIRST)),
        ]
        law = sampler_law(oracle(MASKS), MASKS, 2, moves)
        far.append(tv(law, wanted))
    assert far[1] < 0.3 * far[0] or far[1] < 1e-9


def test_a_start_is_taken():
    net = oracle(NOISE)
    moves = [(ancestral, 0.5, 0.25), (ancestral, 0.25, 0.0)]
    Q = NOISE.probs(torch.arange(3)[:, None], 0.5)[:, 0]
    law = sampler_law(net, NOISE, 2, moves, start=WORLD.noised(Q))
    from_noise = sampler_law(net, NOISE, 2, moves)
    assert tv(law, WORLD.law) < tv(from_noise, WORLD.law) / 2
    start = all_states(3, 2).repeat(10, 1)
    stays = [(stay, 1.0, 1.0)]
    assert torch.equal(sample(net, NOISE, (90, 2), stays, start=start).x, start)


@pytest.mark.parametrize("kernel", [NOISE, MASKS], ids=["uniform", "masks"])
def test_a_moment_has_both_posteriors(kernel):
    x = all_states(kernel.N, 2)
    found = []
    for reads in ("full", "leave-one-out"):
        ask = Denoise(oracle(kernel, reads), 3)
        now = Moment(kernel, x, 0.2, 0.6, ask, reads)
        found.append((now.full(), now.loo(), ancestral(now)))
        assert ask.calls == 1
    hidden = ~kernel.shown(x)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a[hidden], b[hidden], rtol=0, atol=1e-10)


@pytest.mark.parametrize("step", [euler, first_jump, tweedie])
@pytest.mark.parametrize(
    "kernel", [LEAVES, MASKS_LEAVE], ids=["uniform", "masks"]
)
def test_one_law_whatever_the_network_answers(kernel, step):
    moves = way_back(kernel, 6, step)
    laws = [
        sampler_law(oracle(kernel, reads), kernel, 2, moves)
        for reads in ("full", "leave-one-out", "score")
    ]
    for law in laws[1:]:
        torch.testing.assert_close(law, laws[0], rtol=0, atol=1e-10)


def test_a_time_for_each_item():
    seen = []

    def net(x_t, t, y=None):
        seen.append(t)
        return torch.zeros(*x_t.shape, 3)

    ask = Denoise(net, 3)
    x, times = torch.zeros(2, 2).long(), torch.tensor([0.2, 0.7])
    ask(x, times)
    ask(x, 0.3)
    assert torch.equal(seen[0], times.double())
    assert seen[1].tolist() == [0.3, 0.3]


def refused(error, said, moves=4, net=None, kernel=NOISE, **options):
    "`sample` and `sampler_law` refuse this with these words."
    net = net or oracle(NOISE)
    for call in (
        lambda: sample(net, kernel, (4, 2), moves, **options),
        lambda: sampler_law(net, kernel, 2, moves, **options),
    ):
        with pytest.raises(error, match=said):
            call()


@pytest.mark.parametrize("kernel", [NOISE, MASKS], ids=["uniform", "masks"])
@pytest.mark.parametrize("late", [False, True])
def test_a_step_that_draws_has_no_law(kernel, late):
    "Its rows are a coin's; the law would be another at every call."

    def draws_inside(now):
        x_0 = draw(now.full())
        return reverse_eq4(
            kernel, one_hot(x_0, 3).double(), now.x, now.s, now.t
        )

    moves = [(draws_inside, t, s) for t, s in steps_down(kernel, 4)]
    if late:
        moves[0] = (ancestral, *moves[0][1:])
    for _ in range(20):
        with pytest.raises(ValueError, match="draws_inside, asked again"):
            sampler_law(oracle(kernel), kernel, 2, moves)
    sample(oracle(kernel), kernel, (4, 2), moves)


def test_nor_has_one_whose_inner_step_draws():
    "A first step of the same wrapping, which draws nothing, hides no other."

    def draws_inside(now):
        x_0 = one_hot(draw(now.full()), 3).double()
        return reverse_eq4(NOISE, x_0, now.x, now.s, now.t)

    moves = [(draws_inside, t, s) for t, s in steps_down(NOISE, 4)]
    for _ in range(20):
        with pytest.raises(ValueError, match="held, asked again, gave other"):
            sampler_law(oracle(NOISE), NOISE, 2, hold_all(moves, FIRST))
    held = hold_all(way_back(NOISE, 4), FIRST)
    law = sampler_law(oracle(NOISE), NOISE, 2, held)
    torch.testing.assert_close(law.sum().item(), 1.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize("corrector", [gibbs(), forward_backward(), forth])
def test_a_step_is_no_corrector(corrector):
    "It would be asked what to do at turn 0, and take the 0 for a moment."
    with pytest.raises(TypeError, match="corrector: .* lambda turn: gibbs"):
        way_back(NOISE, 4, corrector=corrector)
    with pytest.raises(TypeError, match="gave no step at turn 0"):
        way_back(NOISE, 4, corrector=lambda turn: turn)


def test_the_law_asks_little_more_than_the_sampler():
    "A kind of step is asked again at its first moment alone."
    seen = []

    def counted(now):
        seen.append(now.t)
        return ancestral(now)

    moves = [(counted, t, s) for t, s in steps_down(NOISE, 8)]
    sampler_law(oracle(NOISE), NOISE, 2, moves)
    assert len(seen) == 9


def test_asking_again_is_no_call():
    "A law costs as many calls as its steps ask, not one more."
    ask = Denoise(oracle(NOISE), 3)

    def two_looks(now):
        return ancestral(now.at(now.t))

    moves = [(two_looks, t, s) for t, s in steps_down(NOISE, 8)]
    sampler_law(ask, NOISE, 2, moves)
    assert ask.calls == 8


def test_what_is_no_move_is_told_what_moves_are():
    said = "triples, or a tensor of times, got"
    refused(TypeError, said, [1.0, 0.5, 0.0])
    refused(TypeError, said, [ancestral])
    refused(TypeError, said, [(1.0, 0.5)])
    said = r"expected rows of shape \(\d, 2, 3\) from nothing, got NoneType"

    def nothing(now):
        return None

    refused(TypeError, said, [(nothing, 1.0, 0.0)])


def test_moves_need_not_meet():
    moves = [(ancestral, 0.9, 0.5), (ancestral, 0.4, 0.0)]
    law = sampler_law(oracle(NOISE), NOISE, 2, moves)
    torch.testing.assert_close(law.sum().item(), 1.0, rtol=0, atol=1e-10)


def test_given_tokens_are_held_by_moves():
    refused(TypeError, "given: .* first_hitting and unmask", given=FIRST)


def test_a_start_of_another_shape_is_refused():
    net = oracle(NOISE)
    for shape in ((2, 4), (8,), (1, 2)):
        with pytest.raises(
            ValueError, match=r"start: expected .*\(4, 2\), got"
        ):
            sample(net, NOISE, (4, 2), 3, start=torch.zeros(shape).long())


class OwnPi(Kernel):
    "The uniform noise, with a stationary law of one's own."

    K = N = 3
    alpha = linear_schedule()

    def matrix(self, s, t):
        return NOISE.matrix(s, t)


@pytest.mark.parametrize(
    ("pi", "error", "said"),
    [
        (None, TypeError, r"float64 of shape \(3,\), got NoneType"),
        (torch.ones(3) / 3, TypeError, r"shape \(3,\), got torch.float32"),
        (torch.ones(4).double() / 4, ValueError, "axis of size 3"),
        (torch.ones(1, 3).double() / 3, ValueError, r"\(3,\), got \(1, 3\)"),
        (torch.ones(3).double(), ValueError, "pi: .* sum to one"),
    ],
)
def test_a_kernel_says_where_its_noise_ends(pi, error, said):
    kernel = OwnPi()
    if pi is not None:
        kernel.pi = pi
    refused(error, said, kernel=kernel)


def test_an_option_that_there_is_not():
    "Refused by its name, with those that there are."
    kernel = Uniform(3, linear_schedule())

    def net(x_t, t, y=None):
        return torch.zeros(*x_t.shape, 3)

    for use in (
        lambda: sample(net, kernel, (2, 2), 3, reads="full", temprature=0.5),
        lambda: sampler_law(net, kernel, 2, 3, reads="full", temprature=0.5),
    ):
        with pytest.raises(TypeError, match="guidance, temperature or p, got"):
            use()
