"""Exact laws of every sampler, as they were before all of them ran in one loop
(recorded from the loops that each had of its own), to 1e-10."""

import json
from pathlib import Path

import pytest
import torch

from discrete_diffusion.ctmc import euler, tweedie
from discrete_diffusion.flow import FlowMatching
from discrete_diffusion.forward import (
    Absorbing,
    Redraw,
    Schedule,
    Uniform,
    cosine_schedule,
    linear_schedule,
)
from discrete_diffusion.mdlm import MaskedText
from discrete_diffusion.samplers import (
    forward_backward,
    gibbs,
    hold_all,
    remask,
    way_back,
)
from discrete_diffusion.sampling import ancestral, sampler_law
from discrete_diffusion.sedd import ScoreEntropy, first_jump
from discrete_diffusion.worlds import state_index

FILE = Path(__file__).parent / "frozen_laws.json"
K, L, T = 3, 3, 4
half = Schedule(lambda t: 0.8 * (1 - t**1.5), "0.8 (1 - t^1.5)")
LEAVES = Schedule(lambda t: 1 - 0.9 * t**2, "1 - 0.9 t^2")
KERNELS = {
    "uniform": Uniform(K, cosine_schedule()),
    "masks": Absorbing(K, cosine_schedule()),
    "uneven": Redraw(K, torch.tensor([0.2, 0.3, 0.5]), LEAVES),
    "half uniform": Uniform(K, half),
    "half masks": Absorbing(K, half),
    "masks leave": Absorbing(K, LEAVES),
}


def network(kernel, outputs=K, reads="leave-one-out", seed=0):
    g = torch.Generator().manual_seed(seed)
    S = kernel.N**L
    a, b = torch.randn(2, S, L, outputs, generator=g, dtype=torch.float64)
    c = torch.randn(2, outputs, generator=g, dtype=torch.float64)

    def net(x_t, t, y=None):
        i = state_index(x_t, kernel.N)
        out = a[i]
        if t is not None:
            out = out + t.double()[:, None, None] * b[i]
        if y is not None:
            out = out + c[y][:, None]
        return out

    net.reads = reads
    return net


STEPS = {
    "ancestral": ancestral,
    "euler": euler,
    "first-jump": first_jump,
    "tweedie": tweedie,
}


FOUND = {}


def same(key, law):
    FOUND[" ".join(map(str, key))] = law


def of_samplers():
    for name, k in KERNELS.items():
        m = isinstance(k, Absorbing)
        for reads in ("full", "leave-one-out"):
            net = network(k, reads=reads)
            for s in STEPS:
                same(
                    (name, reads, s),
                    sampler_law(net, k, L, way_back(k, T, STEPS[s])),
                )
            if reads == "leave-one-out" or m:
                same(
                    (name, reads, "gibbs2"),
                    sampler_law(
                        net,
                        k,
                        L,
                        way_back(k, T, corrector=lambda i: gibbs(i, 2)),
                        y=1,
                        temperature=0.9,
                    ),
                )
                same(
                    (name, reads, "gibbs"),
                    sampler_law(
                        net, k, L, way_back(k, T, euler, gibbs, lambda s: 2)
                    ),
                )
                same(
                    (name, reads, "balanced"),
                    sampler_law(
                        net,
                        k,
                        L,
                        way_back(
                            k,
                            T,
                            corrector=lambda i: forward_backward(),
                            corrections=2,
                        ),
                    ),
                )
            given = torch.tensor([1, -1, -1])
            same(
                (name, reads, "clean"),
                sampler_law(net, k, L, hold_all(way_back(k, T), given)),
            )
            w = way_back(
                k,
                T,
                corrector=(lambda i: forward_backward())
                if m or reads != "full"
                else None,
            )
            same(
                (name, reads, "noised"),
                sampler_law(net, k, L, hold_all(w, given, True)),
            )
        if m:
            for rule, eta in (("rescale", 0.3), ("cap", 0.1), ("rate", 3.0)):
                same(
                    (name, "full", rule),
                    sampler_law(
                        network(k, reads="full"),
                        k,
                        L,
                        way_back(k, T, remask(eta, rule)),
                    ),
                )


def of_systems():
    for name, k in KERNELS.items():
        for head in ("loo", "score"):
            if head == "score" and name in ("uniform", "half uniform"):
                continue
            system = ScoreEntropy(k, head)
            net = network(k, system.outputs, system.reads)
            for step in ("tweedie", "euler", "first-jump"):
                ask = system.denoise(net)
                same(
                    ("sedd", name, head, step),
                    sampler_law(ask, k, L, system.moves(T, step)),
                )
                same(
                    ("sedd", name, head, step, "corrected"),
                    sampler_law(
                        system.denoise(net), k, L, system.moves(T, step, 2)
                    ),
                )
        if name != "uneven":
            f = FlowMatching(k)
            net = network(k, K, f.reads)
            for method in ("euler", "coin"):
                for eta in (0.0, 0.5):
                    same(
                        ("flow", name, method, eta),
                        sampler_law(net, k, L, f.moves(T, eta, method)),
                    )
                    same(
                        ("flow", name, method, eta, "corrected"),
                        sampler_law(
                            net,
                            k,
                            L,
                            f.moves(T, eta, method, 2, 0.1),
                            temperature=0.8,
                        ),
                    )


def of_texts():
    k = Absorbing(K, linear_schedule())
    net = network(k, K, "full")

    def notime(x, t, y=None):
        return net(x, None)

    f = MaskedText(k)
    for given in (None, torch.tensor([1, -1, -1])):
        moves = f.moves(T, 2)
        if given is not None:
            moves = hold_all(moves, given)
        same(
            ("mdlm", "given" if given is not None else "free"),
            sampler_law(notime, k, L, moves, temperature=0.8),
        )


of_samplers()
of_systems()
of_texts()


@pytest.mark.parametrize("name", FOUND)
def test_no_law_has_moved(name):
    was = torch.tensor(json.loads(FILE.read_text())[name], dtype=torch.float64)
    torch.testing.assert_close(FOUND[name], was, rtol=0, atol=1e-10)
