"Every public number is the same in every grad mode, on every device, for networks of every dtype."

from functools import cache

import pytest
import torch
from device import Device, plain
from doors import Place, all_doors, by_name

DOORS = all_doors()


def test_each_name_comes_once():
    with pytest.raises(ValueError, match="got a twice"):
        by_name([("a", torch.zeros), ("a", torch.ones)])


@cache
def here(name):
    "What a door gives as it stands."
    return DOORS[name](Place())


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.detach(), b.detach())
    return a == b


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_same_in_every_grad_mode(mode):
    differing = []
    for name, door in DOORS.items():
        with mode():
            inside = door(Place())
        if not equal(here(name), inside):
            differing.append(name)
    assert not differing


def test_a_device_that_refuses_the_cpu():
    said = {}
    for name, door in DOORS.items():
        with Device("cuda", float64=True) as device:
            try:
                out = door(Place(device.put, "cuda"))
            except (RuntimeError, TypeError) as e:
                said[name] = str(e)[:100]
                continue
        if isinstance(here(name), torch.Tensor):
            torch.testing.assert_close(
                plain(out), here(name), rtol=1e-9, atol=1e-12
            )
    assert not said


def test_a_device_without_float64():
    said = {}
    for name, door in DOORS.items():
        with Device("mps", float64=False) as device:
            try:
                door(Place(device.put, "mps", torch.float32))
            except (RuntimeError, TypeError) as e:
                said[name] = str(e)[:100]
    assert not said


@pytest.mark.parametrize(
    "dtype, near", [(torch.float32, 1e-4), (torch.bfloat16, 0.06)]
)
def test_networks_of_other_dtypes(dtype, near):
    "What a network says in fewer digits changes numbers by about those digits, and stops nothing."
    far = {}
    for name, door in DOORS.items():
        wide = here(name)
        short = door(Place(dtype=dtype))
        if not isinstance(wide, torch.Tensor) or not wide.is_floating_point():
            continue
        off = (short.double() - wide.double()).abs() / (1 + wide.double().abs())
        if off.max() > near:
            far[name] = off.max().item()
    assert not far
