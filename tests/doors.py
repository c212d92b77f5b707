"""The public numbers of the library, each as a function of a `Place`.

A test calls every door in different circumstances (grad modes, devices, dtypes of
the network) and compares what comes out.
"""

import torch

import discrete_diffusion.posterior as laws
from discrete_diffusion.blocks import BlockText, block_bound
from discrete_diffusion.bounds import (
    TimeDensity,
    continuous_bits,
    continuous_bound,
    exact_continuous_bound,
    exact_masks,
    flow_rate,
    masked_rate,
    score_rate,
    uniform_rate,
)
from discrete_diffusion.control import (
    Guided,
    Particles,
    carry,
    effective_size,
    log_normaliser,
    resample,
)
from discrete_diffusion.ctmc import (
    euler,
    euler_rows,
    gillespie,
    leap_rows,
    loo_from_score,
    rate_matrix,
    rates_from_loo,
    reveal_rate,
    reverse_rates,
    score_from_full,
    score_from_loo,
    tweedie,
    tweedie_rows,
)
from discrete_diffusion.d3pm import D3PM, MaskedD3PM
from discrete_diffusion.decode import (
    apart,
    at_random,
    best_counts,
    context_cost,
    entropy_bounded,
    in_turn,
    priced,
    reveal,
    staircase,
    surer_than,
)
from discrete_diffusion.evaluation import bits_per_dim, loss_by_noise
from discrete_diffusion.flow import (
    FlowMatching,
    conditional_velocity,
    corrector_velocity,
    flow_rows,
    noise_velocity,
    velocity,
)
from discrete_diffusion.forward import (
    Absorbing,
    Redraw,
    Schedule,
    Uniform,
    absorbs,
    cosine_schedule,
    gaussian_kernel,
    linear_schedule,
)
from discrete_diffusion.losses import (
    bound,
    cross_entropy,
    exact_bound,
    hybrid_loss,
    masked_step_kl,
    prior_term,
    reconstruction_term,
    step_kl,
)
from discrete_diffusion.mdlm import MaskedText, Remember, TimedMaskedText
from discrete_diffusion.posterior import full_from_loo
from discrete_diffusion.samplers import (
    first_hitting,
    forward_backward,
    gibbs,
    hold_all,
    remask,
    unmask,
    unmask_law,
    way_back,
)
from discrete_diffusion.sampling import (
    forth,
    guide,
    sample,
    sampler_law,
    temper,
    top_p,
)
from discrete_diffusion.sedd import (
    MasksFirst,
    ScoreEntropy,
    first_jump,
    posterior_loss,
)
from discrete_diffusion.transformer import NextLetter, log_score, subs

K = 4
LEAVES = Schedule(lambda t: 0.95 - 0.7 * t, "leaves some at both ends")
KERNELS = {
    "uniform": Uniform(K, cosine_schedule()),
    "masks": Absorbing(K, cosine_schedule()),
    "uneven": Redraw(K, torch.tensor([0.1, 0.2, 0.3, 0.4]), LEAVES),
    "matrices": gaussian_kernel(K, torch.full((10,), 0.3)),
}


class Place:
    "Where a door is tried: how tensors get there, and what dtype the network answers in."

    def __init__(self, put=lambda x: x, device="cpu", dtype=torch.float64):
        self.put = put
        self.device = device
        self.dtype = dtype

    def generator(self):
        return torch.Generator().manual_seed(0)

    def numbers(self, *shape):
        return torch.randn(
            *shape, generator=self.generator(), dtype=torch.float64
        )

    def clean(self):
        return self.put(torch.randint(K, (6, 2, 3), generator=self.generator()))

    def text(self):
        return self.put(torch.randint(K, (6, 5), generator=self.generator()))

    def labels(self):
        return self.put(torch.tensor([0, 1, 2, 0, 1, 2]))

    def times(self):
        return self.put(
            torch.tensor([0.1, 0.3, 0.5, 0.7, 0.8, 0.6], dtype=torch.float64)
        )

    def probs(self):
        return self.put(self.numbers(6, 2, 3, K).softmax(-1))

    def logits(self):
        return self.put(self.numbers(6, 2, 3, K)).to(self.dtype)

    def network(self, kernel, outputs=K, time=True, reads="leave-one-out"):
        table = self.put(self.numbers(kernel.N, outputs)).to(self.dtype)
        slant = self.put(self.numbers(outputs)).to(self.dtype)

        def net(x_t, t, y=None):
            out = table[x_t]
            if time and t is not None:
                late = t.reshape(-1, *[1] * x_t.ndim).to(out.dtype)
                out = out + late * slant
            if y is not None:
                out = out + y.reshape(-1, *[1] * x_t.ndim).to(out.dtype) * slant
            return out

        one = absorbs(kernel) and reads != "score"
        net.reads = "full" if one else reads
        return net


def _noised(at, kernel):
    "x_0, x_t and s, t at times of their own."
    x_0 = at.clean()
    t = at.times()
    s = t - 0.1
    if kernel.T is not None:
        s, t = 0.3, 0.7
    return x_0, kernel.sample(x_0, t, at.generator()), s, t


def _kernel_doors(name, k):
    yield f"{name}.sample", lambda at: k.sample(at.clean(), 0.5, at.generator())
    yield (
        f"{name}.jump",
        lambda at: k.jump(at.clean(), 0.2, 0.5, at.generator()),
    )
    yield f"{name}.probs", lambda at: k.probs(at.clean(), 0.5)
    yield f"{name}.evidence", lambda at: k.evidence(at.clean(), 0.5)
    yield f"{name}.likelihood", lambda at: k.likelihood(at.clean(), 0.2, 0.5)
    yield f"{name}.push", lambda at: k.push(at.probs(), 0.5)
    yield f"{name}.prior_term", lambda at: prior_term(k, at.clean())

    def posterior(at):
        x_0, x_t, s, t = _noised(at, k)
        return laws.posterior(k, x_0, x_t, s, t)

    def posterior_draw(at):
        x_0, x_t, s, t = _noised(at, k)
        return laws.posterior_draw(k, x_0, x_t, s, t, at.generator())

    def mixture(at):
        _, x_t, s, t = _noised(at, k)
        return laws.reverse_mixture(k, at.probs(), x_t, s, t)

    def eq4(at):
        _, x_t, s, t = _noised(at, k)
        return laws.reverse_eq4(k, at.probs(), x_t, s, t)

    def full(at):
        _, x_t, _, t = _noised(at, k)
        return full_from_loo(k, at.probs(), x_t, t)

    def kl_full(at):
        x_0, x_t, s, t = _noised(at, k)
        return step_kl(k, at.logits(), x_0, x_t, s, t, "full")

    def kl_loo(at):
        x_0, x_t, s, t = _noised(at, k)
        return step_kl(k, at.logits(), x_0, x_t, s, t, "leave-one-out")

    for door in (
        posterior,
        posterior_draw,
        mixture,
        eq4,
        full,
        kl_full,
        kl_loo,
    ):
        yield f"{name}.{door.__name__}", door


def _bound_doors(name, k):
    T = k.T or 7

    def one(at):
        return bound(
            at.network(k), k, at.clean(), T, at.labels(), at.generator()
        ).total

    def hybrid(at):
        out = hybrid_loss(
            at.network(k), k, at.clean(), T, generator=at.generator()
        )
        return out

    def bits(at):
        net = at.network(k)
        return bits_per_dim(
            net, k, at.clean(), T, passes=2, generator=at.generator()
        ).total

    def by_noise(at):
        return loss_by_noise(
            at.network(k),
            k,
            at.clean(),
            T,
            bands=1,
            passes=2,
            generator=at.generator(),
        )

    def drawn(at):
        steps = k.T or 4
        net = at.network(k)
        y = at.labels()
        return sample(
            net,
            k,
            (6, 2, 3),
            steps,
            y,
            guidance=2.0,
            temperature=0.9,
            p=0.95,
            generator=at.generator(),
            device=at.device,
        ).x

    for door in (one, hybrid, bits, by_noise, drawn):
        yield f"{name}.{door.__name__}", door


def _rate_doors(name, k):
    rates = {
        "uniform": [uniform_rate, flow_rate, score_rate],
        "masks": [masked_rate, flow_rate, score_rate],
        "uneven": [flow_rate, score_rate],
    }[name]
    for rate in rates:
        outputs = k.N if rate is score_rate else K

        def value(at, rate=rate, outputs=outputs):
            x_0, x_t, _, t = _noised(at, k)
            answer = at.network(k, outputs)(x_t, t)
            return rate(k, answer, x_0, x_t, t)

        def total(at, rate=rate, outputs=outputs):
            net = at.network(k, outputs, reads=rate.reads)
            return continuous_bound(
                net, k, at.clean(), rate, generator=at.generator()
            ).total

        def bits(at, rate=rate, outputs=outputs):
            net = at.network(k, outputs, reads=rate.reads)
            return continuous_bits(
                net, k, at.clean(), rate, 2, 4, at.generator()
            ).total

        yield f"{name}.{rate.__name__}", value
        if not (rate is flow_rate and name == "uneven"):
            yield f"{name}.continuous_bound({rate.__name__})", total
            yield f"{name}.continuous_bits({rate.__name__})", bits


def _score_doors(name, k):
    def loo_score(at):
        _, x_t, _, t = _noised(at, k)
        return score_from_loo(k, at.probs(), x_t, t)

    def full_score(at):
        _, x_t, _, t = _noised(at, k)
        return score_from_full(k, at.probs(), x_t, t)

    def back(at):
        _, x_t, _, t = _noised(at, k)
        score = score_from_loo(k, at.probs(), x_t, t)
        return loo_from_score(k, score, x_t, t)

    def rates(at):
        _, x_t, _, t = _noised(at, k)
        score = score_from_loo(k, at.probs(), x_t, t)
        return reverse_rates(k, score, x_t, t)

    def loo_rates(at):
        _, x_t, _, t = _noised(at, k)
        return rates_from_loo(k, at.probs(), x_t, t)

    for door in (loo_score, full_score, back, rates, loo_rates):
        if not (name == "masks" and door is back):
            yield f"{name}.{door.__name__}", door


def _row_doors(name, k):
    def leaps(at):
        _, x_t, s, t = _noised(at, k)
        return leap_rows(rates_from_loo(k, at.probs(), x_t, t), x_t, s, t)

    def euler(at):
        _, x_t, s, t = _noised(at, k)
        return euler_rows(k, score_from_loo(k, at.probs(), x_t, t), x_t, s, t)

    def tweedie(at):
        _, x_t, s, t = _noised(at, k)
        return tweedie_rows(k, score_from_loo(k, at.probs(), x_t, t), x_t, s, t)

    for door in (leaps, euler, tweedie):
        yield f"{name}.{door.__name__}", door


def _jump_doors(name, k):
    def walked(at):
        drawing = dict(generator=at.generator(), device=at.device)
        return sample(
            at.network(k), k, (6, 5), 4, reads="leave-one-out", **drawing
        ).x

    def weights(at):
        x_0, x_t, s, t = _noised(at, k)
        return laws.posterior_weights(k, x_0, x_t, s, t)

    yield f"{name}.posterior_weights", weights
    yield f"{name}.beta", lambda at: k.beta(at.times())
    yield f"{name}.reveal_rate", lambda at: reveal_rate(k, at.times())
    yield f"{name}.rate_matrix", lambda at: rate_matrix(k, at.times())
    yield from _score_doors(name, k)
    yield from _row_doors(name, k)
    if ends_clean(k):
        yield from _leap_doors(name, k)
    yield f"{name}.walked", walked


def ends_clean(k):
    return k.alpha(0.0) == 1


def _leap_doors(name, k):
    def sampled(at, moves, net=None, **options):
        net = net or at.network(k)
        drawing = dict(generator=at.generator(), device=at.device)
        return sample(net, k, (6, 5), moves, **drawing, **options).x

    def corrected(at):
        moves = way_back(k, 4, corrector=lambda turn: gibbs(turn, 2))
        bent = dict(guidance=2.0, p=0.9)
        return sampled(at, moves, y=at.labels(), **bent)

    def balanced(at):
        net = at.network(k)
        if absorbs(k):
            net = Remember(net, k.mask)
        both = forward_backward()
        moves = way_back(k, 4, corrector=lambda turn: both, corrections=2)
        return sampled(at, moves, net)

    def filled(at):
        given = at.put(torch.tensor([1, -1, -1, 2, -1]))
        moves = way_back(k, 4)
        return sampled(at, hold_all(moves, given, noised=not absorbs(k)))

    for step in (euler, tweedie):
        moves = way_back(k, 4, step)
        yield (
            f"{name}.sample({step.__name__})",
            lambda at, moves=moves: sampled(at, moves),
        )
    for door in (corrected, balanced, filled):
        yield f"{name}.{door.__name__}", door


def _mask_doors(k):
    def hitting(at):
        return first_hitting(
            at.network(k), k, (6, 5), generator=at.generator(), device=at.device
        ).x

    def remasked(at):
        return sample(
            at.network(k),
            k,
            (6, 5),
            way_back(k, 4, remask(0.3)),
            generator=at.generator(),
            device=at.device,
        ).x

    def masked_kl(at):
        x_0, x_t, s, t = _noised(at, k)
        return masked_step_kl(k, at.logits(), x_0, x_t, s, t)

    def some_masks(at):
        x_t, weights = exact_masks(k, at.text(), at.generator())
        return torch.cat([x_t.cpu().double(), weights[:, None].cpu()], 1)

    yield "first_hitting", hitting
    yield "remask", remasked
    yield "masked_step_kl", masked_kl
    yield "exact_masks", some_masks
    for order in ("random", "left", "confidence", "margin", "drawn"):

        def shown(at, order=order):
            return unmask(
                at.network(k),
                k,
                (6, 5),
                3,
                order,
                generator=at.generator(),
                device=at.device,
            ).x

        yield f"unmask({order})", shown


def _flow_doors(name, k):
    def conditional(at):
        x_0, x_t, _, t = _noised(at, k)
        return conditional_velocity(k, x_0, x_t, t)

    def plain_velocity(at):
        _, x_t, _, t = _noised(at, k)
        return velocity(k, at.probs(), x_t, t)

    def up(at):
        _, x_t, _, t = _noised(at, k)
        return noise_velocity(k, x_t, t)

    def corrector(at):
        _, x_t, _, t = _noised(at, k)
        return corrector_velocity(k, at.probs(), x_t, t)

    for method in ("euler", "coin"):

        def rows(at, method=method):
            x_t = k.sample(at.clean(), 0.6, at.generator())
            return flow_rows(k, at.probs(), x_t, 0.4, 0.6, 0.5, method)

        yield f"{name}.flow_rows({method})", rows
    for door in (conditional, plain_velocity, up, corrector):
        yield f"{name}.{door.__name__}", door


def _system_doors():
    systems = {
        "D3PM uniform": D3PM(KERNELS["uniform"], 7, classes=3),
        "D3PM masks": D3PM(KERNELS["masks"], 7, classes=3),
        "MaskedD3PM": MaskedD3PM(Absorbing(K, linear_schedule()), 7, classes=3),
        "MaskedText": MaskedText(KERNELS["masks"]),
        "TimedMaskedText": TimedMaskedText(KERNELS["masks"]),
        "FlowMatching uniform": FlowMatching(KERNELS["uniform"]),
        "FlowMatching masks": FlowMatching(KERNELS["masks"]),
        "ScoreEntropy uniform": ScoreEntropy(KERNELS["uniform"]),
        "ScoreEntropy uneven": ScoreEntropy(KERNELS["uneven"]),
        "ScoreEntropy masks": ScoreEntropy(KERNELS["masks"]),
        "ScoreEntropy scores": ScoreEntropy(KERNELS["uneven"], "score"),
    }
    for name, system in systems.items():
        labelled = isinstance(system, D3PM)
        outputs = getattr(system, "outputs", K)
        time = name != "MaskedText"

        def loss(
            at, system=system, labelled=labelled, outputs=outputs, time=time
        ):
            more = (at.labels(),) if labelled else ()
            x_0 = at.clean() if labelled else at.text()
            drawn = system.noise(x_0, *more, at.generator())
            return system.loss(
                at.network(system.kernel, outputs, time, system.reads), *drawn
            )["loss"]

        def bits(
            at, system=system, labelled=labelled, outputs=outputs, time=time
        ):
            more = (at.labels(),) if labelled else ()
            x_0 = at.clean() if labelled else at.text()
            net = at.network(system.kernel, outputs, time, system.reads)
            return system.bits(
                net, x_0, *more, passes=2, generator=at.generator()
            ).total

        def drawn(
            at, system=system, labelled=labelled, outputs=outputs, time=time
        ):
            net = at.network(system.kernel, outputs, time, system.reads)
            options = dict(generator=at.generator(), times=4, device=at.device)
            if labelled:
                return system.sample(
                    net, at.labels(), (2, 3), guidance=2.0, **options
                ).x
            return system.sample(net, (6, 5), **options).x

        yield f"{name}.loss", loss
        yield f"{name}.bits", bits
        yield f"{name}.sample", drawn


def _small_doors():
    k = Uniform(2, linear_schedule())

    def exact(at):
        every = torch.cartesian_prod(torch.arange(2), torch.arange(2))
        net = Place(dtype=at.dtype).network(
            k, 2
        )  # worlds are listed on the CPU
        return exact_continuous_bound(net, k, every, uniform_rate, 16).total

    def density(at):
        losses = torch.rand(50, generator=at.generator())
        d = TimeDensity(torch.linspace(0, 1, 50), losses, bins=8)
        return torch.stack(d.sample(10, at.generator()))

    yield "temper", lambda at: temper(at.logits(), 0.7).softmax(-1)
    yield "top_p", lambda at: top_p(at.logits(), 0.8).softmax(-1)
    yield (
        "guide",
        lambda at: guide(at.logits(), at.logits().flip(0), 2.0).softmax(-1),
    )
    yield "cross_entropy", lambda at: cross_entropy(at.logits(), at.clean())
    yield "TimeDensity", density
    yield "exact_continuous_bound", exact


def _next_letter_net(at):
    start = Absorbing(K, linear_schedule())  # state K comes first
    net = at.network(start, time=False)
    del net.reads
    return net


def _written_doors():
    "Texts that two systems draw."
    masks = KERNELS["masks"]
    text, letters = MaskedText(masks), NextLetter(K)

    def swept(at):
        net = at.network(masks, time=False)
        drawing = dict(generator=at.generator(), device=at.device)
        given = at.put(torch.tensor([1, -1, -1, 2, -1]))
        options = dict(times=4, sweeps=1, given=given)
        return text.sample(net, (6, 5), **options, **drawing).x

    def next_sample(at):
        drawing = dict(generator=at.generator(), device=at.device)
        return letters.sample(_next_letter_net(at), (6, 5), **drawing).x

    yield "MaskedText.sample(sweeps)", swept
    yield "NextLetter.sample", next_sample


def _text_doors():
    "What the text systems have beside noise, loss, bits and samples."
    masks, uniform = KERNELS["masks"], KERNELS["uniform"]
    text, first = MaskedText(masks), MasksFirst(ScoreEntropy(uniform))
    letters = NextLetter(K)

    def orders(at):
        net = at.network(masks, time=False)
        return text.order_bits(net, at.text(), 3, at.generator()).mean

    def masks_first(at):
        drawn = first.noise(at.text(), at.generator(), 0.0)
        net = at.network(masks, reads="leave-one-out")
        net.reads = "leave-one-out"
        return first.loss(net, *drawn)["loss"]

    def posterior_of_loo(at):
        x_0, x_t, _, t = _noised(at, uniform)
        return posterior_loss(uniform, at.logits(), x_0, x_t, t)

    def next_loss(at):
        return letters.loss(_next_letter_net(at), *letters.noise(at.text()))[
            "loss"
        ]

    def next_bits(at):
        return letters.bits(_next_letter_net(at), at.text()).total

    def substituted(at):
        x_0, x_t, _, t = _noised(at, masks)
        return subs(at.logits(), x_t, K).softmax(-1)

    def scores(at):
        return log_score(at.logits(), at.clean())

    return {
        "order_bits": orders,
        "MasksFirst.loss": masks_first,
        "posterior_loss": posterior_of_loo,
        "NextLetter.loss": next_loss,
        "NextLetter.bits": next_bits,
        "subs": substituted,
        "log_score": scores,
    }


def _step_doors():
    "Steps of the one loop that no sampler above takes."
    doors = {}
    masks = KERNELS["masks"]

    def noisy_end(at):
        k = KERNELS["uneven"]
        net, x_0 = at.network(k), at.clean()
        return reconstruction_term(k, net, x_0, generator=at.generator())

    doors["reconstruction_term"] = noisy_end
    for name in ("uniform", "masks"):
        k = KERNELS[name]

        def walked(at, k=k):
            moves = [(first_jump, 1.0, 0.5), (first_jump, 0.5, 0.2)]
            moves += [(forth, 0.2, 0.4), (first_jump, 0.4, 0.0)]
            drawing = dict(generator=at.generator(), device=at.device)
            return sample(at.network(k), k, (6, 5), moves, **drawing).x

        doors[f"{name}.first_jump, forth"] = walked
    choices = {
        "entropy_bounded": lambda g: lambda p, h: entropy_bounded(p, h, 1.0),
        "surer_than": lambda g: lambda p, h: surer_than(p, h, 0.3),
        "at_random": lambda g: at_random(2, g),
        "apart": lambda g: apart(2, g),
    }
    for name, choice in choices.items():

        def moves(at, choice=choice):
            return in_turn([reveal(choice(at.generator()))] * 5)

        def revealed(at, moves=moves):
            drawing = dict(generator=at.generator(), device=at.device)
            net = at.network(masks, time=False)
            return sample(net, masks, (6, 5), moves(at), **drawing).x

        def costs(at, moves=moves):
            net = at.network(masks, time=False)
            nats, calls = priced(net, masks, at.text(), moves(at))
            return nats + calls

        doors[f"reveal({name})"] = revealed
        if name != "entropy_bounded":  # it may need more than five calls
            doors[f"priced({name})"] = costs
    return doors


def _part_three_doors():
    "Chapters 19 to 21."
    masks = KERNELS["masks"]
    blocks = BlockText(masks, 2)

    def curve(at):
        return at.put(self_information().sort(descending=True).values)

    def self_information():
        return Place().numbers(6).abs()

    def cost(at):
        shown = at.put(torch.tensor([True, False, True, False, False]))
        net = at.network(masks)
        return context_cost(net, masks, at.text(), shown)

    def block(at):
        return block_bound(at.network(masks, time=False), masks, at.text(), 2)

    def block_loss(at):
        drawn = blocks.noise(at.text(), at.generator())
        return blocks.loss(at.network(masks, time=False), *drawn)["loss"]

    def block_bits(at):
        net = at.network(masks, time=False)
        drawing = dict(passes=2, generator=at.generator())
        return blocks.bits(net, at.text(), **drawing).total

    def weights(at):
        return at.logits()[..., 0, 0, 0].to(torch.float32)

    def resampled(at):
        x, log_w = resample(at.text(), weights(at), 3, at.generator(), 1.0)
        return torch.cat([x, log_w[:, None]], 1)

    def particles(at):
        y = at.put(torch.tensor([0, 0, 0, 1, 1, 1]))
        ask = Guided(at.network(masks), K, y, guidance=2.0)
        own = Particles(3, at.generator())
        drawing = dict(generator=at.generator(), device=at.device)
        moves = carry(way_back(masks, 4), own)
        x = own.pick(sample(ask, masks, (6, 5), moves, **drawing).x)
        return torch.cat([x, own.log_mean()[:, None]], 1)

    return {
        "context_cost": cost,
        "staircase": lambda at: staircase(curve(at), [1, 2, 3]),
        "best_counts": lambda at: best_counts(curve(at), 3),
        "block_bound": block,
        "BlockText.loss": block_loss,
        "BlockText.bits": block_bits,
        "log_normaliser": lambda at: log_normaliser(
            at.logits(), at.logits().flip(0), 2.0
        ),
        "effective_size": lambda at: effective_size(weights(at)),
        "resample": resampled,
        "Particles": particles,
    }


def _law_doors():
    "What lives on the CPU: exact laws of small worlds, paths, texts by blocks."

    def here(at):
        return Place(dtype=at.dtype)

    for name in ("uniform", "masks"):
        k = KERNELS[name]

        def law(at, k=k):
            return sampler_law(here(at).network(k), k, 2, 3)

        def exact(at, k=k):
            every = torch.cartesian_prod(torch.arange(K), torch.arange(K))
            return exact_bound(here(at).network(k), k, every, 3).total

        def jumps(at, k=k):
            return gillespie(k, Place().clean(), 0.9, at.generator()).times

        yield f"{name}.sampler_law", law
        yield f"{name}.exact_bound", exact
        yield f"{name}.gillespie", jumps
    masks = KERNELS["masks"]
    blocks = BlockText(masks, 2)

    def unmasked(at):
        return unmask_law(here(at).network(masks), masks, 2, 2, "confidence")

    def by_blocks(at):
        net = here(at).network(masks, time=False)
        return blocks.sample(net, (6, 4), generator=at.generator()).x

    yield "unmask_law", unmasked
    yield "BlockText.sample", by_blocks


def _every_door():
    yield from _small_doors()
    for name, k in KERNELS.items():
        yield from _kernel_doors(name, k)
        yield from _bound_doors(name, k)
        if k.T is None:
            yield from _rate_doors(name, k)
            yield from _jump_doors(name, k)
    for name in ("uniform", "masks"):
        yield from _flow_doors(name, KERNELS[name])
    yield from _mask_doors(KERNELS["masks"])
    yield from _system_doors()
    yield from _text_doors().items()
    yield from _step_doors().items()
    yield from _part_three_doors().items()
    yield from _written_doors()
    yield from _law_doors()


def by_name(pairs):
    "{name: function of a Place}. ValueError for a name that comes twice."
    doors = {}
    for name, door in pairs:
        if name in doors:
            raise ValueError(
                f"doors: expected each name once, got {name} twice"
            )
        doors[name] = door
    return doors


def all_doors():
    "{name: function of a Place}."
    return by_name(_every_door())
