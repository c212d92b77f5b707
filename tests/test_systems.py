"""ScoreEntropy, MaskedText, TimedMaskedText, FlowMatching and D3PM: the same
options, answers that are looked at, readings that are said, whatever the dtype."""

import inspect
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from discrete_diffusion.blocks import BlockNet, BlockText, block_bound
from discrete_diffusion.d3pm import D3PM
from discrete_diffusion.flow import FlowMatching
from discrete_diffusion.forward import (
    Absorbing,
    Uniform,
    geometric_schedule,
    linear_schedule,
    polynomial_schedule,
)
from discrete_diffusion.mdlm import (
    MaskedText,
    OrderBits,
    Remember,
    TimedMaskedText,
)
from discrete_diffusion.sampling import device_of, sample
from discrete_diffusion.sedd import MasksFirst, ScoreEntropy, posterior_loss
from discrete_diffusion.training import TrainConfig, fit
from discrete_diffusion.transformer import NextLetter

K = 5
UNIFORM = Uniform(K, polynomial_schedule(1.5))
MASKS = Absorbing(K, linear_schedule())
OPTIONS = [
    "temperature",
    "generator",
    "device",
    "keep_path",
    "progress",
    "corrections",
]


class Table(torch.nn.Module):
    "A small network: its answer at a place hangs on the state there and on the left."

    def __init__(self, outputs=K, dtype=torch.float32):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        w = torch.randn(K + 1, outputs, generator=g)
        self.w = torch.nn.Parameter(w.to(dtype))

    def forward(self, x_t, t=None, y=None):
        return self.w[x_t] + self.w[x_t.roll(1, 1)]


def systems():
    return {
        "uniform, loo": ScoreEntropy(UNIFORM),
        "uniform, score": ScoreEntropy(
            Uniform(K, geometric_schedule(1e-4, 20.0)), "score"
        ),
        "masks, loo": ScoreEntropy(MASKS),
        "masks, score": ScoreEntropy(MASKS, "score"),
        "masked": MaskedText(MASKS),
        "timed": TimedMaskedText(MASKS),
        "flow": FlowMatching(UNIFORM),
        "flow, masks": FlowMatching(MASKS),
    }


def network(system, **options):
    return Table(getattr(system, "outputs", K), **options)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


EACH = pytest.mark.parametrize("name", systems())


def test_the_same_options_in_the_same_order():
    for system in (ScoreEntropy, MaskedText, FlowMatching, D3PM):
        names = list(inspect.signature(system.sample).parameters)
        at = names.index("temperature")
        assert names[at : at + 6] == OPTIONS, system
        assert names[at - 2 : at] == ["shape", "times"], system


@EACH
def test_every_option_is_taken(name):
    system = systems()[name]
    net = network(system)
    calls = []
    for corrections in (0, 1, lambda t: 2 * int(t < 0.6)):
        out = system.sample(
            net,
            (3, 7),
            6,
            temperature=0.8,
            generator=seeded(),
            device="cpu",
            keep_path=True,
            progress=False,
            corrections=corrections,
        )
        assert out.x.shape == (3, 7) and int(out.x.max()) < K
        moves = system.moves(6, corrections=corrections)
        assert len(out.path) == 1 + len(moves)
        assert len(system.moves(6)) == 6 + system.kernel.noisy_start
        calls.append(out.calls)
    assert calls[0] < calls[1] and calls[0] < calls[2]


def test_the_next_letter_takes_a_function_and_a_device():
    letters = NextLetter(K)

    def likely(x_t, t, y):
        return torch.tensor([9.0, 0, 0, 0, 0]).expand(*x_t.shape, K)

    drawing = dict(temperature=0.5, device="cpu")
    out = letters.sample(likely, (3, 7), seeded(), **drawing)
    assert out.x.shape == (3, 7) and (out.x == 0).all() and out.calls == 7


@EACH
def test_wrong_options_are_refused(name):
    system = systems()[name]
    for wrong, says in (
        (dict(corrections=-1), "corrections: expected at least 0"),
        (dict(corrections=1.5), "corrections: expected an integer"),
        (dict(corrections=lambda t: 0.5), "corrections: expected an integer"),
        (dict(temperature=0), "temperature"),
        (dict(temperature="hot"), "temperature"),
    ):
        with pytest.raises((TypeError, ValueError), match=says):
            system.sample(network(system), (2, 3), 4, **wrong)


@EACH
def test_a_low_temperature_makes_likely_letters_likelier(name):
    system = systems()[name]
    net = network(system)
    with torch.no_grad():
        net.w[:] = torch.tensor([2.0] + [0.0] * (net.w.shape[1] - 1)) / 2
    if name == "uniform, score":  # a score has to be a possible one
        net = scores_of(system, torch.tensor([2.0, 0, 0, 0, 0]).softmax(-1))
    shares = []
    for temperature in (1.0, 0.3):
        out = system.sample(
            net, (400, 5), 16, temperature=temperature, generator=seeded()
        )
        shares.append((out.x == 0).double().mean().item())
    # exp(2) against exp(2 / .3), each against four others: .65 and .995
    slack = math.sqrt(math.log(1e6) / (2 * 2000))
    assert abs(shares[0] - 0.649) < slack + 0.02
    assert shares[1] > 0.99 - slack


def scores_of(system, p):
    "The scores of letters that are all drawn from p."
    k = system.kernel

    def model(x_t, t, y=None):
        a = k.alpha(t).reshape(-1, 1, 1)
        z = a * p.double() + (1 - a) / k.K
        z = z.expand(*x_t.shape, k.K)
        return (z / z.gather(-1, x_t[..., None])).log()

    return model


def test_temperature_one_draws_what_no_temperature_draws():
    for system in systems().values():
        net = network(system)
        plain = system.sample(net, (4, 6), 5, generator=seeded()).x
        one = system.sample(net, (4, 6), 5, temperature=1, generator=seeded()).x
        assert torch.equal(plain, one)


def test_scores_at_a_temperature_are_those_of_the_tempered_posterior():
    system = systems()["uniform, score"]
    p = torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0], dtype=torch.float64)
    other, answer = system.tempered(scores_of(system, p), 0.5)
    x = torch.arange(K)[None].expand(3, -1)
    t = torch.tensor([0.3, 0.7, 0.9], dtype=torch.float64)
    got = answer(x, t).softmax(-1)
    assert other.reads == "leave-one-out"
    want = (p**2 / (p**2).sum()).expand_as(got)
    assert torch.allclose(got, want, atol=1e-6)


def test_d3pm_says_in_one_sentence_what_cannot_be_had():
    system = D3PM(UNIFORM, 4, classes=2)
    y = torch.tensor([0, 1, 2])
    net = Table()
    net.forward = lambda x_t, t, y: net.w[x_t]
    out = system.sample(
        net, y, (3, 3), 4, temperature=0.7, device="cpu", keep_path=True
    )
    assert out.x.shape == (3, 3, 3) and len(out.path) == 5
    with pytest.raises(ValueError, match="corrections: expected 0, D3PM takes"):
        system.sample(net, y, (3, 3), 4, corrections=1)


def test_corrections_under_masks_leave_the_law_of_single_letters():
    logits = torch.tensor([2.0, 1.0, 0.0, 0.0, -1.0])

    def model(x_t, t=None, y=None):
        return logits.expand(*x_t.shape, K)

    out = MaskedText(MASKS).sample(
        model, (20_000, 1), 4, corrections=2, generator=seeded()
    )
    seen = torch.bincount(out.x.flatten(), minlength=K) / len(out.x)
    limit = math.sqrt((K * math.log(2) + math.log(1e6)) / (2 * len(out.x)))
    assert (seen - logits.softmax(-1)).abs().sum() / 2 < limit


def test_corrections_leave_given_letters_alone():
    given = torch.tensor([0, -1, 3, -1, 1])
    out = MaskedText(MASKS).sample(
        Table(), (50, 5), 6, corrections=3, given=given, generator=seeded()
    )
    assert (out.x == given)[:, given >= 0].all()


def test_without_corrections_masked_text_is_the_sampler_of_chapter_8():
    ours = MaskedText(MASKS).sample(Table(), (9, 6), 7, generator=seeded()).x
    theirs = sample(Table(), MASKS, (9, 6), 7, generator=seeded()).x
    assert torch.equal(ours, theirs)


@EACH
def test_one_output_too_many_is_refused_everywhere(name):
    system = systems()[name]
    net = Table(getattr(system, "outputs", K) + 1)
    x = torch.randint(K, (4, 6), generator=seeded())
    drawn = system.noise(x, generator=seeded())
    doors = [
        lambda: system.loss(net, *drawn),
        lambda: system.bits(net, x, 2, generator=seeded()),
        lambda: system.sample(net, (2, 6), 3),
    ]
    if name == "masked":
        doors.append(lambda: system.order_bits(net, x, 2))
    if name.startswith("flow"):
        doors.append(lambda: system.bits(net, x, 2, process="score"))
    for door in doors:
        with pytest.raises(ValueError, match="logits: expected shape"):
            door()


READS = {
    "uniform, loo": "leave-one-out",
    "uniform, score": "score",
    "masks, loo": "full",
    "masks, score": "score",
    "masked": "full",
    "timed": "full",
    "flow": "leave-one-out",
    "flow, masks": "full",
}


@EACH
def test_a_system_says_what_it_reads(name):
    system = systems()[name]
    assert system.reads == READS[name]
    if system.reads == "leave-one-out":
        assert MasksFirst(system).reads == "leave-one-out"
    if system.reads == "score":
        with pytest.raises(ValueError, match="leave-one-out answers"):
            MasksFirst(system)


@EACH
def test_a_network_that_says_something_else_is_refused(name):
    system = systems()[name]
    net = network(system)
    x = torch.randint(K, (4, 6), generator=seeded())
    drawn = system.noise(x, generator=seeded())
    for said in ("full", "leave-one-out", "score"):
        net.reads = said
        fits = said == system.reads
        if isinstance(system.kernel, Absorbing) and system.reads == "full":
            fits = said != "score"
        doors = (
            lambda: system.loss(net, *drawn),
            lambda: system.bits(net, x, 2, generator=seeded()),
            lambda: system.sample(net, (2, 6), 3, generator=seeded()),
        )
        for door in doors:
            if fits:
                door()
            else:
                with pytest.raises(ValueError, match="got one with reads"):
                    door()


def bayes(system, logits, x_t, t):
    "Cross-entropy of the full posterior, in float64, written out."
    a = system.kernel.alpha(t)
    copy = torch.log1p(a * K / (1 - a))[:, None]
    full = logits.double()
    return full.scatter_add(
        -1, x_t[..., None], copy.expand_as(x_t)[..., None].double()
    )


@pytest.mark.parametrize("kind", [FlowMatching, ScoreEntropy])
def test_the_bayes_term_of_a_bfloat16_network_is_not_rounded(kind):
    system = kind(UNIFORM, power=0.0)
    x_0 = torch.randint(K, (64, 32), generator=seeded())
    t = torch.linspace(0.001, 0.2, 64, dtype=torch.float64)
    x_t = UNIFORM.sample(x_0, t, seeded())
    net = Table(dtype=torch.bfloat16)
    got = system.loss(net, x_0, x_t, t)["loss"]
    logits = bayes(system, net(x_t).detach(), x_t, t)
    want = cross_entropy(logits.movedim(-1, 1), x_0, reduction="none").mean(1)
    assert got.dtype == torch.float32
    assert torch.allclose(got.double(), want, rtol=1e-4, atol=2e-6)


def test_nor_is_it_where_the_function_is_called_by_itself():
    t = torch.linspace(0.001, 0.2, 64, dtype=torch.float64)
    x_0 = torch.randint(K, (64, 32), generator=seeded())
    x_t = UNIFORM.sample(x_0, t, seeded())
    short = torch.randn(64, 32, K, generator=seeded()).bfloat16()
    got, want = (
        posterior_loss(UNIFORM, logits, x_0, x_t, t)
        for logits in (short, short.double())
    )
    assert torch.allclose(got.double(), want, rtol=1e-4, atol=2e-6)


@EACH
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16]
)
def test_networks_of_every_dtype(name, dtype):
    system = systems()[name]
    net = network(system, dtype=dtype)
    x = torch.randint(K, (6, 5), generator=seeded())
    drawn = system.noise(x, generator=seeded())
    out = system.loss(net, *drawn)["loss"]
    assert out.dtype in (torch.float32, torch.float64)
    out.sum().backward()
    assert net.w.grad.isfinite().all()
    exact = network(system, dtype=torch.float64)
    exact.w.data = net.w.data.double()
    a, b = (
        system.bits(n, x, 2, generator=seeded()).total for n in (net, exact)
    )
    near = 0.02 if dtype == torch.bfloat16 else 1e-4
    assert abs(a - b) < near * b
    system.sample(net, (2, 5), 4, generator=seeded())


def test_order_bits_of_one_window_prints_no_nan():
    one = torch.randint(K, (1, 6), generator=seeded())
    out = MaskedText(MASKS).order_bits(Table(), one, 3, seeded())
    assert "nan" not in repr(out) and "one window of 6 in 3 orders" in repr(out)
    assert "standard error over windows" in repr(OrderBits(torch.rand(2, 3), 6))


@pytest.mark.parametrize("half", [np.float32(0.5), torch.tensor(0.5)])
def test_every_kind_of_number_is_an_option(half):
    for kind, kernel in (
        (ScoreEntropy, UNIFORM),
        (FlowMatching, UNIFORM),
        (MaskedText, MASKS),
    ):
        assert kind(kernel, power=half).power == 0.5
    assert MasksFirst(ScoreEntropy(UNIFORM), half).share == 0.5
    FlowMatching(UNIFORM).sample(Table(), (2, 3), 3, share=half, eta=half)
    ScoreEntropy(UNIFORM).sample(Table(), (2, 3), 3, more=2 + half)


def test_the_states_live_where_the_network_lives():
    net = Table().to("meta")
    for model in (net, Remember(net, K)):
        assert device_of(model).type == "meta"
        assert device_of(model, "cpu").type == "cpu"
    assert device_of(lambda x_t, t, y: x_t).type == "cpu"


@EACH
def test_a_text_that_was_not_cut_into_windows_is_refused(name):
    "Its letters would be taken for items of no length."
    system, tokens = systems()[name], torch.randint(K, (40,))
    with pytest.raises(ValueError, match=r"x_0: .*\(batch, \*shape\).*\(4,\)"):
        fit(
            network(system),
            system.loss,
            tokens,
            TrainConfig(steps=1, batch_size=4),
            noise=system.noise,
            progress=False,
        )
    with pytest.raises(ValueError, match=r"x_0: .*\(batch, \*shape\)"):
        D3PM(UNIFORM, 4).noise(tokens, tokens, seeded())
    with pytest.raises(ValueError, match=r"x_0: .*\(batch, \*shape\)"):
        BlockText(MASKS, 2).noise(tokens, seeded())


def test_blocks_learn_from_one_call_a_block():
    "A network without `both` has the gradient that one pass would give it."
    torch.manual_seed(0)
    net = BlockNet(K, 2, width=8, heads=2, depth=1).double()
    torch.nn.init.normal_(net.head.weight)
    system = BlockText(MASKS, 2)
    drawn = system.noise(torch.arange(24).view(4, 6) % K, seeded())
    gradients = []
    for model in (net, lambda x_t, t, y: net(x_t)):
        net.zero_grad()
        system.loss(model, *drawn)["loss"].mean().backward()
        gradients.append(net.emb.weight.grad.clone())
    assert gradients[0].abs().max() > 1e-3
    torch.testing.assert_close(*gradients)


def test_the_bound_of_blocks_refuses_logits_of_the_mask():
    net = Table(K + 1)
    with pytest.raises(ValueError, match="logits: expected shape"):
        block_bound(net, MASKS, torch.zeros(2, 4, dtype=torch.int64), 2)


def test_a_network_that_remembers_starts_anew_with_each_sample():
    asked, system = [], MaskedText(MASKS)

    def net(x_t, t=None, y=None):
        asked.append(t)
        return torch.zeros(*x_t.shape, K)

    kept = Remember(net, K)
    for _ in range(2):
        system.sample(kept, (3, 4), 1, generator=seeded())
    assert len(asked) == 2
    asked.clear()
    TimedMaskedText(MASKS).sample(kept, (2, 4), 3, generator=seeded())
    assert [t[0].item() for t in asked] == pytest.approx([1, 2 / 3, 1 / 3])


def plain(x_t, t=None, y=None):
    return torch.zeros(*x_t.shape, K)


def answers_scores(x_t, t=None, y=None):
    return torch.zeros(*x_t.shape, K)


answers_scores.reads = "score"
WINDOWS = torch.arange(24).view(4, 6) % K
LABELS = torch.tensor([0, 1])
IMAGES = D3PM(UNIFORM, 4)
BLOCKS = BlockText(MASKS, 2)
REFUSED = {
    "times, none": (lambda: IMAGES.sample(plain, LABELS, (2, 2), []), "times:"),
    "times, a float": (
        lambda: IMAGES.sample(plain, LABELS, (2, 2), 2.0),
        "times: expected a number of steps or a float tensor",
    ),
    "times, of blocks": (
        lambda: BLOCKS.sample(plain, (2, 6), 2.0),
        "times: expected a number of steps",
    ),
    "labels": (
        lambda: IMAGES.sample(plain, torch.tensor(0), (2, 2)),
        r"y: expected labels, \(items,\), got shape \(\)",
    ),
    "shape": (lambda: BLOCKS.sample(plain, (2, 6, 1)), "shape: expected"),
    "no shape": (lambda: BLOCKS.sample(plain, None), "shape: expected"),
    "reads": (lambda: BLOCKS.sample(answers_scores, (2, 6)), "model: expected"),
    "reads, in a loss": (
        lambda: BLOCKS.bits(answers_scores, WINDOWS),
        "model: expected",
    ),
    "a device": (
        lambda: MaskedText(MASKS).sample(plain, (2, 4), device="nonsense"),
        "device: expected one that PyTorch can use here",
    ),
    "another": (
        lambda: FlowMatching(UNIFORM).sample(plain, (2, 4), device=3.5),
        "device: expected one that PyTorch can use here",
    ),
    "no network": (
        lambda: MaskedText(MASKS).sample(None, (2, 4)),
        "model: expected a network",
    ),
    "no network for bits": (
        lambda: MaskedText(MASKS).bits(None, WINDOWS),
        "model: expected a network",
    ),
    "no windows": (lambda: MaskedText(MASKS).bits(plain, None), "x_0"),
    "one axis": (
        lambda: TimedMaskedText(MASKS).bits(plain, WINDOWS[0]),
        "x_0: expected shape",
    ),
    "no letters": (
        lambda: MaskedText(MASKS).bits(plain, WINDOWS[:, :0]),
        "x_0: expected shape",
    ),
    "batches of none": (
        lambda: BLOCKS.bits(plain, WINDOWS, batch_size=0),
        "batch_size: expected at least 1",
    ),
    "orders": (
        lambda: MaskedText(MASKS).order_bits(
            plain, WINDOWS, torch.zeros(1, 6, dtype=torch.int64)
        ),
        "each row a permutation",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_the_name_that_it_has(name):
    call, says = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=says):
        call()


def test_counts_may_be_numpys():
    size = np.int64(2)
    for system in (MaskedText(MASKS), FlowMatching(UNIFORM), BLOCKS):
        bits = system.bits(plain, WINDOWS, size, batch_size=size)
        assert math.isfinite(bits.total)
