"""Every kind of real number is a number, and nothing else is."""

import fractions
import math

import numpy as np
import pytest
import torch

from discrete_diffusion.core import check_number

HALVES = [
    0.5,
    np.float16(0.5),
    np.float32(0.5),
    np.float64(0.5),
    np.array(0.5),
    np.array(0.5, dtype=np.float32),
    torch.tensor(0.5),
    torch.tensor(0.5, dtype=torch.bfloat16),
    torch.tensor(0.5, requires_grad=True),
    fractions.Fraction(1, 2),
]


@pytest.mark.parametrize("half", HALVES, ids=lambda v: type(v).__name__)
def test_numbers_of_all_kinds_become_floats(half):
    got = check_number(half, "x", least=0, most=1)
    assert type(got) is float and got == 0.5


def test_whole_numbers_too():
    for two in (2, np.int32(2), np.array(2), torch.tensor(2)):
        got = check_number(two, "x")
        assert type(got) is float and got == 2.0


def test_what_is_no_number_is_a_type_error():
    no_numbers = (True, np.bool_(True), torch.tensor(True), None, "1", 1j)
    for wrong in (*no_numbers, [1.0], torch.ones(1), np.ones(1)):
        with pytest.raises(TypeError, match="x: expected a number in"):
            check_number(wrong, "x", least=0, most=1)


def test_ends_of_the_range():
    assert check_number(0, "x", least=0) == 0
    assert check_number(1, "x", most=1) == 1
    for v, limits in (
        (0, dict(above=0)),
        (1, dict(below=1)),
        (-1e-300, dict(least=0)),
        (1.5, dict(most=1)),
        (math.nan, dict()),
        (math.nan, dict(most=math.inf)),
        (math.inf, dict()),
        (math.inf, dict(least=0)),
        (-math.inf, dict(most=1)),
        (-math.inf, dict(most=math.inf)),
        (10**400, dict()),
    ):
        with pytest.raises(ValueError, match="x: expected .*, got"):
            check_number(v, "x", **limits)
    assert check_number(math.inf, "x", above=0, most=math.inf) == math.inf


def test_the_sentence_tells_the_range():
    def sentence(**limits):
        with pytest.raises(ValueError) as caught:
            check_number(math.nan, "x", **limits)
        return str(caught.value)

    assert sentence() == "x: expected a finite number, got nan"
    assert "a finite number of at least 0, got" in sentence(least=0)
    assert "a finite number above 1, got" in sentence(above=1)
    assert "a finite number below 1, got" in sentence(below=1)
    assert "a finite number of at most 1, got" in sentence(most=1)
    assert "a number above 0, got" in sentence(above=0, most=math.inf)
    assert "a share in (0, 1], got" in sentence(above=0, most=1, word="share")
    assert "a decay in [0, 1), got" in sentence(least=0, below=1, word="decay")
