"""There is one KL, its gradient is never NaN, and exercise 5.1 asks for the same."""

import importlib
import math
import pkgutil

import pytest
import torch

import discrete_diffusion
from discrete_diffusion.exercises import references

ROWS = [
    [0.5, 0.5, 0.0],
    [1.0, 0.0, 0.0],
    [0.2, 0.3, 0.5],
    [1 - 1e-300, 1e-300, 0.0],
]


def kls():
    "The library's, and the solution of exercise 5.1."
    from discrete_diffusion.worlds import kl

    scope = {}
    exec("import math, torch\nfrom torch import Tensor", scope)
    exec("from discrete_diffusion.core import *", scope)
    exec(references()["5.1"]["source"], scope)
    return kl, scope["kl"]


def by_hand(p, q):
    pairs = zip(p, q, strict=True)
    return sum(a * math.log(a / b) if b else math.inf for a, b in pairs if a)


def test_one_module_exports_a_kl():
    modules = [
        importlib.import_module(f"discrete_diffusion.{m.name}")
        for m in pkgutil.iter_modules(discrete_diffusion.__path__)
        if not m.name.startswith("_")
    ]
    names = ("kl", "kl_divergence")
    exported = [
        (m.__name__, n)
        for m in modules
        for n in getattr(m, "__all__", [])
        if n in names
    ]
    assert exported == [("discrete_diffusion.worlds", "kl")]
    losses = importlib.import_module("discrete_diffusion.losses")
    worlds = importlib.import_module("discrete_diffusion.worlds")
    assert losses.kl is worlds.kl


@pytest.mark.parametrize("q", ROWS, ids=str)
@pytest.mark.parametrize("p", ROWS, ids=str)
def test_values_and_gradients(p, q):
    for kl in kls():
        two = [
            torch.tensor(v, dtype=torch.float64, requires_grad=True)
            for v in (p, q)
        ]
        nats = kl(*two)
        assert nats.item() == pytest.approx(by_hand(p, q), abs=1e-12)
        nats.backward()
        for v in two:
            assert not v.grad.isnan().any()
