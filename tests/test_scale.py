"The command of chapter 24: processes, kills, and what it refuses."

import json
import os
import subprocess
import sys
import time

import pytest
import torch

from discrete_diffusion.scale import (
    SYSTEMS,
    RunConfig,
    load_run,
    main,
    predict,
    read_config,
    shares,
    train,
)
from discrete_diffusion.training import read_tensors

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
    done = call(place, *ONE, path)
    assert done.returncode == 1
    assert "of another config: steps is 6 in the file, 8 here" in done.stdout


def test_a_batch_that_the_processes_cannot_share(place):
    path = write(place, "run")
    text = (place / path).read_text()
    (place / path).write_text(text.replace("batch_size = 8", "batch_size = 9"))
    done = call(place, *two("-m", "discrete_diffusion.scale", path))
    assert done.returncode
    assert "processes times accumulate, 2 x 1, got 9" in done.stdout


@pytest.mark.parametrize("who", [0, pytest.param(1, marks=pytest.mark.heavy)])
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
