"The command of chapter 24: processes, kills, and what it refuses."

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import traceback
from collections import Counter

import pytest
import torch
from accelerate.state import AcceleratorState

from discrete_diffusion.scale import (
    SYSTEMS,
    RunConfig,
    build,
    load_run,
    main,
    predict,
    read_config,
    shares,
    train,
)
from discrete_diffusion.training import fit, read_tensors
from discrete_diffusion.transformer import text_optimizers

ONE = [sys.executable, "-m", "discrete_diffusion.scale"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
SMALL = """\
data = "text.txt"
tokenizer = "bytes"
length = 16
width = 16
heads = 2
depth = 1
block = 4
steps = {steps}
batch_size = 8
checkpoint_every = 2
held = 2
"""
SIX = """\
import sys
from discrete_diffusion.scale import read_config, train
for path in sys.argv[1:]:
    train(read_config(path), progress=False)
"""
DIES = """\
import os, pathlib, runpy, signal, sys, threading, time
late = float(sys.argv.pop())
def checkpoints():
    return set(pathlib.Path("run").glob("checkpoints/step-*"))
def die():
    while not checkpoints() - old:
        time.sleep(0.01)
    time.sleep(late)
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ["RANK"] == os.environ["WHO"]:
    old = checkpoints()
    threading.Thread(target=die, daemon=True).start()
runpy.run_module("discrete_diffusion.scale", run_name="__main__")
"""


@pytest.fixture
def place(tmp_path):
    "A folder with a text."
    (tmp_path / "text.txt").write_text("To be, or not to be.\n" * 200)
    return tmp_path


def write(place, name, system="masked", steps=6, **more):
    "A file of a run; `more` are further lines."
    said = {"system": system, "folder": name, **more}
    lines = [f"{key} = {json.dumps(value)}" for key, value in said.items()]
    text = "\n".join(lines) + "\n" + SMALL.format(steps=steps)
    (place / f"{name}.toml").write_text(text)
    return f"{name}.toml"


def call(place, *words, **env):
    "A command in that folder, with one thread for each process."
    env = os.environ | {"OMP_NUM_THREADS": "1"} | env
    out = subprocess.PIPE
    return subprocess.run(
        words, cwd=place, env=env, stdout=out, stderr=subprocess.STDOUT,
        text=True, timeout=300,
    )  # fmt: skip


def heard(place, monkeypatch, *words):
    "What the command ends with, in this process."
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return str(end.value)


def here(place, monkeypatch, path):
    "The command in this process, with one thread; the folder of its run."
    monkeypatch.chdir(place)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        main([path])
    finally:
        torch.set_num_threads(threads)
        AcceleratorState._reset_state(True)  # the next may want another dtype
    return place / path.removesuffix(".toml")


def two(*words):
    return [*TORCHRUN, "--nproc-per-node", "2", *words]


def weights(folder):
    return read_tensors(folder / "weights.safetensors")[0]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def alone(place, system, steps=6):
    "The same run in this process, with two pieces."
    lines = SMALL.format(steps=steps).splitlines()
    said = {k: json.loads(v) for k, v in (line.split(" = ") for line in lines)}
    said |= {"data": str(place / "text.txt"), "accumulate": 2}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        folder = place / f"alone-{system}"
        train(RunConfig(system, str(folder), **said), progress=False)
    finally:
        torch.set_num_threads(threads)
    return weights(folder)


def test_two_processes_equal_one_for_every_system(place):
    (place / "six.py").write_text(SIX)
    files = [write(place, name, name) for name in SYSTEMS]
    done = call(place, *two("six.py", *files))
    assert not done.returncode, done.stdout
    for name in SYSTEMS:
        assert same(weights(place / name), alone(place, name)), name


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_was_trained_writes_texts(place, name):
    alone(place, name, steps=2)
    net, system, vocabulary = load_run(place / f"alone-{name}")
    shape, g = (2, 16), torch.Generator().manual_seed(0)
    own = name in ("next", "blocks")  # they write in an order of their own
    times = () if own else (8,)
    out = system.sample(net, shape, *times, generator=g)
    assert out.x.shape == shape
    assert out.x.min() >= 0 and out.x.max() < vocabulary.K


@pytest.mark.parametrize(
    "line, words",
    [
        ({"system": "gan"}, "system: expected one of 'masked'"),
        ({"stepz": 3}, "unknown key 'stepz' (did you mean 'steps'?)"),
        ({"precision": "fp8"}, "precision: expected one of 'float32', 'bf16'"),
    ],
)
def test_the_command_says_one_sentence(place, monkeypatch, line, words):
    said = heard(place, monkeypatch, write(place, "run", **line))
    assert said.startswith("scale: ") and words in said
    assert "\n" not in said


def test_the_command_wants_one_file(place, monkeypatch):
    said = heard(place, monkeypatch)
    assert said == "scale: expected one file, CONFIG.toml"
    done = call(place, *ONE, "absent.toml")
    assert done.returncode == 1
    assert done.stdout.startswith("scale: ") and done.stdout.count("\n") == 1
    assert "expected a file of text" in done.stdout


@pytest.mark.heavy
def test_the_other_launcher_warns_once(place):
    "`accelerate launch` starts one process on a CPU without MPI."
    code = "from accelerate.commands.accelerate_cli import main; main()"
    words = [
        "launch",
        "--cpu",
        "--num_processes",
        "2",
        "-m",
        "discrete_diffusion.scale",
    ]
    path = write(place, "run")
    done = call(place, sys.executable, "-c", code, *words, path)
    told = done.stdout.count("several processes were asked for")
    report = json.loads((place / "run/report.json").read_text())
    assert (told, report["processes"]) in ((1, 1), (0, 2))


def test_a_run_that_has_ended_changes_nothing(place, monkeypatch):
    monkeypatch.chdir(place)
    path = write(place, "run")
    main([path])
    before = weights(place / "run")
    main([path])
    assert same(before, weights(place / "run"))
    write(place, "run", steps=8)
    said = heard(place, monkeypatch, path)
    assert "of another config: steps is 6 in the file, 8 here" in said
    text = (place / write(place, "run")).read_text()
    (place / path).write_text(text.replace("width = 16", "width = 20"))
    assert "of another model: 'emb" in heard(place, monkeypatch, path)


@pytest.mark.heavy
def test_a_batch_that_the_processes_cannot_share(place):
    path = write(place, "run")
    text = (place / path).read_text()
    (place / path).write_text(text.replace("batch_size = 8", "batch_size = 9"))
    done = call(place, *two("-m", "discrete_diffusion.scale", path))
    assert done.returncode
    assert "processes times accumulate, 2 x 1, got 9" in done.stdout


@pytest.mark.heavy
@pytest.mark.parametrize("who", [0, 1])
def test_a_dead_process_ends_the_others_and_the_run_goes_on(place, who):
    (place / "dies.py").write_text(DIES)
    path = write(place, "run", steps=60)
    begin = time.monotonic()
    done = call(place, *two("dies.py", path, "0"), WHO=str(who))
    assert done.returncode and "SIGKILL" in done.stdout
    assert time.monotonic() - begin < 60 * float(
        os.environ.get("TEST_PATIENCE", 1)
    )
    assert not (place / "run/weights.safetensors").exists()
    done = call(place, *two("-m", "discrete_diffusion.scale", path))
    assert not done.returncode, done.stdout
    report = json.loads((place / "run/report.json").read_text())
    assert report["resumed_from"] > 0 and report["processes"] == 2
    assert same(weights(place / "run"), alone(place, "masked", 60))


@pytest.fixture
def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


@pytest.mark.parametrize("who", [0, pytest.param(1, marks=pytest.mark.heavy)])
def test_without_a_launcher_the_other_ends_with_one_sentence(
    place, free_port, who
):
    "Nobody ends it: it hears that the connection is closed."
    path = write(place, "run", steps=2000)
    started = []
    for rank in ("0", "1"):
        env = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": "2"}
        env |= {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": free_port}
        env |= {"MASTER_ADDR": "127.0.0.1"}
        with open(place / f"said-{rank}", "w") as out:
            one = subprocess.Popen(
                [*ONE, path], cwd=place, env=env, stdout=out, stderr=out
            )
        started.append(one)
    try:
        while not list(place.glob("run/checkpoints/step-*")):
            assert started[who].poll() is None
            time.sleep(0.05)
        started[who].kill()
        patience = float(os.environ.get("TEST_PATIENCE", 1))
        assert started[1 - who].wait(60 * patience) == 1
    finally:
        for one in started:
            one.kill()
            one.wait()
    said = (place / f"said-{1 - who}").read_text()
    assert "Traceback" not in said
    last = said.rstrip().splitlines()[-1]
    assert last.startswith("scale: another process of the run has ended; the")


LITTLE_SPACE = """\
import resource, runpy, sys
most = int(sys.argv.pop())
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
runpy.run_module("discrete_diffusion.scale", run_name="__main__")
"""


@pytest.mark.skipif(os.name != "posix", reason="limits files as a full disk")
@pytest.mark.parametrize(
    "most, words",
    [
        (2_000, "folder: no tokens could be written to run (File too large)"),
        pytest.param(
            20_000,
            "step 2 of 6: no checkpoint could be written to run/",
            marks=pytest.mark.heavy,
        ),
    ],
)
def test_no_space(place, monkeypatch, most, words):
    "One sentence; nothing half-written; the same command then goes on."
    (place / "little.py").write_text(LITTLE_SPACE)
    path = write(place, "run")
    done = call(place, sys.executable, "little.py", path, str(most))
    assert done.returncode == 1 and "Traceback" not in done.stdout
    assert words in done.stdout.rstrip().splitlines()[-1]
    left = [p.name for p in place.glob("run/**/*")]
    assert not [name for name in left if name.endswith((".part", ".tmp"))]
    resumed = here(place, monkeypatch, path)
    whole = here(place, monkeypatch, write(place, "whole"))
    assert same(weights(resumed), weights(whole))


@pytest.mark.heavy
def test_three_processes(place, monkeypatch):
    "The same bits each time; those of one process up to rounding."
    for name in ("run", "again"):
        path = write(place, name)
        text = (place / path).read_text()
        nine = text.replace("batch_size = 8", "batch_size = 9")
        (place / path).write_text(nine)
        done = call(
            place, *TORCHRUN, "--nproc-per-node", "3",
            "-m", "discrete_diffusion.scale", path,
        )  # fmt: skip
        assert not done.returncode, done.stdout
    assert same(weights(place / "run"), weights(place / "again"))
    report = json.loads((place / "run/report.json").read_text())
    assert report["processes"] == 3
    (place / "one.toml").write_text(nine.replace('"again"', '"one"'))
    alone = weights(here(place, monkeypatch, "one.toml"))
    three = weights(place / "run")
    far = max((alone[k] - three[k]).abs().max().item() for k in alone)
    assert far < 1e-3


@pytest.mark.parametrize(
    "name, processes", [("one", 1), ("eight", 8), ("sixty_four", 64)]
)
def test_the_files_for_large_machines(root, name, processes):
    "They are read, and cut the same batch into the same pieces."
    config = read_config(root / f"benchmarks/scale/{name}.toml")
    plan = shares(config.batch_size, processes, config.accumulate)
    assert plan.shape == (processes, 64 // processes, 8)
    cost = predict(config, 50_257, processes)
    assert 1e8 < cost.parameters < 2e8
    assert f"# 512 windows an update = {processes} processes" in (
        root / f"benchmarks/scale/{name}.toml"
    ).read_text(encoding="utf-8")


def test_the_file_for_text8(root):
    "Letters and the space, windows of 256, as the papers have them."
    config = read_config(root / "benchmarks/scale/text8.toml")
    assert shares(config.batch_size, 1, config.accumulate).shape == (1, 8, 64)
    assert 8e7 < predict(config, 27).parameters < 1e8


def small(system, **more):
    "A run of a few numbers, and a batch."
    sizes = dict(width=16, heads=2, depth=1, length=8, block=4, batch_size=4)
    config = RunConfig(system, "nowhere", **(sizes | more))
    x_0 = torch.randint(5, (4, 8), generator=torch.Generator().manual_seed(0))
    return config, x_0


def awake(net):
    "The network with a head that says something."
    generator = torch.Generator().manual_seed(3)
    net.head.weight.data.normal_(generator=generator)
    return net


@pytest.mark.parametrize("K", [5, 3000])
@pytest.mark.parametrize("system", ["masked", "uniform"])
def test_parts_change_no_bit(system, K):
    "Losses, and what goes back into the network, for parts of any size."
    found = []
    for rows in (0, 5, 8, 100):
        config, x_0 = small(system, rows=rows)
        net, made = build(config, K)
        noised = made.noise(x_0, torch.Generator().manual_seed(1))
        loss = made.loss(awake(net), *noised)["loss"]
        loss.sum().backward()
        body = [p.grad for k, p in net.named_parameters() if "head" not in k]
        found.append([loss.detach(), *body, net.head.weight.grad])
    for *mine, head in found[1:]:
        *want, whole = found[0]
        assert all(torch.equal(a, b) for a, b in zip(mine, want, strict=True))
        assert torch.allclose(head, whole, atol=1e-4)


def tensors_of_logits(root, task, system, rows, K=20_000):
    "Peak memory of a task in a process of its own (Linux counts in kB)."
    words = ["--child", task, system, str(rows), str(K)]
    script = root / "benchmarks/scale/memory.py"
    done = call(root, sys.executable, str(script), *words)
    assert not done.returncode, done.stdout
    return int(done.stdout.split()[0]) / (4 * K * 8 * 128)


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in kB")
@pytest.mark.parametrize(
    "system", [pytest.param("masked", marks=pytest.mark.heavy), "uniform"]
)
def test_a_step_takes_at_most_four_tensors_of_logits(root, system):
    assert tensors_of_logits(root, "step", system, 128) < 4
    assert tensors_of_logits(root, "step", system, 0) > 4  # as it was


@pytest.mark.parametrize("system", SYSTEMS)
def test_one_graph_for_the_network_of_each_system(system):
    "And the loss of the compiled network is the loss."
    config, x_0 = small(system)
    net, made = build(config, 5)
    noised = made.noise(x_0, torch.Generator().manual_seed(1))
    want = made.loss(awake(net), *noised)["loss"]
    torch._dynamo.reset()
    whole = torch.compile(net, fullgraph=True, backend="eager")
    got = made.loss(whole, *noised)["loss"]
    assert torch.allclose(got, want, atol=1e-5)
    got.sum().backward()
    assert net.head.weight.grad.any()


@pytest.mark.heavy
@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")),
    reason="torch.compile makes C++ for the CPU, and there is no compiler",
)
def test_blocks_compiled_for_real():
    config, x_0 = small("blocks")
    net, _ = build(config, 5)
    told = torch.where(x_0 < 2, 5, x_0), None, None, x_0
    torch._dynamo.reset()
    compiled = torch.compile(awake(net), fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(*told), net(*told), atol=1e-5)


@pytest.mark.parametrize("system", ["masked", "uniform", "blocks"])
def test_half_precision(place, monkeypatch, system):
    "A run in bf16 trains, keeps its weights in float32, and is near."
    bits = []
    for precision in ("float32", "bf16"):
        path = write(place, precision, system, steps=20, precision=precision)
        folder = here(place, monkeypatch, path)
        kept = weights(folder).values()
        assert all(w.dtype == torch.float32 for w in kept)
        report = json.loads((folder / "report.json").read_text())
        bits.append(report["bits_per_token"])
    assert bits[0] != bits[1] and abs(bits[0] - bits[1]) < 0.1 * bits[0]


def reads_of_each_step(config, monkeypatch, steps):
    "Which functions asked a tensor on a device for a number, step by step."
    # the way back computes the same again; it refuses stand-ins
    once = lambda f, *x, use_reentrant: f(*x)  # noqa: E731
    monkeypatch.setattr("discrete_diffusion.scale.checkpoint", once)
    stand_in = pytest.importorskip("test_fit_device")
    reads = "item __bool__ __int__ __float__ __index__ tolist cpu nonzero"

    class Counting(stand_in.Training):
        seen = Counter()

        def __torch_function__(self, func, types, args=(), kwargs=None):
            there = any(isinstance(x, stand_in.OnDevice) for x in args)
            if there and getattr(func, "__name__", "") in reads.split():
                stack = traceback.extract_stack()
                names = [f.name for f in stack if "discrete_diff" in f.filename]
                self.seen[[n for n in names if n[0] != "<"][-1]] += 1
            return super().__torch_function__(func, types, args, kwargs)

    net, system = build(config, 5)
    x_0 = torch.arange(400).reshape(50, 8) * 7 % 11 % 5
    device = Counting("xpu", float64=True)
    stand_in.moved(net, device)
    process, marks = stand_in.OneProcess(), []
    process.device = torch.device("xpu")

    def noise(x, generator):
        marks.append(Counter(device.seen))
        return system.noise(x, generator)

    with device:
        result = fit(
            net,
            system.loss,
            x_0,
            config.training(),
            noise=noise,
            optimizers=text_optimizers(net),
            accelerator=process,
            progress=False,
        )
    assert len(result.loss) == len(result.grad_norm) == len(result.lr) == steps
    marks.append(Counter(device.seen))
    return [b - a for a, b in zip(marks, marks[1:], strict=False)]


ALL = [(name, 0) for name in SYSTEMS] + [("masked", 8), ("uniform", 8)]


@pytest.mark.parametrize("system, rows", ALL)
def test_no_step_waits_for_the_device(system, rows, monkeypatch):
    "But the first, every twentieth and the last, which look."
    config, _ = small(system, rows=rows, steps=23)
    each = reads_of_each_step(config, monkeypatch, 23)
    waited = [i for i, seen in enumerate(each) if seen]
    assert waited == [0, 19, 22], each[1]


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_twenty_kills(place):
    "At twenty moments of one run, each time resumed by the same command."
    steps = 1000
    (place / "dies.py").write_text(DIES)
    path = write(place, "run", "uniform", steps)
    for i in range(20):
        late = str(0.005 * i)
        done = call(place, *two("dies.py", path, late), WHO=str(i % 2))
        assert "SIGKILL" in done.stdout, (i, done.stdout)
    done = call(place, *two("-m", "discrete_diffusion.scale", path))
    assert not done.returncode, done.stdout
    assert same(weights(place / "run"), alone(place, "uniform", steps))
