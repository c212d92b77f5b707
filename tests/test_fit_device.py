"""`fit` on a device without float64, or that only refuses to meet the CPU."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from discrete_diffusion.d3pm import D3PM, MaskedD3PM, digit_optimizers
from discrete_diffusion.flow import FlowMatching
from discrete_diffusion.forward import (
    Absorbing,
    Uniform,
    geometric_schedule,
    linear_schedule,
)
from discrete_diffusion.mdlm import MaskedText, TimedMaskedText
from discrete_diffusion.models import DigitNet
from discrete_diffusion.sedd import MasksFirst, ScoreEntropy
from discrete_diffusion.training import TrainConfig, fit
from discrete_diffusion.transformer import NextLetter, TextNet, train_text

device_module = pytest.importorskip("device")
Device, OnDevice = device_module.Device, device_module.OnDevice
K = 5


class Training(Device):
    "A device on which networks can be trained: gradients lie there, too."

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func == torch.Tensor.grad.__get__:
            grad = func(*args)
            here = isinstance(args[0], OnDevice) and grad is not None
            return grad.as_subclass(OnDevice) if here else grad
        if getattr(func, "__name__", "") == "__set__":
            return func(*args)
        if func is torch.Tensor.copy_:  # the one way between devices
            args[0].as_subclass(torch.Tensor).copy_(
                args[1].as_subclass(torch.Tensor)
            )
            return args[0]
        return super().__torch_function__(func, types, args, kwargs)

    def _to(self, args, kwargs):
        words = [x for x in args if x is not None and not isinstance(x, bool)]
        return super()._to(words, kwargs)


class OneProcess:
    "What `fit` uses of an `Accelerator`, on a device that does not exist."

    num_processes, process_index, is_main_process = 1, 0, True
    gradient_accumulation_steps = 1
    device = torch.device("mps")

    def prepare(self, model):
        return model

    def no_sync(self, model):
        return nullcontext()

    def backward(self, loss):
        loss.backward()

    def gather(self, x):
        return x

    def wait_for_everyone(self):
        pass


def moved(net, device):
    "The network on the device, with new parameters."
    OnDevice.where = device.kind
    for module in net.modules():
        for name, p in list(module._parameters.items()):
            if p is not None:
                module._parameters[name] = nn.Parameter(device.put(p.detach()))
        for name, b in list(module._buffers.items()):
            if b is not None:
                module._buffers[name] = device.put(b)
    return net


def text_net(N=K, **options):
    torch.manual_seed(0)
    return TextNet(K, N, 8, 2, 1, **options)


uniform = Uniform(K, linear_schedule())
masks = Absorbing(K, linear_schedule())
TEXTS = {
    "next letter": (NextLetter(K), dict(N=K + 1, causal=True)),
    "masks": (MaskedText(masks, ramp=0.5), dict(N=K + 1)),
    "masks and time": (TimedMaskedText(masks), dict(N=K + 1, time=True)),
    "score entropy": (ScoreEntropy(uniform), dict(time=True)),
    "scores": (
        ScoreEntropy(Uniform(K, geometric_schedule()), head="score"),
        dict(time=True, outputs=K),
    ),
    "masks first": (
        MasksFirst(ScoreEntropy(uniform)),
        dict(N=K + 1, time=True),
    ),
    "flow": (FlowMatching(uniform), dict(time=True)),
    "flow of masks": (FlowMatching(masks), dict(N=K + 1, time=True)),
}


@pytest.mark.parametrize("float64", (True, False), ids=("mixes not", "float32"))
@pytest.mark.parametrize("name", TEXTS)
def test_text_systems_on_a_device(tmp_path, name, float64):
    system, made = TEXTS[name]
    tokens = torch.arange(200) * 7 % 11 % K
    options = dict(steps=4, batch_size=4, length=8, ema=0.5, progress=False)
    wanted = train_text(text_net(**made), system, tokens, **options)
    device = Training("mps", float64=float64)
    options |= dict(accelerator=OneProcess(), folder=tmp_path)
    with_device = moved(text_net(**made), device)
    with device:
        got = train_text(with_device, system, tokens, **options)
    assert got.loss == pytest.approx(wanted.loss, rel=1e-3)
    again = moved(text_net(**made), device)
    with device:
        resumed = train_text(again, system, tokens, **options)
    assert resumed.resumed_from == 4 and resumed.loss == got.loss
    for p, q in zip(again.parameters(), with_device.parameters(), strict=True):
        assert torch.equal(device_module.plain(p), device_module.plain(q))


@pytest.mark.parametrize("kind", ("masks", "uniform"))
def test_digits_on_a_device(kind):
    if kind == "masks":
        system = MaskedD3PM(Absorbing(2, linear_schedule()), T=9, drop=0.5)
    else:
        system = D3PM(Uniform(2, linear_schedule()), T=9, drop=0.5, classes=10)
    x = torch.arange(8 * 16).reshape(8, 4, 4) % 3 % 2
    y = torch.arange(8) % 10

    def train(device=None):
        torch.manual_seed(0)
        time = kind == "uniform"
        sizes = dict(width=(4, 4, 8), cond=4, time=time)
        net = DigitNet(2, system.kernel.N, (4, 4), **sizes)
        if device is not None:
            moved(net, device)
        config = TrainConfig(steps=2, batch_size=4)
        options = dict(noise=system.noise, progress=False)
        if device is not None:
            options["accelerator"] = OneProcess()
        with device if device is not None else nullcontext():
            options["optimizers"] = digit_optimizers(net)
            return fit(net, system.loss, (x, y), config, **options).loss

    wanted = train()
    for float64 in (True, False):
        got = train(Training("mps", float64=float64))
        assert got == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    "factor, words",
    [
        (float("nan"), "step 24 of 60: the loss of item"),
        # a loss of 0 whose gradient is 0 times infinity
        (0.0, "step 25 of 60: .*weight"),
    ],
)
def test_a_bad_number_between_two_looks(tmp_path, factor, words):
    "It is named by its own step, and nothing is saved after it."
    torch.manual_seed(0)
    device = Training("xpu", float64=True)
    process = OneProcess()
    process.device = torch.device("xpu")
    net = moved(nn.Linear(2, 1, bias=False), device)

    def noise(x, generator):
        seen.append(1)
        x = x.clone()
        if len(seen) == 24:
            x[1] *= factor
        return x

    def loss(model, x):
        return model(x).abs().sqrt().sum(1)

    seen = []
    config = TrainConfig(steps=60, batch_size=2, checkpoint_every=30)
    options = dict(noise=noise, accelerator=process, folder=tmp_path)
    stops = pytest.raises(FloatingPointError, match=words)
    with device, stops:
        fit(net, loss, torch.ones(4, 2), config, progress=False, **options)
    assert len(seen) == 30  # the next look is where it would have saved
    assert not list(tmp_path.glob("step-*"))
