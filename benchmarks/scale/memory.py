"""Memory of a training step with 50,257 symbols, in tensors of logits.

    python benchmarks/scale/memory.py [--symbols 50257] [--rows 128]

The unit is one float32 tensor of all answers to 8 windows of 128 tokens, 206 MB
for GPT-2's vocabulary. Each line is a process of its own. What is printed is
how far its peak of resident memory (as Linux counts it) rose
above what a run with 50 symbols took; for `step` that includes the network,
its gradients and the optimisers. `plain` answers all tokens at once, `parts` so
many `--rows` at a time; then the difference of the numbers that both computed. The table
goes into discrete_diffusion/results/scale.json.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import torch
from kept import keep

from discrete_diffusion.posterior import posterior, posterior_draw
from discrete_diffusion.scale import RunConfig, _bits, build
from discrete_diffusion.transformer import text_optimizers

BATCH, LENGTH, WIDTH, DEPTH = 8, 128, 64, 2
SYSTEMS = ("masked", "uniform")
TASKS = ("draw", "posterior", "one by one", "loss", "step", "bits")


def peak():
    """Most bytes that this program has held. (What `resource` says of it begins
    with the memory of the process that started it.)"""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def run(system, rows):
    "The description of a small run; rows = 0 is the plain way."
    sizes = dict(width=WIDTH, heads=2, depth=DEPTH, length=LENGTH)
    return RunConfig(system, "nowhere", batch_size=BATCH, rows=rows, **sizes)


def windows(K):
    g = torch.Generator().manual_seed(0)
    return torch.randint(K, (BATCH, LENGTH), generator=g)


def do(task, system, rows, K):
    "The task once; a number that must not depend on `rows`."
    x_0, g = windows(K), torch.Generator().manual_seed(1)
    config = run(system, rows)
    net, system = build(config, K)
    noised = system.noise(x_0, g)
    if task == "draw":
        return noised[1].double().mean().item()
    if task == "posterior":
        whole = posterior_draw(system.kernel, x_0, noised[1], 0.3, 0.6, g)
        return whole.double().mean().item()
    if task == "one by one":
        pairs = zip(x_0.split(1), noised[1].split(1), strict=True)
        each = [
            posterior(system.kernel, a, b, 0.3, 0.6).amax() for a, b in pairs
        ]
        return torch.stack(each).mean().item()
    if task == "bits":
        return _bits(system, net, x_0, config.rows).total
    net.head.weight.data.normal_(std=0.1, generator=g)
    loss = system.loss(net, *noised)["loss"].mean()
    loss.backward()
    if task == "step":
        for optimizer in text_optimizers(net):
            optimizer.step()
        return net.head.weight.double().mean().item()
    return loss.item()


def child(task, system, rows, K):
    "Peak above what the imports took, and the task's number."
    torch.set_num_threads(1)
    do(task, system, rows, 50)  # what is loaded at the first use
    before = peak()
    number = do(task, system, rows, K)
    print(peak() - before, number)


def measured(task, system, rows, K):
    "The same in a process of its own: logits tensors, and the number."
    words = [sys.executable, __file__, "--child", task, system, rows, K]
    out = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True
    )
    if out.returncode:
        raise RuntimeError(out.stderr)
    taken, number = out.stdout.split()
    return int(taken) / (4 * K * BATCH * LENGTH), float(number)


def main():
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--symbols", type=int, default=50_257)
    ask.add_argument("--rows", type=int, default=128)
    ask.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    said = ask.parse_args()
    if said.child:
        task, system, rows, K = said.child
        return child(task, system, int(rows), int(K))
    print(f"{'':21} plain  parts  difference of their numbers")
    found = {}
    for system in SYSTEMS:
        for task in TASKS:
            plain, a = measured(task, system, 0, said.symbols)
            parts, b = measured(task, system, said.rows, said.symbols)
            name = f"{system}, {task}"
            print(f"{name:21} {plain:5.2f}  {parts:5.2f}  {abs(a - b):.1e}")
            found[name] = round(plain, 2), round(parts, 2)
    how = dict(symbols=said.symbols, rows=said.rows)
    keep("memory", {**how, "tensors": found})


if __name__ == "__main__":
    main()
