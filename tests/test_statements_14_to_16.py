"What chapters 14 to 16 say of methods, schedules and published numbers."

import json
import re
from pathlib import Path

import pytest
import torch

from discrete_diffusion.ctmc import (
    euler_rows,
    reveal_rate,
    reverse_rates,
    score_from_loo,
)
from discrete_diffusion.forward import (
    Uniform,
    linear_schedule,
    polynomial_schedule,
)
from discrete_diffusion.sampling import Moment
from discrete_diffusion.sedd import ScoreEntropy, first_jump

NBS = Path(__file__).resolve().parents[1] / "nbs"


def prose(chapter):
    (path,) = NBS.glob(f"{chapter}_*.ipynb")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    text = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
    return "\n\n".join(text)


def test_three_steps_have_three_names():
    "Euler is linear in the step, the first jump exponential; neither counts jumps."
    kernel = Uniform(4, polynomial_schedule(1.5))
    x = torch.arange(4)[:, None]
    logits = torch.randn(4, 1, 4, generator=torch.Generator().manual_seed(0))
    logits = logits.double()
    system = ScoreEntropy(kernel)
    ask = system.denoise(lambda x_t, t, y: logits)
    score = score_from_loo(kernel, logits.softmax(-1), x, 0.5)
    out = -reverse_rates(kernel, score, x, 0.5).gather(-1, x[..., None])
    for h in (1e-3, 0.1):
        now = Moment(kernel, x, 0.5 - h, 0.5, ask, system.reads)
        stay = first_jump(now).gather(-1, x[..., None])
        assert torch.allclose(stay, (-h * out).exp(), atol=1e-12)
        linear = euler_rows(kernel, score, x, 0.5 - h, 0.5)
        linear = linear.gather(-1, x[..., None])
        assert torch.allclose(linear, 1 - h * out, atol=1e-12)
    with pytest.raises(ValueError, match="'first-jump', got 'tau'"):
        system.moves(4, "tau")


def test_tau_leaping_is_named_only_where_poisson_numbers_are():
    for block in prose("14").split("\n\n"):
        if "tau-leaping" in block.lower():
            assert "Poisson number" in block and "none of the three" in block


def test_at_alpha_0_the_score_is_finite_and_the_rate_is_not():
    kernel = Uniform(4, linear_schedule())
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64).expand(4, 1, 4)
    x = torch.arange(4)[:, None]
    score = score_from_loo(kernel, p, x, 1.0)
    assert torch.equal(score, torch.ones_like(score))
    assert kernel.beta(1 - 1e-9) > 1e8 and reveal_rate(kernel, 1.0) == 1
    assert "is finite there, a score is not" not in prose("16")


def test_published_bounds_are_not_printed_as_equalities():
    for chapter in ("14", "15", "16"):
        text = prose(chapter)
        for number in ("1.61", "1.45", "1.47", "1.39", "1.40", "1.37"):
            for m in re.finditer(re.escape(number), text):
                assert text[: m.start()].endswith("at most "), (chapter, number)


def test_comparisons_are_no_wider_than_what_is_known():
    text = prose("14")
    assert "in every published comparison" not in text
    assert "here and in the numbers for text8" in text


def test_schedules_of_score_entropy_by_noise():
    blocks = prose("14").split("\n\n")
    (block,) = [b for b in blocks if "**log-linear**" in b]
    masks, uniform = (
        block.index("With masks"),
        block.index("With uniform noise"),
    )
    assert masks < block.index("**log-linear**") < uniform
    assert uniform < block.index("**geometric**")


def test_only_chapters_that_exist_are_named():
    known = {p.name[:2] for p in NBS.glob("[0-9]*.ipynb")}
    for chapter in ("14", "15", "16"):
        named = re.findall(r"[Cc]hapter (\d+)", prose(chapter))
        assert {f"{int(n):02d}" for n in named} <= known
