"""The networks compute in every dtype, compile, export, and refuse at the call."""

import copy
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from discrete_diffusion.blocks import BlockNet
from discrete_diffusion.core import check_finite
from discrete_diffusion.models import (
    DigitNet,
    Network,
    class_frequencies,
    drop_labels,
)
from discrete_diffusion.training import TrainConfig, fit
from discrete_diffusion.transformer import (
    NextLetter,
    TextNet,
    letter_frequencies,
    rotary,
)

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
TIMES = torch.tensor([1e-4, 0.9])


def awake(net):
    "The network with all parameters drawn, so that nothing is zero."
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return net


def digit_net(**options):
    sizes = dict(width=(4, 4, 8), cond=4)
    return DigitNet(2, 3, (5, 4), 2, **sizes, **options)


def images():
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randint(3, (2, 5, 4), generator=generator)
    return x_t, TIMES, torch.tensor([0, 2])


def texts():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(4, (2, 6), generator=generator), TIMES, None


CASES = {
    "digits": lambda: (digit_net(), images()),
    "digits without time": lambda: (digit_net(time=False), images()),
    "text": lambda: (TextNet(3, 4, 8, 2, 1, time=True), texts()),
    "text without time": lambda: (TextNet(3, 4, 8, 2, 1), texts()),
    "causal": lambda: (TextNet(3, 4, 8, 2, 1, causal=True), texts()),
}
cases = pytest.mark.parametrize("case", CASES)


@cases
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_and_backward_in_each_dtype(case, dtype):
    net, (x_t, t, y) = CASES[case]()
    net = awake(net)
    want = net(x_t, t, y).detach().double()
    net = net.to(dtype)
    tolerance = {torch.float64: 1e-4, torch.float32: 0.0}.get(dtype, 0.1)
    for times in (t, t.double()):
        got = net(x_t, times, y)
        assert got.dtype == dtype
        assert (got.double() - want).abs().max() <= tolerance
    got.float().square().sum().backward()
    for name, parameter in net.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.dtype == dtype, name
            assert torch.isfinite(parameter.grad).all(), name
    assert any(p.grad.any() for p in net.parameters() if p.grad is not None)


@cases
def test_networks_made_under_a_float64_default(case):
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        net, (x_t, t, y) = CASES[case]()
        answer = net(x_t, t, y)
    finally:
        torch.set_default_dtype(before)
    assert answer.dtype == torch.float64
    assert {p.dtype for p in net.state_dict().values()} == {torch.float64}


@pytest.mark.parametrize("case", ("digits", "text"))
def test_bfloat16_still_hears_small_noise_levels(case):
    "Two times that bfloat16 rounds to one number give two answers."
    net, (x_t, _, y) = CASES[case]()
    net = awake(net).bfloat16()
    a, b = (torch.full((2,), v) for v in (0.8, 0.801))
    assert torch.equal(a.bfloat16(), b.bfloat16())
    with torch.no_grad():
        assert not torch.equal(net(x_t, a, y), net(x_t, b, y))


def test_rotary_places_beyond_256_in_bfloat16():
    want = rotary(400, 4)
    for got, exact in zip(
        rotary(400, 4, dtype=torch.bfloat16), want, strict=True
    ):
        assert got.dtype == torch.bfloat16
        assert (got.float() - exact).abs().max() < 0.005


@cases
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_fit_takes_a_step_in_each_dtype(case, dtype):
    net, (x_t, t, y) = CASES[case]()
    net = awake(net).to(dtype)
    before = copy.deepcopy(net.state_dict())

    def loss_fn(model, x, times):
        told = None if y is None else y[: len(x)]
        logits = model(x, times, told).float()
        clean = x.clamp_max(logits.shape[-1] - 1)
        picked = logits.log_softmax(-1).gather(-1, clean[..., None])
        return {"loss": -picked.flatten(1).mean(1), "t": times}

    config = TrainConfig(steps=1, batch_size=2, ema=0.5)
    result = fit(net, loss_fn, (x_t, t), config, progress=False)
    assert np.isfinite(result.loss[0])
    after = net.state_dict()
    assert all(v.dtype == dtype for v in after.values())
    assert any(not torch.equal(after[k], before[k]) for k in after)


@pytest.mark.parametrize("case", ("digits", "text", "causal"))
def test_one_graph_and_no_break(case):
    net, (x_t, t, y) = CASES[case]()
    net = awake(net)
    want = net(x_t, t, y)
    torch._dynamo.reset()
    whole = torch.compile(net, fullgraph=True, backend="eager")
    got = whole(x_t, t, y)
    assert torch.allclose(got, want, atol=1e-5)
    got.sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize("case", ("digits", "text"))
def test_export(case):
    net, (x_t, t, y) = CASES[case]()
    net = awake(net)
    exported = torch.export.export(net, (x_t, t, y)).module()
    with torch.no_grad():
        assert torch.allclose(exported(x_t, t, y), net(x_t, t, y), atol=1e-5)


def test_blocks_export():
    net = awake(BlockNet(5, 2, width=8, heads=2, depth=2))
    page = torch.randint(6, (2, 7))
    exported = torch.export.export(net, (page,)).module()
    with torch.no_grad():
        assert torch.allclose(exported(page), net(page), atol=1e-5)


def test_export_for_any_batch_and_length():
    net, (x_t, t, y) = CASES["text"]()
    net = awake(net)
    batch = torch.export.Dim("batch", min=1, max=64)
    length = torch.export.Dim("length", min=2, max=64)
    sizes = ({0: batch, 1: length}, {0: batch}, None)
    exported = torch.export.export(net, (x_t, t, y), dynamic_shapes=sizes)
    x_t, t = torch.randint(4, (3, 9)), torch.rand(3)
    with torch.no_grad():
        got = exported.module()(x_t, t, None)
        assert torch.allclose(got, net(x_t, t, None), atol=1e-5)


@pytest.mark.heavy
@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")),
    reason="torch.compile makes C++ for the CPU, and there is no compiler",
)
def test_compiled_for_real():
    net, (x_t, t, y) = CASES["text without time"]()
    net = awake(net)
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(x_t, t, y), net(x_t, t, y), atol=1e-5)


def test_the_call_refuses_and_forward_does_not():
    for name, make in CASES.items():
        net, (x_t, t, y) = make()
        assert isinstance(net, Network), name
        for wrong in (x_t + 9, x_t.float(), x_t[0]):
            with pytest.raises((TypeError, ValueError), match="^x_t: expected"):
                net(wrong, t, y)
        with pytest.raises((TypeError, ValueError), match="^y: expected"):
            net(x_t, t, torch.tensor([9, 9]))
        if "without" not in name and name != "causal":
            for wrong in (torch.rand(3), 200.0, None, "late"):
                with pytest.raises(
                    (TypeError, ValueError), match="^t: expected"
                ):
                    net(x_t, wrong, y)
        assert net.forward(x_t.clamp_max(2), t, y).isfinite().all()


def test_the_call_is_the_same_for_all():
    "model(x_t, t, y), with None for what a network is not told."
    for make in CASES.values():
        net, (x_t, t, _) = make()
        assert net(x_t, t, None).shape[:2] == x_t.shape[:2]
    asked = []

    def model(x_t, t, y):
        asked.append((t, y))
        return torch.zeros(*x_t.shape, 3, requires_grad=True)

    system = NextLetter(3)
    x_0 = torch.zeros(2, 4, dtype=torch.int64)
    system.loss(model, *system.noise(x_0))
    system.bits(model, x_0)
    assert asked == [(None, None)] * len(asked) and len(asked) == 2


def test_a_network_of_ones_own_needs_its_check():
    class Mine(Network):
        def forward(self, x_t, t=None, y=None):
            return x_t

    with pytest.raises(NotImplementedError, match="Mine: expected a method"):
        Mine()(torch.zeros(1))


def test_checks_see_values_only_outside_of_a_compiler():
    with pytest.raises(ValueError, match="x: expected finite numbers"):
        check_finite(torch.tensor([float("nan")]), "x")


def test_numbers_of_numpy_are_numbers():
    x, y = torch.zeros(3, 2, 2, dtype=torch.int64), torch.tensor([0, 1, 1])
    smooth = np.float32(0.5)
    a = class_frequencies(x, y, 2, 2, smooth=smooth)
    assert torch.equal(a, class_frequencies(x, y, 2, 2, smooth=0.5))
    a = letter_frequencies(y, 2, smooth)
    assert torch.equal(a, letter_frequencies(y, 2, 0.5))
    assert (drop_labels(y, np.float32(1), 2) == 2).all()
    assert rotary(2, 4, np.float32(0.5))[0].shape == (2, 2)
    with pytest.raises(TypeError, match="smooth: expected a finite number"):
        letter_frequencies(y, 2, "much")
