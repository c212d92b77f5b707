"""The digits of chapter 10 as a benchmark: bits per dimension and seconds for some seeds, with protocol, machine and spread.

python scripts/bench_digits.py                                       the chapter's settings, one seed
python scripts/bench_digits.py --seeds 3 --steps 960 --batch 32      and so on, see --help
"""

import argparse
import os
import platform
import statistics
import time

import torch

from discrete_diffusion.d3pm import (
    MaskedD3PM,
    digit_kernel,
    digit_optimizers,
    train_digits,
)
from discrete_diffusion.data import load_digits


def machine():
    a = torch.randn(1024, 1024)
    for _ in range(3):
        a @ a
    start = time.perf_counter()
    for _ in range(20):
        a @ a
    speed = 20 * 2 * 1024**3 / (time.perf_counter() - start) / 1e9
    load = (
        f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    )
    return f"{platform.machine()}, {os.cpu_count()} processors, {torch.get_num_threads()} threads, torch {torch.__version__}, {speed:.0f} GFLOP/s in float32 products{load}"


if __name__ == "__main__":
    ask = argparse.ArgumentParser(
        description="Train chapter 10's masked D3PM and score it on the 500 held-out digits."
    )
    ask.add_argument("--steps", type=int, default=960)
    ask.add_argument("--batch", type=int, default=32)
    ask.add_argument(
        "--muon", type=float, default=0.025, help="largest rate of Muon"
    )
    ask.add_argument(
        "--adam", type=float, default=3e-3, help="largest rate of AdamW"
    )
    ask.add_argument(
        "--drop", type=float, default=0.03, help="share of labels dropped"
    )
    ask.add_argument("--seeds", type=int, default=1)
    a = ask.parse_args()
    digits = load_digits(levels=4)
    print(
        f"{digits}\n{machine()}\nsteps {a.steps}, batch {a.batch}, rates {a.muon} and {a.adam}, labels dropped {a.drop}; bound with T = 1000, 4 passes over the held-out images"
    )
    found = []
    for seed in range(a.seeds):
        system = MaskedD3PM(digit_kernel("absorbing"), T=1000, drop=a.drop)
        net, run = train_digits(
            system,
            digits.train_x,
            digits.train_y,
            a.steps,
            a.batch,
            seed=seed,
            progress=False,
            optimizers=lambda net: digit_optimizers(net, a.muon, a.adam),
        )
        bits = system.bits(
            net,
            digits.held_x,
            digits.held_y,
            generator=torch.Generator().manual_seed(0),
        )
        found.append(bits.total)
        print(f"seed {seed}: {run.seconds:.0f} s, {bits}", flush=True)
    if a.seeds > 1:
        print(
            f"over {a.seeds} seeds: mean {statistics.mean(found):.4f}, standard deviation {statistics.stdev(found):.4f} bits/dim"
        )
