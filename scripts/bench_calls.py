"""Quality against calls and seconds: every rule, on networks of equal training.

    python scripts/bench_protocol.py run masked       and blocks_4, blocks_16,
                                                      next_letter
    python scripts/bench_calls.py rules               every rule on 64 letters
    python scripts/bench_calls.py long                256 letters: the cache
    python scripts/bench_calls.py table               into results/calls.json

The networks are those of protocol P (chapter 18): one architecture, 2,000 steps
on Tiny Shakespeare, windows of 64. `rules` lets every rule write 32 texts in
turn, in so many rounds, and judges all its texts: network calls, processor
seconds a text (the median of the rounds), share of known words, bits a letter
under the shipped next-letter network `ar`, entropy of pairs of letters.
`long` writes 256 letters with blocks of 16, with and without kept keys, and
with nanoGPT's architecture and loop, one after the other in each round.
One thread, one seed.
"""

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from functools import partial

import bench_protocol as protocol
import torch
from bench_decode import Judge, as_line
from house import LIB, ROOT, machine, write_atomically
from safetensors.torch import load_file

from discrete_diffusion.core import draw, uniforms
from discrete_diffusion.ctmc import tweedie
from discrete_diffusion.data import load_text, windows
from discrete_diffusion.decode import (
    apart,
    at_random,
    best_counts,
    context_cost,
    entropy_bounded,
    in_turn,
    reveal,
)
from discrete_diffusion.forward import Absorbing, linear_schedule
from discrete_diffusion.samplers import first_hitting, unmask
from discrete_diffusion.sampling import sample

PARTS = ROOT / "runs" / "calls"
L, AT_A_TIME, LONG = 64, 32, 256
CALLS = (1, 2, 4, 8, 16, 32, 64)


def trained(name, K, tokens):
    "The system of protocol P and its network, as it was trained."
    _, system, net = protocol.build(name, K, tokens, 0)
    file = protocol.PARTS / f"{name}-{protocol.STEPS}-0.safetensors"
    if not file.exists():
        sys.exit(f"First: python scripts/bench_protocol.py run {name}")
    net.load_state_dict(load_file(file))
    return system, net.eval()


def curve_of(net, kernel, pages, generator):
    "C_m of chapter 19 on these pages, m = 0..L-1: nats."
    costs = []
    for m in range(L):
        turn = uniforms(pages.shape, generator).argsort(-1).argsort(-1)
        costs.append(context_cost(net, kernel, pages, turn < m).mean())
    return torch.stack(costs)


def masked_rules(net, kernel, curve, generator):
    "(rule, setting, function that writes texts), for the masked network."
    shape, g = (AT_A_TIME, L), generator

    def follow(moves):
        return partial(sample, net, kernel, shape, moves, generator=g)

    def each_time(choose, counts):
        return follow(in_turn([reveal(choose(k, g)) for k in counts]))

    for m in CALLS:
        even = [L // m] * m
        yield "ancestral", m, follow(m)
        grid = [(tweedie, 1 - i / m, 1 - (i + 1) / m) for i in range(m)]
        yield "Tweedie", m, follow(grid)
        yield "random places, even", m, each_time(at_random, even)
        best = best_counts(curve, m)
        yield "random places, best schedule", m, each_time(at_random, best)
        yield "places apart", m, each_time(apart, even)
        sure = dict(order="confidence", generator=g)
        yield "surest places", m, partial(unmask, net, kernel, shape, m, **sure)
    one_by_one = partial(first_hitting, net, kernel, shape, generator=g)
    yield "first hitting", L, one_by_one
    for eps in (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0):
        rule = reveal(partial(entropy_bounded, eps=eps))
        yield "entropy-bounded", eps, follow(in_turn([rule] * L))


def rules(corpus, generator):
    "All rules."
    _, letters, train, held = corpus
    kernel = Absorbing(letters.K, linear_schedule())
    _, net = trained("masked", letters.K, train)
    pages = windows(held, L, L)[::8]
    curve = curve_of(net, kernel, pages, generator)
    yield from masked_rules(net, kernel, curve, generator)
    shape = (AT_A_TIME, L)
    for block in (4, 16):
        system, its_net = trained(f"blocks_{block}", letters.K, train)
        for times in (2**i for i in range(int(math.log2(block)) + 3)):
            write = partial(system.sample, its_net, shape, times)
            name = f"blocks of {block}"
            yield name, times, partial(write, generator=generator)
    system, its_net = trained("next_letter", letters.K, train)
    write = partial(system.sample, its_net, shape, generator=generator)
    yield "next letter", L, write


def calls_of(out, rule):
    "Network calls a text, on average: a rule that is done asks no more."
    if rule != "entropy-bounded":
        return float(out.calls)
    new = [(a[1] != b[1]).any(1) for a, b in itertools.pairwise(out.path)]
    return torch.stack(new).double().sum(0).mean().item()


def real_row(rule, tokens, judge, many):
    "The judge's row of so many windows of a text that people wrote."
    pages = windows(tokens, L, L)
    pages = pages[:: max(1, len(pages) // many)]
    return dict(rule=rule, setting=0, calls=0, seconds=0, **judge(pages))


def run_rules(a, corpus):
    generator = torch.Generator().manual_seed(a.seed)
    text, letters, _, held = corpus
    judge, listed = Judge(letters, text), list(rules(corpus, generator))
    listed = [way for way in listed if way[0].startswith(a.only)]
    found = [dict(x=[], calls=[], seconds=[]) for _ in listed]
    for _ in range(a.rounds):
        for (rule, _, write), so_far in zip(listed, found, strict=True):
            begun = time.process_time()
            keep = dict(keep_path=True) if rule == "entropy-bounded" else {}
            out = write(**keep)
            so_far["seconds"].append(time.process_time() - begun)
            so_far["calls"].append(calls_of(out, rule))
            so_far["x"].append(out.x)
    many = a.rounds * AT_A_TIME
    rows = [real_row("real text", held, judge, many)]
    unread = letters.encode(load_text("plays").held)  # `ar` has read the other
    rows.append(real_row("real text, new to ar", unread, judge, many))
    for (rule, setting, _), got in zip(listed, found, strict=True):
        seconds = [s / AT_A_TIME for s in got["seconds"]]
        row = dict(
            rule=rule,
            setting=setting,
            calls=statistics.mean(got["calls"]),
            seconds=statistics.median(seconds),
            seconds_quartiles=statistics.quantiles(seconds, n=4)[::2],
            **judge(torch.cat(got["x"])),
        )
        rows.append(row)
        print(
            f"{rule:30} {setting:5} {row['calls']:5.1f} calls "
            f"{1e3 * row['seconds']:6.1f} ms  {as_line(row)}",
            flush=True,
        )
    texts = a.rounds * AT_A_TIME
    return dict(texts=texts, seed=a.seed, machine=machine(), rows=rows)


@torch.no_grad()
def nanogpt_loop(net, shape, generator):
    "nanoGPT's way to write: each call reads all letters that there are."
    x = torch.full((shape[0], 1), net.K)
    for _ in range(shape[1]):
        rows = net(x[:, -LONG:])[:, -1].softmax(-1)
        x = torch.cat([x, draw(rows, generator)[:, None]], 1)
    return x[:, 1:]


def run_long(a, corpus):
    "Letters a second, alternately; speed does not ask for trained weights."
    generator = torch.Generator().manual_seed(a.seed)
    _, letters, train, _ = corpus
    shape = (8, LONG)
    system, net = trained("blocks_16", letters.K, train)
    gpt = protocol.GPT(letters.K, length=LONG).eval()
    ways = {
        "nanoGPT's loop, 256 calls": lambda: nanogpt_loop(gpt, shape, generator)
    }
    for times in (16, 8, 4):
        for cache in (True, False):
            kept = "kept keys" if cache else "no cache"
            write = partial(system.sample, net, shape, times, cache=cache)
            name = f"blocks of 16, {times} steps, {kept}"
            ways[name] = partial(write, generator=generator)
    took = {name: [] for name in ways}
    for _ in range(a.rounds):
        for name, write in ways.items():
            begun = time.process_time()
            write()
            took[name].append(time.process_time() - begun)
    rows = []
    for name, seconds in took.items():
        speeds = [shape[0] * LONG / s for s in seconds]
        rows.append(
            dict(
                way=name,
                letters_a_second=statistics.median(speeds),
                quartiles=statistics.quantiles(speeds, n=4)[::2],
            )
        )
        print(f"{name:36} {rows[-1]['letters_a_second']:7.0f} letters a second")
    return dict(rounds=a.rounds, batch=shape[0], machine=machine(), rows=rows)


def with_new(old, new):
    "The old rows, those that were run anew in their places, and new ones."
    rows = {(row["rule"], row["setting"]): row for row in old["rows"]}
    rows |= {(row["rule"], row["setting"]): row for row in new["rows"]}
    return list(rows.values())


def main():
    ask = argparse.ArgumentParser(description="See the head of this file.")
    ask.add_argument("what", choices=["rules", "long", "table"])
    ask.add_argument("--rounds", type=int, default=8)
    ask.add_argument("--only", default="", help="rules that begin so")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--cache", help="folder with (or for) the downloaded text")
    a = ask.parse_args()
    if a.what == "table":
        parts = {
            p.stem: json.loads(p.read_text()) for p in PARTS.glob("*.json")
        }
        target = LIB / "results" / "calls.json"
        return write_atomically(target, json.dumps(parts, indent=1) + "\n")
    torch.set_num_threads(1)
    work = dict(rules=run_rules, long=run_long)[a.what]
    found, target = work(a, protocol.corpus(a)), PARTS / f"{a.what}.json"
    if a.only and target.exists():
        found["rows"] = with_new(json.loads(target.read_text()), found)
    PARTS.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
