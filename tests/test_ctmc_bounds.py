"""Jumps and bounds: what chapters 11 and 12 say of steps, schedules, letters and memory."""

import json
import re
import weakref
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from discrete_diffusion.bounds import (
    continuous_bound,
    masked_rate,
    reads_as,
    score_rate,
    uniform_rate,
)
from discrete_diffusion.ctmc import leap_rows, rates_from_loo
from discrete_diffusion.forward import (
    Absorbing,
    Uniform,
    cosine_schedule,
    geometric_schedule,
    linear_schedule,
)
from discrete_diffusion.losses import prior_term
from discrete_diffusion.posterior import reverse_eq4

NOTEBOOKS = Path(__file__).parents[1] / "nbs"
F64 = torch.float64


def cells(name):
    "The sources of a notebook's cells."
    nb = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
    return ["".join(c["source"]) for c in nb["cells"]]


# What the chapters say


def test_c_is_one_thing_in_chapter_12():
    text = "\n".join(cells("12_bounds"))
    given = re.findall(r"\bc(?:\(t\))? *= *(\\?[-\w(]+)", text)
    assert not any("alpha*K" in v.replace(" ", "") for v in given)
    assert r"c = \alpha K" not in text
    assert "c = (a * K" not in text


def test_an_euler_step_is_never_called_tau_leaping():
    for name in ("11_ctmc", "12_bounds"):
        for cell in cells(name):
            assert not re.search(r"euler_rows`? \(tau", cell)
            assert "tau-leaping is the Euler step" not in cell
    table = next(c for c in cells("11_ctmc") if "### Three names" in c)
    for method in ("**Euler**", "**first jump**", "**tau-leaping**"):
        assert method in table


def test_seds_schedules_stand_with_their_noise():
    text = next(c for c in cells("11_ctmc") if "A published case" in c)
    assert "**geometric** with **uniform**" in text
    assert "**log-linear** with **masks**" in text


# What they say it of


@pytest.mark.parametrize(
    "schedule, same", [(linear_schedule(), True), (cosine_schedule(), False)]
)
def test_masked_euler_is_ancestral_under_the_linear_schedule(schedule, same):
    kernel, s, t = Absorbing(3, schedule), 0.3, 0.5
    p = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]], dtype=F64)
    x = torch.tensor([[3, 1]])
    euler = leap_rows(rates_from_loo(kernel, p, x, t), x, s, t)
    off = (euler - reverse_eq4(kernel, p, x, s, t)).abs().max()
    assert (off < 1e-15) if same else (off > 1e-2)


def test_geometric_noise_goes_with_uniform_not_with_masks():
    x = torch.zeros(1, 4, dtype=torch.int64)
    schedule = geometric_schedule()
    assert prior_term(Uniform(65, schedule), x).abs() < 1e-6
    with pytest.raises(ValueError, match="prior term is infinite"):
        prior_term(Absorbing(65, schedule), x)


# Memory


class Alive(TorchDispatchMode):
    def __init__(self, answer):
        super().__init__()
        self.now, self.peak = 0, 0
        self.known = {answer.untyped_storage()._cdata}

    def free(self, key, size):
        self.now -= size
        self.known.discard(key)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for v in out if isinstance(out, (tuple, list)) else [out]:
            if not isinstance(v, torch.Tensor):
                continue
            memory = v.untyped_storage()
            key, size = memory._cdata, memory.nbytes()
            if key not in self.known:
                self.known.add(key)
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(memory, self.free, key, size)
        return out


RATES = [
    (score_rate, Uniform(8000, geometric_schedule())),
    (uniform_rate, Uniform(8000, geometric_schedule())),
    (masked_rate, Absorbing(8000, linear_schedule())),
]


@pytest.mark.parametrize("rate, kernel", RATES)
def test_a_bound_without_gradient_holds_less_than_one_answer_more(rate, kernel):
    x = torch.zeros(16, 128, dtype=torch.int64)
    out = torch.zeros(16, 128, 8000)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad(), Alive(out) as alive:
        continuous_bound(lambda *v: out, kernel, x, rate, generator=g)
    assert alive.peak < 4 * out.numel()


@pytest.mark.parametrize("rate, kernel", RATES)
def test_a_bound_in_parts_is_the_bound(rate, kernel):
    x = torch.arange(16 * 20).reshape(16, 20)
    out = torch.randn(16, 20, 8000, generator=torch.Generator().manual_seed(1))

    def total(v):
        g = torch.Generator().manual_seed(0)
        return continuous_bound(
            lambda *a: v, kernel, x, rate, generator=g
        ).total

    whole = total(out.clone().requires_grad_())
    torch.testing.assert_close(total(out), whole.detach())
    assert whole.requires_grad


def test_a_rate_says_what_it_reads():
    @reads_as("score")
    def rate():
        return 0

    assert rate.reads == score_rate.reads == "score"
