"""Each helper of `Checker`: a right answer passes, every kind of wrong answer hears its own sentence."""

import math
import random
from functools import partial

import nbformat
import numpy as np
import pytest
import torch

from discrete_diffusion import exercises as ex
from discrete_diffusion.core import door, draw, per_item, uniforms
from discrete_diffusion.exercises import Checker, CheckFailed
from discrete_diffusion.forward import (
    Absorbing,
    MatrixKernel,
    Redraw,
    Uniform,
    cosine_schedule,
    gaussian_kernel,
    geometric_schedule,
    linear_schedule,
)

F64 = torch.float64


def hears(call, *args, **options):
    "The sentence that a check stops with, '' if it does not."
    try:
        call(*args, **options)
    except CheckFailed as e:
        return e.sentence
    return ""


def all_kernels(c):
    given = gaussian_kernel(3, torch.linspace(0.1, 0.5, 8, dtype=F64))
    schedules = [cosine_schedule(), geometric_schedule(0.05, 4.0)]
    return c.kernels(Uniform, Absorbing, Redraw, given, alpha=schedules)


def posterior(kernel, x_0, x_t, s, t):
    joint = kernel.probs(x_0, s) * kernel.likelihood(x_t, s, t)
    total = joint.sum(-1, keepdim=True)
    if bool((total == 0).any()):
        raise ValueError("x_t: cannot happen")
    return joint / total


# Inputs


def test_kernels_are_of_all_kinds():
    seen = list(all_kernels(Checker("0.0")))
    assert len(seen) == 7
    assert {type(k) for k in seen} == {
        Uniform,
        Absorbing,
        Redraw,
        MatrixKernel,
    }
    laws = [k.pi for k in seen if type(k) is Redraw]
    assert all(len(p.unique()) == 3 for p in laws)
    assert any(k.alpha is not None and k.alpha(0.0) < 1 for k in seen)


def test_pairs_are_all_that_can_happen():
    c = Checker("0.0")
    for kernel in all_kernels(c):
        x_0, x_t, s, t = c.pairs(kernel)
        assert x_0.shape == x_t.shape == (6, 3, 4)
        assert s.dtype == t.dtype == F64 and bool((s < t).all())
        times = zip(s.tolist(), t.tolist(), strict=True)
        assert len(set(times)) == 6 or kernel.T
        assert t.max() == 1 and s.min() == 0
        here = kernel.probs(x_0, t).gather(-1, x_t[..., None])[..., 0]
        assert bool((here > 0).all())
        for i in range(6):
            all_k = torch.arange(kernel.K)[:, None]
            can = (kernel.probs(all_k, t[i].item()) > 0).sum()
            assert len((x_0[i] * kernel.N + x_t[i]).unique()) == can
        total = posterior(kernel, x_0, x_t, s, t).sum(-1)
        assert torch.allclose(total, torch.ones_like(total))


def test_one_impossible_token_among_possible_ones():
    kernel, c = Absorbing(3, cosine_schedule()), Checker("0.0")
    x_0, x_t, s, t = c.impossible(kernel)
    here = kernel.probs(x_0, t).gather(-1, x_t[..., None])
    assert int((here == 0).sum()) == 1
    with pytest.raises(ValueError, match="all pairs can happen"):
        c.impossible(Uniform(3, cosine_schedule()))


def test_times_logits_laws():
    c = Checker("0.0")
    t = c.times(9)
    assert len(t.unique()) == 9 and t.min() == 1e-5 and t.max() == 1 - 1e-5
    assert c.times(2, 0.1, 0.2).min() >= 0.1
    p = c.laws(6, 2, 4)
    assert torch.allclose(p.sum(-1), torch.ones(6, 2, dtype=F64))
    assert bool((p == 0).any()) and bool((p == 1).any())
    assert bool(((p > 0) & (p < 1e-290)).any())
    assert not torch.equal(c.logits(3), c.logits(3))


def test_what_is_wrong_is_shown_with_its_states_and_times():
    c, kernel = Checker("0.0"), Absorbing(3, linear_schedule())
    for k in c.kernels(kernel):
        x_0, x_t, s, t = c.pairs(k)
        want = posterior(k, x_0, x_t, s, t)
        got = want.clone()
        got[2, 1, 3, 0] += 1
        said = hears(c.close, got, want)
        i = (2, 1, 3)
        told = f"x_0 = {x_0[i]}, x_t = {x_t[i]}, s = 0.99999, t = 1"
        assert told in said and "at [2, 1, 3, 0]" in said


# A posterior with every mistake that a wide input tells from it


def check_posterior(answer):
    c = Checker("0.0")
    for kernel in all_kernels(c):
        x_0, x_t, s, t = c.pairs(kernel)
        got = c.tensor(
            answer(kernel, x_0, x_t, s, t), (*x_t.shape, kernel.N), dtype=F64
        )
        c.law(got)
        c.close(
            got,
            posterior(kernel, x_0, x_t, s, t),
            slips={"the row alone": partial(kernel.probs, x_0, s)},
        )
        c.itemwise(answer, kernel, x_0, x_t, s, t)
    masks = Absorbing(3, cosine_schedule())
    c.refuses(answer, *(masks, *c.impossible(masks)), says="refuse it")


def with_parts(s_of=lambda s: s, kind=lambda p: p):
    def answer(kernel, x_0, x_t, s, t):
        joint = kernel.probs(x_0, s_of(s)) * kernel.likelihood(x_t, s, t)
        return kind(joint / joint.sum(-1, keepdim=True))

    return answer


def refuses_late(kernel, x_0, x_t, s, t):
    "Looks at the sum of the whole batch."
    joint = kernel.probs(x_0, s) * kernel.likelihood(x_t, s, t)
    if joint.sum() == 0:
        raise ValueError("x_t: impossible")
    z = joint.sum(-1, keepdim=True)
    return joint / torch.where(z == 0, 1.0, z)


def test_posterior():
    assert hears(check_posterior, posterior) == ""

    def first(kernel, x_0, x_t, s, t):
        return posterior(kernel, x_0, x_t, s[0].item(), t[0].item())

    floor = with_parts(lambda s: torch.where(s == 0, 1 / 8, s))
    low = with_parts(kind=lambda p: p.float().double())
    half = with_parts(kind=lambda p: p.float())

    def row(kernel, x_0, x_t, s, t):
        return kernel.probs(x_0, s)

    assert "expected" in hears(check_posterior, first)
    assert "s = 0" in hears(check_posterior, floor)
    assert "worked out in float32" in hears(check_posterior, low)
    assert "expected torch.float64" in hears(check_posterior, half)
    assert "looks like the row alone" in hears(check_posterior, row)
    assert "refuse it" in hears(check_posterior, refuses_late)


# Items and tokens


def test_itemwise():
    c = Checker("0.0")
    x, t = torch.arange(24).reshape(2, 3, 4) % 3, c.times(2)
    p = c.laws(2, 3, 4, 3)

    def fine(x, t, p):
        return per_item(t, x) * p.gather(-1, x[..., None])[..., 0]

    assert hears(c.itemwise, fine, x, t, p) == ""
    item, token = "for one item", "for one token"

    def first_time(x, t, p):
        return fine(x, t[:1].expand_as(t), p)

    def batch_sum(x, t, p):
        return fine(x, t, p) / fine(x, t, p).sum()

    def axes(x, t, p):
        return fine(x, t, p) / p.sum((1, 2, 3))[:, None, None]

    def first_token(x, t, p):
        return fine(x, t, p)[:, :1, :1].expand(x.shape)

    def rows(x, t, p):
        return p.sum(2, keepdim=True).expand_as(p)

    assert item in hears(c.itemwise, first_time, x, t, p)
    assert item in hears(c.itemwise, batch_sum, x, t, p)
    assert token in hears(c.itemwise, axes, x, t, p)
    assert token in hears(c.itemwise, first_token, x, t, p)
    assert token in hears(c.itemwise, rows, x, t, p)
    assert hears(c.itemwise, axes, x, t, p, tokens=False) == ""

    def one(p):
        return p.log().sum(-1)

    def two(p):
        return one(p) + one(p).mean(1, keepdim=True)

    p = c.logits(2, 3, 4).softmax(-1)
    assert hears(c.itemwise, one, p, tokens=(3,)) == ""
    assert token in hears(c.itemwise, two, p, tokens=(3,))
    assert "expected the answer for 2 items" in hears(
        c.itemwise, lambda p: p.sum(), p
    )


# Gradients


def test_gradient():
    c = Checker("0.0")
    z = c.logits(2, 3, 4)

    def right(z):
        return z.log_softmax(-1)

    assert hears(c.gradient, right, z) == ""
    assert hears(c.gradient, right, z, want=right) == ""
    gone = hears(c.gradient, lambda z: right(z).detach(), z)
    number = hears(c.gradient, lambda z: torch.tensor(right(z).sum().item()), z)
    assert "no gradient comes back" in gone and "no gradient" in number

    def half(z):
        return z - z.detach().logsumexp(-1, keepdim=True)

    def cut(z):
        return right(z.clamp_min(-0.5))

    assert "expected" in hears(c.gradient, half, z)
    assert "It stops there" in hears(c.gradient, cut, z, want=right)
    p = torch.tensor([[0.0, 0.3, 0.7]], dtype=F64)

    def nan(p):
        return torch.where(p > 0, p.sqrt(), 0.0) ** 4

    def threshold(p):
        return torch.where(p > 1e-3, p, 0.0)

    assert "nan at [0, 0]" in hears(c.gradient, nan, p, want=torch.square)
    tiny = torch.tensor([1e-4, 0.5], dtype=F64)
    assert "It stops there" in hears(
        c.gradient, threshold, tiny, want=lambda p: p * 1
    )


def test_gradient_of_infinite_entries():
    "What is infinite is left out, -inf among the logits needs no difference."
    c = Checker("0.0")
    z = torch.tensor([[-math.inf, 0.0, 1.0]], dtype=F64)
    assert hears(c.gradient, lambda z: z.logsumexp(-1), z) == ""


# Randomness


def coins(g, shape=(400, 60)):
    return (uniforms(shape, g) < 0.3).long()


def test_drawing():
    c = Checker("0.0")
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()
    assert hears(c.drawing, coins) == ""
    assert c.drawing(coins, calls=3).shape == (1200, 60)

    def few(g):
        return torch.rand(6, 5, generator=g)

    assert hears(c.drawing, lambda g: few(g).double()) == ""
    assert hears(c.drawing, lambda g: coins(g, (6, 5)), numbers=30) == ""
    assert "in float64" in hears(c.drawing, few, numbers=30)
    assert "in float64" in hears(
        c.drawing, lambda g: coins(g, (6,)), numbers=30
    )

    def own_seed(g):
        return coins(torch.Generator().manual_seed(0))

    def copied(g):
        return coins(g.clone_state())

    def touches(g):
        torch.rand(1)
        return coins(g)

    def seeds(g):
        np.random.seed(0)
        return coins(g)

    other = "The same generator gave other draws"
    assert other in hears(c.drawing, lambda g: coins(None))
    assert other in hears(
        c.drawing, lambda g: coins(g) + random.randrange(2**30)
    )
    assert other in hears(
        c.drawing, lambda g: torch.tensor(np.random.rand(3)) + coins(g)[0, 0]
    )
    assert "has not moved" in hears(c.drawing, own_seed)
    assert "has not moved" in hears(c.drawing, copied)
    assert "A global random state was changed" in hears(c.drawing, touches)
    assert "A global random state was changed" in hears(c.drawing, seeds)

    def rewinds(g):
        g.manual_seed(5)
        return coins(g)

    assert "repeats the draws" in hears(c.drawing, rewinds)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()
    assert torch.equal(state[0], after[0]) and state[1] == after[1]
    assert np.array_equal(state[2][1], after[2][1])


@pytest.mark.parametrize("known", [True, False])
def test_independent(known):
    law = torch.tensor([0.7, 0.3], dtype=F64) if known else None
    c, g = Checker("0.0"), torch.Generator().manual_seed(0)
    assert hears(c.independent, coins(g), law) == "" and c.margin < 0
    tokens, items = "tokens of one item do not", "items of the batch do not"
    x = coins(g)
    for wrong, says in [
        (x[:, :1].expand(x.shape), tokens),
        (x[:, ::2].repeat_interleave(2, 1), tokens),
        (x[:, :30].repeat(1, 2), tokens),
        (x[:1].expand(x.shape), items),
        (x[::2].repeat_interleave(2, 0), items),
        (x[:200].repeat(2, 1), items),
        (torch.cat([x[:100].repeat(2, 1), x[100:200].repeat(2, 1)]), items),
        (torch.cat([x[:, :30], x[:, :30].flip(1)], 1), tokens),
        (torch.cat([x[:200], x[:200].flip(0)]), items),
        (torch.cat([x[:100], x[:100].flip(0), x[200:]]), items),
    ]:
        assert says in hears(c.independent, wrong, law)
        assert c.margin > 0 or not known
    if known:
        laws = law.expand(400, 60, 2).clone()
        laws[::2] = torch.tensor([0.2, 0.8], dtype=F64)
        assert hears(c.independent, draw(laws, g), laws) == ""
        both = c.drawing(lambda g: draw(laws, g), calls=2)
        assert hears(c.independent, both, laws.repeat(2, 1, 1)) == ""


def test_a_wrong_law_is_not_dependence():
    c, law = Checker("0.0"), torch.tensor([0.4, 0.6], dtype=F64)
    x = coins(torch.Generator().manual_seed(0))
    assert hears(c.independent, x, law) == ""
    assert "total variation" in hears(c.draws, x, law)


def test_half_of_the_randomness_from_a_seed_of_its_own():
    "Two calls share what a fixed seed draws, although the generator moves."

    def half(g):
        fresh = uniforms((400, 60), g) < 0.5
        return (fresh & (coins(torch.Generator().manual_seed(1)) > 0)).long()

    c = Checker("0.0")
    assert "items of the batch" in hears(
        c.independent, c.drawing(half, calls=2)
    )


def test_draws_with_a_law_for_each():
    c, g = Checker("0.0"), torch.Generator().manual_seed(0)
    laws = c.logits(20_000, 3).softmax(-1)
    assert hears(c.draws, draw(laws, g), laws) == ""
    assert "total variation" in hears(
        c.draws,
        draw(laws.roll(1, 1) ** 0 / 3, g),
        laws[:, [0, 0, 1]].softmax(-1) * 0
        + torch.tensor([0.5, 0.3, 0.2], dtype=F64),
    )


# Sentences


def test_a_slip_is_named_only_where_one_alone_fits():
    c = Checker("0.0")
    want = torch.tensor([1.0, 2.0, 3.0], dtype=F64)
    slips = {"the square": want**2, "its double": lambda: 2 * want}

    def looks(got, **more):
        said = hears(c.close, got, want, slips={**slips, **more})
        return said.partition("It looks like ")[2]

    assert looks(want**2) == "the square."
    assert looks(2 * want) == "its double."
    assert looks((2 * want).float()) == "its double."
    mixed = torch.stack([want[0], 2 * want[1], want[2] ** 2 + 1])
    assert looks(mixed) == ""  # 4 at 1 is both, but neither everywhere
    assert looks(want**2, **{"another name": want**2}) == ""
    assert looks(want + 1, **{"nothing wrong": want}) == ""
    assert looks(2 * want, **{"another shape": torch.ones(7)}) == "its double."
    assert hears(c.close, 1.0, math.inf, slips={"NaN": math.nan})
    ordered = {"first": want**2, "second": want**2}
    assert "like first." in hears(c.close, want**2, want, like=ordered)


def test_rounding_is_relative_above_one():
    c = Checker("0.0")
    assert hears(c.close, 1e5 + 1e-6, 1e5) == ""
    assert hears(c.close, 1e5 + 1e-3, 1e5)
    assert hears(c.close, 10.9, 10.0, tol=0.5)
    assert hears(c.close, -math.inf, math.inf)


def test_a_slip_that_fits_leaves_no_doubt_about_float32():
    c = Checker("0.0")
    said = hears(c.close, 1 + 2e-8, 1.0, slips={"a step too long": 1 + 2e-8})
    assert (
        said == "the result: expected 1, got 1. It looks like a step too long."
    )


def test_float32_is_named_where_it_is_certain():
    c, want = Checker("0.0"), torch.tensor([0.1, 0.7], dtype=F64)
    certain, maybe = (
        "float32? Float64 is wanted.",
        "or is a small constant in it?",
    )
    assert hears(c.close, want.float(), want).endswith(certain)
    assert hears(c.close, want.float().double(), want).endswith(certain)
    assert hears(c.close, want + 1e-8, want).endswith(maybe)


def test_refuses():
    c = Checker("0.0")

    def door(x, least=0):
        if x < least:
            raise ValueError("x")

    assert hears(c.refuses, lambda: door(-1), "sentence") == ""
    assert hears(c.refuses, lambda: door(1), "sentence") == "sentence"
    assert hears(c.refuses, door, -1) == ""
    assert hears(c.refuses, door, 1, least=0, says="no") == "no"
    assert "ValueError" in hears(c.refuses, door, 1)


# Predictions

CHOICES = ["up", "down", "up, then down"]
RIGHT = {"a": "up", "b": "down", "c": "up, then down", "n": (1.0, 1.1)}
GUESS = {"a": "up", "b": "Down", "c": "up then down", "n": 1.05}


def test_predictions():
    c = Checker("0.0")

    def ask(said):
        return hears(c.predictions, said, RIGHT, CHOICES, "Think of t = 1.")

    assert ask(GUESS) == ""
    assert (
        ask({**GUESS, "a": "down"})
        == "3 of your 4 predictions are right. Think of t = 1."
    )
    assert ask({**GUESS, "a": "down"}).startswith("3 of")  # the same try
    assert ask({**GUESS, "b": "up", "n": 7}).startswith("2 of")
    for a in CHOICES[1:]:  # going through the choices
        for b in CHOICES[::2]:
            if (a, b) != ("down", "down"):
                said = ask({**GUESS, "a": a, "b": b})
                assert said.startswith("not all of")
    assert "a: say 'up' or" in ask({**GUESS, "a": "rises"})
    assert "n: give a number" in ask({**GUESS, "n": "much"})
    assert "Keep the dictionary" in ask({"a": "up"})
    assert "Keep the dictionary" in ask(["up"])
    with pytest.raises(ValueError, match="tried one after the other"):
        c.predictions({"a": "up"}, {"a": "up"}, CHOICES)


def test_tries_are_counted_for_the_learner_and_not_for_the_bank():
    ex._TRIES.pop("0.7", None)

    def check(c, said):
        c.predictions(said, RIGHT, CHOICES)

    def tries(said):
        with pytest.raises(CheckFailed) as failed:
            ex.check_answer("0.7", said)(check)
        return failed.value.sentence

    said = [tries({**GUESS, "a": "down", "n": n}) for n in (1.05, 3, 4)]
    assert [s[:3] for s in said] == ["3 o", "2 o", "not"]
    for n in (3, 4, 5):
        ex.wrong_answer("0.7", "2 of your 4", {**GUESS, "a": "down", "n": n})


def test_a_number_is_not_found_by_halving():
    ex._TRIES.pop("0.7", None)

    def check(c, said):
        slips = {"the other one": 7.0}
        c.close(said, 50, "the number", tol=0.5, tell=False, slips=slips)

    def hears_of(said):
        with pytest.raises(CheckFailed) as failed:
            ex.check_answer("0.7", said)(check)
        return failed.value.sentence

    assert hears_of(64).endswith("64 is too large.")
    assert hears_of(32).endswith("32 is too small.")
    for further in (48, 56, 49, 51):
        assert hears_of(further).endswith(f"{further} is not it.")
    assert hears_of(64).endswith("64 is too large.")  # as before
    assert hears_of(7).endswith("It looks like the other one.")
    for low in (30, 31, 32, 33):
        ex.wrong_answer("0.7", f"{low} is too small", low)
    ex.check_answer("0.7", 50)(check)


def test_what_code_gives_is_told_each_time():
    ex._TRIES.pop("0.7", None)

    def check(c, f):
        c.close(f(), 50, "the number of calls", tell=False)

    for n in (48, 47, 46, 45):
        with pytest.raises(CheckFailed, match=f"{n} is too small"):
            ex.check_answer("0.7", lambda n=n: n)(check)


# The learner's notebook


def lesson(text="x"):
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    return new_notebook(
        cells=[
            new_code_cell("#| default_exp eight", id="a"),
            new_markdown_cell("### Exercise 8.1: twice", id="b"),
            new_code_cell(
                f"#| exercise 8.1 twice ★ 1min\ndef twice(x): return 2 * {text}",
                id="c",
            ),
            new_code_cell("#| check 8.1\nprint(1)", id="d"),
            new_code_cell("#| wrong 8.1\nprint(2)", id="e"),
        ]
    )


def check_cell(cells):
    [cell] = [
        c
        for c in cells
        if c.metadata.get("course", {}).get("key") == "8.1 check"
    ]
    return cell


def test_checks_are_folded_and_stay_as_the_learner_left_them(tmp_path):
    folder = tmp_path / "nbs"
    folder.mkdir()
    nbformat.write(lesson(), folder / "08_x.ipynb")
    ex.write_learner(folder / "08_x.ipynb", tmp_path / "work")
    path = tmp_path / "work" / "08_x.ipynb"
    cells = nbformat.read(path, as_version=4).cells
    check = check_cell(cells)
    assert check.metadata["jupyter"] == {"source_hidden": True}
    assert check.metadata["cellView"] == "form"
    assert check.source == "#@title Check 8.1: run this cell\nprint(1)"
    others = [c for c in cells if c is not check]
    assert not any("jupyter" in c.metadata for c in others)

    opened = nbformat.read(path, as_version=4)
    check_cell(opened.cells).metadata.pop("jupyter")
    nbformat.write(opened, path)
    nbformat.write(lesson("(x)"), folder / "08_x.ipynb")  # the course goes on
    ex.write_learner(folder / "08_x.ipynb", tmp_path / "work")
    again = nbformat.read(path, as_version=4).cells
    assert "jupyter" not in check_cell(again).metadata
    assert sum("2 * (x)" in c.source for c in again) == 1


def test_what_the_page_hides_is_folded():
    nb = lesson()
    helper = nbformat.v4.new_code_cell("#| hide\nhelper = 1")
    nb.cells.append(helper)
    *_, last = ex.make_learner(nb, "08_x").cells
    assert last.source == "helper = 1"
    assert last.metadata["jupyter"] == {"source_hidden": True}
    assert last.metadata["cellView"] == "form"


def overwriting(x):
    "A draw that puts what it drew over what it was given."
    return lambda g: x.copy_(torch.rand(x.shape, generator=g))


def test_a_draw_that_changes_its_input_hears_so():
    c = ex.Checker("8.1")
    with pytest.raises(ex.CheckFailed, match="changed its input `x`"):
        c.drawing(overwriting(torch.zeros(3)))


def test_draws_that_hang_on_each_other_are_told_from_those_that_do_not():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randint(3, (2, 20_000), generator=g)
    c = ex.Checker("8.1")
    c.unrelated(a, b)
    spread = torch.arange(20_000) % 3  # in strata, in a random order
    c.unrelated(a, spread[torch.randperm(20_000, generator=g)])
    for other in (a, (a + 1) % 3, torch.where(b == 0, a, b)):
        with pytest.raises(ex.CheckFailed, match="hang on each other"):
            c.unrelated(a, other)
        assert c.margin > 0


def test_an_old_learners_notebook_gets_its_checks_folded():
    new = ex.make_learner(lesson(), "08_x")
    old = ex.make_learner(lesson(), "08_x")
    cell = check_cell(old.cells)
    cell.source = "# Check 8.1: run this cell\nprint(1)"
    cell.metadata = {
        "course": {"key": "8.1 check", "hash": ex._hash(cell.source)}
    }
    cells, kept, _ = ex._merge(new, old)
    assert not kept and check_cell(cells).metadata["cellView"] == "form"


# An answer that calls what is not written yet


STUB = 'raise NotImplementedError("exercise 8.1")'


def in_cells(*cells):
    "Cells run one after the other, each from a file of its own as in a notebook."
    ns = {"door": door, "Tensor": torch.Tensor, "torch": torch}
    for i, cell in enumerate(cells):
        exec(compile(cell, f"<cell {i}>", "exec"), ns)
    return ns


def heard_in_cells(stub, answer, check="def check(c, f): f(torch.ones(2))"):
    ns = in_cells(stub, answer, check)
    failed = ex._judge("8.2", ns["check"], [ns["f"]])
    assert failed is not None
    return failed


@pytest.mark.parametrize("above", ["", "@door\n"])
def test_the_stub_of_another_exercise_is_named(above):
    stub = f"{above}def half(x: Tensor):\n    {STUB}\n"
    answer = "def f(x):\n    return 2 * half(x)\n"
    failed = heard_in_cells(stub, answer)
    assert failed.stage == "error"
    assert failed.sentence == (
        "your answer calls `half`, exercise 8.1, which is not solved yet: "
        'solve it, or go on with use_reference("8.1", globals()).'
    )
    inside = heard_in_cells(
        f"{stub}\ndef quarter(x):\n    return half(half(x))\n",
        "def f(x):\n    return quarter(x)\n",
    )
    assert inside.sentence == failed.sentence
    check = "def check(c, f):\n    f(torch.ones(2)) - half(torch.ones(2))\n"
    by_check = heard_in_cells(stub, "def f(x):\n    return x\n", check)
    assert by_check.sentence.startswith("this check calls `half`, exercise 8.1")


def test_an_exercise_of_its_own_number_is_not_attempted():
    answer = f"def f(x):\n    {STUB.replace('8.1', '8.2')}\n"
    assert heard_in_cells("", answer).stage == "not attempted"
    other = "def f(x):\n    raise NotImplementedError('later')\n"
    assert "NotImplementedError: later" in heard_in_cells("", other).sentence


@pytest.mark.parametrize(
    "number, own",
    [
        ("0.1", "def jump(s, t): return jump"),
        ("1.2", "was_zero = dict(was_zero)"),
        ("10.5", "class TinyD3PM: pass"),
    ],
)
def test_what_is_written_after_the_reference_is_ones_own(number, own, capsys):
    name = ex.references()[number]["names"][0].partition(".")[0]
    ns = in_cells(
        "from dataclasses import dataclass\nfrom discrete_diffusion.core import *"
    )
    ex.use_reference(number, ns)
    assert ex._borrowed(number, [ns[name]])
    exec(compile(own, "<cell>", "exec"), ns)
    assert not ex._borrowed(number, [ns[name]])


# A function whose exercise is not attempted


def test_cells_below_an_unanswered_exercise_hear_that_it_is_not_attempted():
    notebook = {"check_answer": ex.check_answer}
    stub = "def halve(x):\n    return ...\n"
    check = "@check_answer('99.9', halve)\ndef check(c, halve):\n    c.close(halve(2.0), 1.0)\n"
    exec(stub, notebook)
    with pytest.raises(CheckFailed, match="not attempted"):
        exec(check, notebook)
    for _ in range(2):
        with pytest.raises(NotImplementedError, match="exercise 99.9 is not"):
            notebook["halve"](1.0)
        with pytest.raises(CheckFailed, match="not attempted"):
            exec(check, notebook)  # the check alone, run once more
    exec("def halve(x):\n    return x / 2\n", notebook)
    exec(check, notebook)


def test_so_do_cells_that_call_an_unanswered_method():
    notebook = {"check_answer": ex.check_answer}
    box = "class Box:\n    def half(self, x):\n        return {}\n"
    check = "@check_answer('99.8', Box.half)\ndef check(c, half):\n    c.close(half(None, 2.0), 1.0)\n"
    exec(box.format("..."), notebook)
    with pytest.raises(CheckFailed, match="not attempted"):
        exec(check, notebook)
    with pytest.raises(NotImplementedError, match="exercise 99.8 is not"):
        notebook["Box"]().half(1.0)
    exec(box.format("x / 2"), notebook)
    exec(check, notebook)


def in_place(x, law=None):
    "An answer that is right, and destroys what it was handed."
    return x.mul_(2).clone()


def of_an_object(source):
    source.start += 1
    return source.start.clone()


class Source:
    def __init__(self):
        self.start = torch.tensor([math.nan, 1.0])


def by_name(c, answer):
    answer(x=torch.ones(3))


def by_place(c, answer):
    answer(torch.ones(3), torch.ones(2))


def of_a_source(c, answer):
    answer(Source())


@pytest.mark.parametrize(
    "check, answer, name",
    [
        (by_name, in_place, "x"),
        (by_place, in_place, "x"),
        (of_a_source, of_an_object, "source.start"),
    ],
)
def test_an_answer_that_changes_its_input_hears_so(check, answer, name):
    said = ex._judge("8.1", check, [answer])
    assert f"Your answer changed its input `{name}`" in str(said)


def test_an_answer_that_leaves_its_input_alone_hears_nothing():
    for check in (by_name, by_place):
        assert ex._judge("8.1", check, [lambda x, law=None: x * 2]) is None
    assert ex._judge("8.1", of_a_source, [lambda source: source.start]) is None


def test_an_ellipsis_of_einsum_is_no_blank():
    "PyTorch says `no ellipsis was given` of a wrong number of axes."
    wrong = 'def f(x): return torch.einsum("ijk,k->ijk", x, torch.ones(2))'
    heard = heard_in_cells("import torch", wrong)
    assert heard.stage == "error" and "einsum" in heard.sentence
    blank = heard_in_cells("import torch", "def f(x): return x + ...")
    assert blank.stage == "not attempted"
