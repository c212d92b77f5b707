"""`fit` and its folder: one run at a time, whole files, compiled networks."""

import copy
import errno
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import discrete_diffusion
import discrete_diffusion.core
from discrete_diffusion.d3pm import (
    D3PM,
    MaskedD3PM,
    Muon,
    digit_optimizers,
    train_digits,
)
from discrete_diffusion.flow import FlowMatching
from discrete_diffusion.forward import Absorbing, Uniform, linear_schedule
from discrete_diffusion.mdlm import MaskedText
from discrete_diffusion.models import DigitNet, class_frequencies
from discrete_diffusion.sedd import MasksFirst
from discrete_diffusion.training import (
    EMA,
    DamagedFile,
    TrainConfig,
    TrainResult,
    clip_gradients,
    default_optimizers,
    fit,
    load_checkpoint,
    load_weights,
    read_tensors,
    save_checkpoint,
    write_tensors,
)
from discrete_diffusion.transformer import (
    TextNet,
    text_optimizers,
    train_text,
)

DATA = torch.arange(64, dtype=torch.float32).reshape(16, 4) / 64


def small_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 4))


def loss_fn(model, x):
    return {"loss": (model(x) - 1).square().mean(1), "t": x[:, 0]}


def run(folder=None, net=None, steps=4, **options):
    net = small_net() if net is None else net
    config = TrainConfig(steps=steps, batch_size=8, checkpoint_every=1)
    given = dict(folder=folder, progress=False, **options)
    return net, fit(net, loss_fn, DATA, config, **given)


def stopped_run(folder, steps=4, after=2):
    "A run that is stopped after some of its steps."
    calls = []

    def noise(x, generator):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return (x,)

    with pytest.raises(KeyboardInterrupt):
        run(folder, steps=steps, noise=noise)


def names(folder):
    return sorted(p.name for p in folder.glob("step-*"))


def frozen(folder):
    "All that stands in the folder: names, kinds and bytes."
    return {
        p.name: p.read_bytes() if p.is_file() else p.is_symlink()
        for p in folder.iterdir()
        if p.name != ".lock"
    }


def same_state(a, b):
    return all(torch.equal(a[k], b[k]) for k in a) and set(a) == set(b)


def sentence(caught):
    "The message of an error, which has to be one line."
    text = str(caught.value)
    assert "\n" not in text
    return text


HOLDS_THE_FOLDER = """
import sys, torch
from torch import nn
from discrete_diffusion.training import TrainConfig, fit
def noise(x, generator):
    print("ready", flush=True)
    sys.stdin.readline()
    return (x,)
net = nn.Linear(4, 4)
loss_fn = lambda model, x: model(x).square().mean(1)
config = TrainConfig(steps=3, batch_size=4, checkpoint_every=1)
fit(net, loss_fn, torch.ones(8, 4), config, noise, folder=sys.argv[1],
    progress=False)
"""


def child(code, *args, **env):
    root = str(Path(discrete_diffusion.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": "", **env}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def test_two_runs_in_one_folder(tmp_path):
    first = child(HOLDS_THE_FOLDER, tmp_path)
    try:
        assert first.stdout.readline() == "ready\n"
        half_written = tmp_path / ".step-00000001.safetensors.1.tmp"
        half_written.write_bytes(b"of the first run")
        net = small_net()
        before, files = copy.deepcopy(net.state_dict()), frozen(tmp_path)
        with pytest.raises(
            ValueError, match="another run is writing"
        ) as caught:
            run(tmp_path, net)
        assert str(tmp_path) in sentence(caught)
        assert same_state(before, net.state_dict())
        assert frozen(tmp_path) == files
    finally:
        _, err = first.communicate("go\n" * 9, timeout=120)
    assert first.returncode == 0, err
    assert names(tmp_path)[-1] == "step-00000003.safetensors"


def test_a_killed_run_leaves_the_folder_free(tmp_path):
    first = child(HOLDS_THE_FOLDER, tmp_path)
    assert first.stdout.readline() == "ready\n"
    first.kill()
    first.communicate()
    left = tmp_path / ".step-00000001.safetensors.1.tmp"
    left.write_bytes(b"half")
    run(tmp_path)
    assert not left.exists()
    run(tmp_path)
    assert names(tmp_path)[-1] == "step-00000004.safetensors"


def test_the_lock_is_released_after_an_error(tmp_path):
    stopped_run(tmp_path)
    _, result = run(tmp_path)
    assert result.resumed_from == 2


@pytest.mark.parametrize("kind", ("folder", "link to nothing"))
def test_something_else_in_a_checkpoints_place(tmp_path, kind):
    stopped_run(tmp_path)
    odd = tmp_path / "step-00000003.safetensors"
    if kind == "folder":
        odd.mkdir()
    else:
        odd.symlink_to(tmp_path / "nowhere")
    net = small_net(seed=1)
    optimizers = [torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)]
    before, files = copy.deepcopy(net.state_dict()), frozen(tmp_path)
    with pytest.raises(ValueError) as caught:
        run(tmp_path, net, optimizers=optimizers)
    assert f"{odd.name}, which is a {kind}; move it away" in sentence(caught)
    assert same_state(before, net.state_dict())
    assert not optimizers[0].state and frozen(tmp_path) == files
    odd.rmdir() if kind == "folder" else odd.unlink()
    assert run(tmp_path)[1].resumed_from == 2


def test_a_folder_that_takes_the_name_of_a_step(tmp_path):
    net, result = run()
    (tmp_path / "step-00000004.safetensors").mkdir()
    config = TrainConfig(steps=4)
    with pytest.raises(ValueError, match="got a folder of that name"):
        save_checkpoint(tmp_path, net, config, result)


def parts_of(path):
    return [k for k in read_tensors(path)[0]]


def without(path, part):
    "The same file with a right checksum and one part missing."
    tensors, notes = read_tensors(path)
    if part in tensors:
        del tensors[part]
    else:
        del notes[part]
    write_tensors(path, tensors, notes)


def test_a_whole_file_that_lacks_a_part(tmp_path):
    net, config = small_net(), TrainConfig(steps=4)
    optimizers = default_optimizers(net, config)
    net, result = run(net=net, optimizers=optimizers)
    path = save_checkpoint(tmp_path, net, config, result, optimizers)
    whole, notes = path.read_bytes(), read_tensors(path)[1]
    parts = parts_of(path) + [k for k in notes if k not in ("version", "parts")]
    assert len(parts) > 20
    other = small_net(seed=1)
    theirs = default_optimizers(other, config)
    for group in theirs[0].param_groups:
        group["initial_lr"] = group["lr"]
    held = TrainResult(EMA(other))
    before = copy.deepcopy((other.state_dict(), held.ema.shadow))
    for part in parts:
        path.write_bytes(whole)
        without(path, part)
        with pytest.raises(DamagedFile) as caught:
            load_checkpoint(path, other, config, held, theirs)
        assert f"incomplete, '{part}' is missing" in sentence(caught)
        assert same_state(before[0], other.state_dict()), part
        assert same_state(before[1], held.ema.shadow), part
        assert not theirs[0].state and held.step == 0 and not held.loss
    path.write_bytes(whole)
    assert load_checkpoint(path, other, config, held, theirs) == 4
    assert same_state(net.state_dict(), other.state_dict())
    assert json.dumps(held.loss) == json.dumps(result.loss)


def test_files_without_their_list_of_parts_can_still_be_read(tmp_path):
    net, config = small_net(), TrainConfig(steps=4)
    _, result = run(net=net)
    path = save_checkpoint(tmp_path, net, config, result)
    without(path, "parts")
    assert load_checkpoint(path, small_net(1), config, result) == 4
    for part in ("history.t", "ema.0.weight"):
        without(path, part)
        with pytest.raises(DamagedFile, match="incomplete"):
            load_checkpoint(path, small_net(1), config, result)


def test_fit_goes_on_from_the_one_before(tmp_path):
    whole, _ = run()
    stopped_run(tmp_path)
    without(tmp_path / "step-00000002.safetensors", "history.t")
    with pytest.warns(UserWarning, match="'history.t' is missing; going on"):
        net, result = run(tmp_path)
    assert result.resumed_from == 1
    assert same_state(whole.state_dict(), net.state_dict())


def full_disk(monkeypatch, after):
    "Every `fsync` after so many says that no space is left."
    calls, real = [], os.fsync

    def fsync(descriptor):
        calls.append(1)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor)

    monkeypatch.setattr(discrete_diffusion.core.os, "fsync", fsync)


def test_a_full_disk(tmp_path, monkeypatch):
    whole, _ = run()
    with monkeypatch.context() as patch:
        full_disk(patch, after=4 if os.name == "posix" else 2)
        net = small_net()
        with pytest.raises(OSError) as caught:
            run(tmp_path, net)
    said = sentence(caught)
    assert caught.value.errno == errno.ENOSPC
    assert "step 3 of 4: no checkpoint could be written to" in said
    assert "No space left on device" in said
    assert said.endswith("last good checkpoint: step-00000002.safetensors")
    kept = ["step-00000001.safetensors", "step-00000002.safetensors"]
    assert names(tmp_path) == kept
    assert not list(tmp_path.glob("*.tmp")) + list(tmp_path.glob(".*.tmp"))
    assert "forward" not in net.__dict__ and not net[0].weight.grad
    again, result = run(tmp_path)
    assert result.resumed_from == 2
    assert same_state(whole.state_dict(), again.state_dict())


def test_what_is_no_checkpoint(tmp_path):
    net, config = small_net(), TrainConfig(steps=4)
    path = write_tensors(tmp_path / "a", net.state_dict(), ["notes"])
    with pytest.raises(ValueError, match="expected version 1 of a checkpoint"):
        load_checkpoint(path, net, config, TrainResult(EMA(net)))


ALONE = """
import warnings, torch
from torch import nn
from discrete_diffusion.training import TrainConfig, fit
warnings.simplefilter("always")
loss_fn = lambda model, x: model(x).square().mean(1)
config = TrainConfig(steps=1, batch_size=4)
fit(nn.Linear(4, 4), loss_fn, torch.ones(8, 4), config, progress=False)
"""
LAUNCHED = {
    "ACCELERATE_USE_CPU": "True",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_MIXED_PRECISION": "no",
}
MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def told(monkeypatch, **env):
    "The warnings of a short run in such an environment."
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", *LAUNCHED, *MEETING):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(steps=1)
    return [
        str(w.message) for w in caught if "several processes" in str(w.message)
    ]


def test_a_launcher_that_started_one_process(monkeypatch):
    assert not told(monkeypatch)
    assert not told(monkeypatch, **LAUNCHED)
    assert not told(monkeypatch, **MEETING)
    [said] = told(monkeypatch, **LAUNCHED, **MEETING)
    assert "this one trains alone" in said and "torchrun" in said
    assert "\n" not in said


def test_accelerate_launch_itself(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(ALONE)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu"]
    root = str(Path(discrete_diffusion.__file__).parent.parent)
    done = subprocess.run(
        [*launch, "--num_processes", "2", str(script)],
        env={**os.environ, "PYTHONPATH": root, "CUDA_VISIBLE_DEVICES": ""},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this one trains alone") == 1


def test_a_compiled_network_and_its_checkpoints(tmp_path):
    plain, plain_run = run(tmp_path / "plain")
    net = small_net()
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="eager")
    _, result = run(tmp_path / "compiled", compiled)
    assert same_state(plain.state_dict(), net.state_dict())
    assert result.loss == plain_run.loss
    assert same_state(plain_run.ema.shadow, result.ema.shadow)
    for m in (net, compiled):
        assert "_is_accelerate_prepared" not in m.__dict__
    path = tmp_path / "compiled" / "step-00000004.safetensors"
    other = tmp_path / "plain" / path.name
    (ours, notes), (theirs, said) = read_tensors(path), read_tensors(other)
    assert same_state(ours, theirs) and notes == said
    fresh = torch.compile(small_net(1), backend="eager")
    load_weights(path, fresh, ema=False)
    assert same_state(fresh._orig_mod.state_dict(), plain.state_dict())
    with result.ema.weights(net):
        assert torch.equal(net[0].weight, result.ema.shadow["0.weight"])


def test_averages_of_bfloat16_move():
    net = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(net.weight)
    ema = EMA(net, 0.999)
    nn.init.zeros_(net.weight)
    for _ in range(3000):
        ema.update(net)
    assert ema.shadow["weight"].dtype == torch.float32
    assert 0 < ema.shadow["weight"].item() < 0.1
    ema.copy_to(net)
    assert net.weight.dtype == torch.bfloat16 and net.weight.item() < 0.1


def test_checkpoints_of_bfloat16(tmp_path):
    net = small_net().bfloat16()
    data = DATA.bfloat16()
    config = TrainConfig(steps=3, batch_size=8, checkpoint_every=1, ema=0.5)
    result = fit(net, loss_fn, data, config, folder=tmp_path, progress=False)
    path = tmp_path / "step-00000003.safetensors"
    other = small_net(1).bfloat16()
    load_weights(path, other)
    with result.ema.weights(net):
        assert same_state(net.state_dict(), other.state_dict())
    load_weights(path, other, ema=False)
    assert same_state(net.state_dict(), other.state_dict())
    with pytest.raises(ValueError, match="of another model"):
        load_weights(path, small_net().double())


def test_numbers_of_numpy_are_numbers(tmp_path):
    values = dict(lr=0.25, warmup=0.5, clip=2.0, ema=0.5, weight_decay=0.25)
    theirs = {k: np.float32(v) for k, v in values.items()}
    config = TrainConfig(steps=np.int64(4), **theirs)
    assert config == TrainConfig(steps=4, **values)
    assert all(type(getattr(config, k)) is float for k in values)
    assert TrainConfig(steps=1, clip=math.inf).clip == math.inf
    net = small_net()
    loss_fn(net, DATA)["loss"].sum().backward()
    clip_gradients(net, np.float32(1.0))
    assert EMA(net, np.float32(0.5)).decay == 0.5
    for name, wrong in (("lr", math.inf), ("warmup", 1), ("clip", 0)):
        with pytest.raises(ValueError, match=f"{name}: expected a"):
            TrainConfig(steps=1, **{name: wrong})
    with pytest.raises(TypeError, match="lr: expected a finite number"):
        TrainConfig(steps=1, lr="fast")


def text_net(**options):
    torch.manual_seed(0)
    return TextNet(4, 5, 8, 2, 1, **options)


def masked_text():
    return MaskedText(Absorbing(4, linear_schedule()))


def trained(net, system, folder=None):
    tokens = torch.arange(60) * 7 % 11 % 4
    options = dict(batch_size=4, length=6, ema=0.5, progress=False)
    return train_text(net, system, tokens, 3, folder=folder, **options)


def parameters_of(optimizer):
    groups = optimizer.param_groups
    return sum(p.numel() for group in groups for p in group["params"])


def test_train_text_of_a_compiled_network(tmp_path):
    plain = text_net()
    wanted = trained(plain, masked_text())
    net = text_net()
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    muon, adam = text_optimizers(compiled)
    assert parameters_of(muon) == 12 * 8 * 8
    everything = sum(p.numel() for p in net.parameters())
    assert parameters_of(muon) + parameters_of(adam) == everything
    got = trained(compiled, masked_text(), tmp_path)
    assert got.loss == pytest.approx(wanted.loss, rel=1e-4)
    assert not net.training and not compiled.training
    for p, q in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-4)
    resumed = trained(text_net(), masked_text(), tmp_path)
    assert resumed.resumed_from == 3 and resumed.loss == got.loss


def test_what_is_trained_says_what_it_answers():
    uniform = Uniform(4, linear_schedule())
    for system, said in (
        (FlowMatching(uniform), "leave-one-out"),
        (FlowMatching(Absorbing(4, linear_schedule())), "full"),
        (MasksFirst(FlowMatching(uniform)), "leave-one-out"),
    ):
        net = text_net(time=True)
        trained(net, system)
        assert net.reads == said
        assert copy.deepcopy(net).reads == said
        compiled = torch.compile(text_net(time=True), backend="eager")
        trained(compiled, system)
        assert compiled.reads == said and compiled._orig_mod.reads == said


def small_digits(system, y, seed=0):
    x = torch.arange(6 * 16).reshape(6, 4, 4) % 3 % 2
    return train_digits(system, x, y, 2, 4, seed=seed, progress=False)


def test_digits_of_the_null_class_are_trained_on():
    system = MaskedD3PM(Absorbing(2, linear_schedule()), T=9, classes=3)
    y = torch.tensor([0, 3, 1, 3, 2, 3])
    net, result = small_digits(system, y)
    assert len(result.loss) == 2 and net.reads == "full"
    x = torch.arange(6 * 16).reshape(6, 4, 4) % 3 % 2
    everyone = class_frequencies(x, torch.zeros_like(y), 2, 1)[-1]
    told = class_frequencies(x[::2], torch.tensor([0, 1, 2]), 2, 3)
    with torch.no_grad():
        fresh = DigitNet(2, 3, (4, 4), 3, torch.cat([told[:3], everyone[None]]))
        assert torch.equal(fresh(x[:1] * 0, 0.5, y[1:2])[0], everyone)
    small_digits(system, torch.full((6,), 3))
    with pytest.raises(ValueError, match="y: expected states in 0..3"):
        small_digits(system, y + 1)
    with pytest.raises(ValueError, match=r"y: expected Int64\[Tensor"):
        small_digits(system, y[:5])
    with pytest.raises(TypeError, match="y: expected a tensor"):
        small_digits(system, [0] * 6)


def test_all_labels_told_start_as_before():
    system = D3PM(Uniform(2, linear_schedule()), T=9, classes=3)
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    x = torch.arange(6 * 16).reshape(6, 4, 4) % 3 % 2
    seen = []

    def optimizers(net):
        seen.append(net.bias_map.detach().clone())
        return digit_optimizers(net)

    options = dict(optimizers=optimizers, progress=False)
    net, _ = train_digits(system, x, y, 1, 4, **options)
    assert torch.equal(seen[0], class_frequencies(x, y, 2, 3))
    assert net.reads == "leave-one-out"


def test_muon_takes_numbers_of_numpy():
    w = nn.Parameter(torch.eye(2))
    muon = Muon([w], lr=np.float32(0.5), momentum=np.float32(0.5))
    assert type(muon.defaults["lr"]) is float
    with pytest.raises(
        ValueError, match="lr: expected a finite number above 0"
    ):
        Muon([w], lr=0.0)
    with pytest.raises(
        ValueError, match=r"momentum: expected a share in \[0, 1\)"
    ):
        Muon([w], momentum=1)


class Cropped(torch.utils.data.Dataset):
    "Pairs of an item and a number; each look at an item shifts it by chance."

    def __len__(self):
        return len(DATA)

    def __getitem__(self, i):
        return DATA[i] + torch.rand(()), torch.tensor(i)


def loaded(items=None, **options):
    "A loader of these items, in batches of 8."
    items = torch.utils.data.TensorDataset(DATA) if items is None else items
    return torch.utils.data.DataLoader(items, **dict(batch_size=8) | options)


def first_of(x, i, generator):
    "A noise that leaves the numbers out."
    return (x,)


def test_a_loader_trains_as_its_tensors_do():
    net, result = run()
    for options in ({}, {"shuffle": True}, {"num_workers": 2}):
        same = small_net()
        config = TrainConfig(steps=4, batch_size=8)
        data = loaded(**options)
        again = fit(same, loss_fn, data, config, progress=False)
        assert again.loss == result.loss
        assert same_state(net.state_dict(), same.state_dict())


def test_a_loader_that_draws_is_gone_on_with(tmp_path):
    config = TrainConfig(steps=6, batch_size=8, checkpoint_every=1)
    data, given = loaded(Cropped()), dict(noise=first_of, progress=False)
    whole, parts = small_net(), small_net()
    fit(whole, loss_fn, data, config, **given)
    calls = []

    def stops(x, i, generator):
        calls.append(i.tolist())
        if len(calls) == 4:
            raise KeyboardInterrupt
        return (x,)

    with pytest.raises(KeyboardInterrupt):
        fit(
            parts, loss_fn, data, config, stops, folder=tmp_path, progress=False
        )
    result = fit(parts, loss_fn, data, config, folder=tmp_path, **given)
    assert result.resumed_from == 3
    assert sorted(calls[0] + calls[1]) == list(range(16))  # an epoch
    assert same_state(whole.state_dict(), parts.state_dict())
    other = loaded(torch.utils.data.TensorDataset(DATA + 1, torch.arange(16)))
    with pytest.raises(ValueError, match="data"):
        fit(small_net(), loss_fn, other, config, folder=tmp_path, **given)


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from DATA


REFUSED_LOADERS = {
    "another size": (lambda: loaded(batch_size=4), "batches of 8, .* got 4"),
    "a stream": (lambda: loaded(Stream()), "got one over an IterableDataset"),
    "an order of its own": (
        lambda: loaded(
            sampler=torch.utils.data.WeightedRandomSampler([1.0] * 16, 16)
        ),
        "a WeightedRandomSampler of its own",
    ),
    "with replacement": (
        lambda: loaded(
            sampler=torch.utils.data.RandomSampler(DATA, replacement=True)
        ),
        "a RandomSampler of its own",
    ),
    "numbers, no tensors": (
        lambda: loaded(collate_fn=lambda items: len(items)),
        r"data: expected tensors with 8 rows, got \['int'\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED_LOADERS)
def test_a_loader_that_is_refused(name):
    make, says = REFUSED_LOADERS[name]
    config = TrainConfig(steps=1, batch_size=8)
    with pytest.raises((TypeError, ValueError), match=says) as caught:
        fit(small_net(), loss_fn, make(), config, progress=False)
    assert sentence(caught).startswith("data: ")
