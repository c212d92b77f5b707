"""A step of the masked network beside nanoGPT's own step, measured in turn.

    python benchmarks/scale/step.py [--rounds 40] [--compile yes]

Protocol P's sizes: 4 layers, 4 heads, width 128, 12 windows of 64. Every round
runs one step of each, so that a slow moment hits all alike; what is printed is
the median of a round's ratio to nanoGPT's step, with its quartiles, in seconds
of one processor. `no Muon`: AdamW for everything. `--compile yes` adds the
network compiled, which needs a C++ compiler and some two minutes. The table
goes into discrete_diffusion/results/scale.json.
"""

import argparse
import statistics
import time

import torch

# isort: off
from kept import keep  # puts scripts/ on the path
from bench_protocol import GPT, gpt_optimizers

# isort: on
from discrete_diffusion.forward import Absorbing, linear_schedule
from discrete_diffusion.mdlm import MaskedText
from discrete_diffusion.transformer import (
    NextLetter,
    TextNet,
    text_optimizers,
)

K, BATCH, LENGTH, FIRST = 65, 12, 64, 3


def masked(compiled=False):
    torch.manual_seed(0)
    net = TextNet(K, K + 1)
    run = torch.compile(net, fullgraph=True) if compiled else net
    system = MaskedText(Absorbing(K, linear_schedule()))
    return run, system, text_optimizers(net)


def without_muon():
    run, system, _ = masked()
    optimizer = torch.optim.AdamW(run.parameters(), fused=True)
    return run, system, [optimizer]


def next_letter():
    net = TextNet(K, K + 1, causal=True)
    return net, NextLetter(K), text_optimizers(net)


def nanogpt():
    net = GPT(K)
    return net, NextLetter(K), gpt_optimizers(net)


def step(net, system, optimizers, batch, generator):
    "Forward, back and update; seconds of processor."
    begin = time.process_time()
    system.loss(net, *system.noise(batch, generator))["loss"].mean().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return time.process_time() - begin


def main():
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--rounds", type=int, default=40)
    ask.add_argument("--compile", choices=("yes", "no"), default="no")
    said = ask.parse_args()
    torch.set_num_threads(1)
    ways = {
        "nanoGPT": nanogpt(),
        "next letter": next_letter(),
        "masked": masked(),
        "masked, no Muon": without_muon(),
    }
    if said.compile == "yes":
        ways["masked, compiled"] = masked(compiled=True)
    took = {name: [] for name in ways}
    for i in range(said.rounds + FIRST):
        g = torch.Generator().manual_seed(i)
        batch = torch.randint(K, (BATCH, LENGTH), generator=g)
        for name, parts in ways.items():
            took[name].append(step(*parts, batch, g))
    yard = took["nanoGPT"][FIRST:]
    found = {}
    for name, each in took.items():
        each = each[FIRST:]
        ratios = [a / b for a, b in zip(each, yard, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        ms = 1e3 * statistics.median(each)
        print(
            f"{name:17} {ms:6.1f} ms, {middle:.2f} of nanoGPT's "
            f"({low:.2f} to {high:.2f})"
        )
        rounded = [round(v, 2) for v in (low, middle, high)]
        found[name] = dict(ms=round(ms, 1), quartiles=rounded)
    keep("step", dict(rounds=said.rounds, steps=found))


if __name__ == "__main__":
    main()
