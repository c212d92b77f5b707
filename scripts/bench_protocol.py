"""Protocol P: one tiny network, one text, one amount of compute, for every system of the course. Chapter 18 prints the table.

    python scripts/bench_protocol.py run masked          train and score one system (one thread); --seed, --steps, --cache
    python scripts/bench_protocol.py speed               a training step of each system, alternated in one process
    python scripts/bench_protocol.py count               counts of letters, pairs and triples, scored on the same windows
    python scripts/bench_protocol.py table               put what was run into discrete_diffusion/results/protocol_p.json, in place of older rows

Tiny Shakespeare 90/10, windows of 64, 4 layers, 4 heads, width 128, batch 12, 2,000 steps, no dropout. Scored on all 1,742
disjoint windows of the validation part, 16 independent draws of the noise each, each of the 64 characters paid for.
"""

import argparse
import json
import math
import statistics
import sys
import time

import torch
from house import LIB, ROOT, machine, write_atomically
from torch import nn
from torch.nn import functional as F

from discrete_diffusion.blocks import BlockNet, BlockText
from discrete_diffusion.core import draw
from discrete_diffusion.data import CharTokenizer, load_text, windows
from discrete_diffusion.evaluation import word_share
from discrete_diffusion.flow import FlowMatching
from discrete_diffusion.forward import (
    Absorbing,
    Uniform,
    geometric_schedule,
    linear_schedule,
    polynomial_schedule,
)
from discrete_diffusion.mdlm import MaskedText
from discrete_diffusion.models import count_parameters
from discrete_diffusion.scale import TextD3PM
from discrete_diffusion.sedd import ScoreEntropy, Triples
from discrete_diffusion.training import TrainConfig, fit, write_tensors
from discrete_diffusion.transformer import (
    NextLetter,
    TextNet,
    letter_frequencies,
    text_optimizers,
    train_text,
)

PARTS = ROOT / "runs" / "protocol_p"
STEPS, BATCH, LENGTH, DRAWS = 2000, 12, 64, 16
LIMITS = {
    "masked": 3.05,
    "score_uniform": 3.45,
}  # bits per character after STEPS
MOST_PARAMETERS = 1.3e6


class GPT(nn.Module):
    "The yardstick: nanoGPT's architecture in its CPU configuration (LayerNorm, learned positions, GELU, tied embedding)."

    causal = True

    def __init__(self, K, width=128, heads=4, depth=4, length=LENGTH):
        super().__init__()
        norm, linear = (
            lambda: nn.LayerNorm(width, bias=False),
            lambda i, o: nn.Linear(i, o, bias=False),
        )
        self.K, self.heads = K, heads
        self.letters, self.places, self.last = (
            nn.Embedding(K + 1, width),
            nn.Embedding(length, width),
            norm(),
        )
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                dict(
                    n1=norm(),
                    qkv=linear(width, 3 * width),
                    out=linear(width, width),
                    n2=norm(),
                    up=linear(width, 4 * width),
                    down=linear(4 * width, width),
                )
            )
            for _ in range(depth)
        )
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(
                    p,
                    std=0.02 / math.sqrt(2 * depth)
                    if name.endswith(("out.weight", "down.weight"))
                    else 0.02,
                )

    def forward(self, x, t=None, y=None):
        B, L = x.shape
        h = self.letters(x) + self.places.weight[:L]
        for b in self.blocks:
            q, k, v = (
                b.qkv(b.n1(h))
                .view(B, L, 3, self.heads, -1)
                .permute(2, 0, 3, 1, 4)
            )
            h = h + b.out(
                F.scaled_dot_product_attention(q, k, v, is_causal=True)
                .transpose(1, 2)
                .reshape(B, L, -1)
            )
            h = h + b.down(F.gelu(b.up(b.n2(h))))
        return F.linear(self.last(h), self.letters.weight[: self.K])


def gpt_optimizers(net):
    "As nanoGPT: decay on matrices only."
    matrices, vectors = (
        [p for p in net.parameters() if (p.ndim == 2) == wanted]
        for wanted in (True, False)
    )
    return [
        torch.optim.AdamW(
            [
                dict(params=matrices, weight_decay=0.1),
                dict(params=vectors, weight_decay=0.0),
            ],
            lr=1e-3,
            betas=(0.9, 0.99),
        )
    ]


# name -> (what the table calls it, the system, what is special about its network). The flow minimises the loss of score_uniform,
# so that it is trained with it: one network, two processes, two bounds, two samplers.
def systems(K):
    uniform, masks = (
        Uniform(K, polynomial_schedule(1.5)),
        Absorbing(K, linear_schedule()),
    )
    return {
        "gpt": ("next letter, GPT as in nanoGPT", NextLetter(K), None),
        "next_letter": (
            "next letter, this network",
            NextLetter(K),
            dict(N=K + 1, causal=True),
        ),
        "masked": (
            "masked diffusion, no time",
            MaskedText(masks),
            dict(N=K + 1),
        ),
        "blocks_1": (
            "blocks of 1 letter",
            BlockText(masks, 1),
            dict(block=1),
        ),
        "blocks_4": (
            "blocks of 4 letters, masked inside",
            BlockText(masks, 4),
            dict(block=4),
        ),
        "blocks_16": (
            "blocks of 16 letters, masked inside",
            BlockText(masks, 16),
            dict(block=16),
        ),
        "blocks_64": (
            "one block of 64 letters, masked inside",
            BlockText(masks, 64),
            dict(block=64),
        ),
        "d3pm_absorbing": (
            "D3PM, absorbing, T = 1,000",
            TextD3PM(masks, T=1000),
            dict(N=K + 1, time=True),
        ),
        "score_absorbing": (
            "score entropy, absorbing",
            ScoreEntropy(masks, head="score"),
            dict(N=K + 1, outputs=K + 1),
        ),
        "score_uniform": (
            "score entropy, uniform, by way of x_0",
            ScoreEntropy(uniform, head="loo"),
            dict(N=K, time=True),
        ),
        "flow": ("flow matching, uniform source", FlowMatching(uniform), None),
        "score_published": (
            "score entropy, uniform, log-score head",
            ScoreEntropy(Uniform(K, geometric_schedule()), head="score"),
            dict(N=K, time=True),
        ),
        "d3pm_uniform": (
            "D3PM, uniform, T = 1,000",
            TextD3PM(uniform, T=1000),
            dict(N=K, time=True),
        ),
    }


def build(name, K, tokens, seed):
    "The system and its fresh network."
    label, system, special = systems(K)[name]
    torch.manual_seed(seed)
    if name == "gpt":
        return label, system, GPT(K)
    frequencies = letter_frequencies(tokens, K)
    if name == "score_absorbing":
        frequencies = F.pad(frequencies, (0, 1))
    if name == "score_published":
        frequencies = None
    if isinstance(system, BlockText):
        net = BlockNet(K, depth=4, frequencies=frequencies, **special)
        return label, system, net
    return label, system, TextNet(K, frequencies=frequencies, **special)


def corpus(a):
    text = load_text("tinyshakespeare", cache=a.cache, progress=False)
    tokenizer = CharTokenizer(text.train + text.held)
    return (
        text,
        tokenizer,
        tokenizer.encode(text.train),
        tokenizer.encode(text.held),
    )


def run(a):
    torch.set_num_threads(1)
    text, tokenizer, train, held = corpus(a)
    label, system, net = build(a.name, tokenizer.K, train, a.seed)
    wall, cpu = time.perf_counter(), time.process_time()
    if a.name == "gpt":
        config = TrainConfig(
            steps=a.steps,
            batch_size=BATCH,
            lr=1e-3,
            warmup=0.05,
            final_lr_frac=0.1,
            clip=1.0,
            ema=0.0,
            seed=a.seed,
        )
        fit(
            net,
            system.loss,
            windows(train, LENGTH),
            config,
            noise=lambda x, g: system.noise(x, g),
            optimizers=gpt_optimizers(net),
            progress=False,
        )
        net.eval()
    else:
        train_text(
            net,
            system,
            train,
            a.steps,
            BATCH,
            LENGTH,
            seed=a.seed,
            progress=False,
        )
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    PARTS.mkdir(parents=True, exist_ok=True)
    write_tensors(
        PARTS / f"{a.name}-{a.steps}-{a.seed}.safetensors",
        net.state_dict(),
        dict(label=label),
    )
    score(a, label, system, net, tokenizer, text, held, wall, cpu)
    if a.name == "score_uniform":
        a.name = "flow"
        label, system, _ = systems(tokenizer.K)["flow"]
        score(a, label, system, net, tokenizer, text, held, wall, cpu)


def score(a, label, system, net, tokenizer, text, held, wall, cpu):
    "Bound and samples of a trained network, to a file."
    x, g = windows(held, LENGTH, LENGTH), torch.Generator().manual_seed(1)
    autoregressive = isinstance(system, NextLetter)
    bits = (
        system.bits(net, x)
        if autoregressive
        else system.bits(net, x, passes=DRAWS, generator=g)
    )
    letter_by_letter = autoregressive or isinstance(system, BlockText)
    out = (  # as many steps as letters, where the system does not decide
        system.sample(net, (50, LENGTH), generator=g)
        if letter_by_letter
        else system.sample(net, (50, LENGTH), LENGTH, generator=g)
    )
    samples = tokenizer.decode(out.x)
    share, error = word_share(samples, text.train)
    part = dict(
        name=a.name,
        label=label,
        seed=a.seed,
        steps=a.steps,
        parameters=count_parameters(net),
        bits=bits.total,
        stderr_data=bits.stderr_data,
        stderr_draws=getattr(bits, "stderr", 0.0),
        windows=bits.items,
        draws=getattr(bits, "passes", 1),
        train_seconds=wall,
        train_cpu_seconds=cpu,
        calls=out.calls,
        sample_seconds=out.seconds,
        words=share,
        words_stderr=error,
        sample=samples[0],
        machine=machine(),
    )
    write_atomically(
        PARTS / f"{a.name}-{a.steps}-{a.seed}.json", json.dumps(part, indent=1)
    )
    print(
        f"{label}: {bits}; {wall:.0f} s ({cpu:.0f} s of processor), words {share:.1%} +- {error:.1%}, {out.calls} calls, {out.seconds:.1f} s\n{samples[:5]}",
        flush=True,
    )


def speed(a):
    "Milliseconds of processor for a training step, every system in turn, so that a slow moment hits all alike."
    torch.set_num_threads(1)
    _, tokenizer, train, _ = corpus(a)
    x, rows = windows(train, LENGTH), {}
    for name in [n for n in systems(tokenizer.K) if n != "flow"]:
        _, system, net = build(name, tokenizer.K, train, 0)
        rows[name] = (
            system,
            net,
            gpt_optimizers(net) if name == "gpt" else text_optimizers(net),
            [],
        )
    for i in range(a.rounds + 3):
        g = torch.Generator().manual_seed(i)
        batch = x[torch.randint(len(x), (BATCH,), generator=g)]
        for system, net, optimizers, took in rows.values():
            start = time.process_time()
            loss = system.loss(net, *system.noise(batch, g))["loss"].mean()
            for o in optimizers:
                o.zero_grad()
            loss.backward()
            for o in optimizers:
                o.step()
            if i >= 3:
                took.append(1e3 * (time.process_time() - start))
    reference = rows["next_letter"][3]
    found = {}
    for name, (*_, took) in rows.items():
        ratios = [t / r for t, r in zip(took, reference, strict=True)]
        found[name] = dict(
            milliseconds=statistics.median(took),
            fastest=min(took),
            ratio=statistics.median(ratios),
            ratio_quartiles=statistics.quantiles(ratios, n=4)[::2],
        )
    PARTS.mkdir(parents=True, exist_ok=True)
    write_atomically(
        PARTS / "speed.json",
        json.dumps(
            dict(rounds=a.rounds, machine=machine(), steps=found), indent=1
        ),
    )
    for name, f in found.items():
        print(
            f"{name:18s} {f['milliseconds']:7.1f} ms, {f['ratio']:.2f} of the autoregressive step (quartiles {f['ratio_quartiles'][0]:.2f}, {f['ratio_quartiles'][1]:.2f})"
        )


COUNTS = ("counts of single letters", "counts of pairs", "counts of triples")


def laws_of(tokens, K):
    "For 0, 1 and 2 letters before: the law of the next one, (K,) * (n + 1)."
    noise = Uniform(K, linear_schedule())  # plays no part in the counts
    counts = Triples(tokens, noise, dtype=torch.float64)
    return counts.one, counts.two, counts.three.transpose(0, 1)


def count_nats(laws, x, before):
    "-log p of each text, (items,), where a letter sees at most `before` letters."
    nats = torch.zeros(len(x), dtype=torch.float64)
    for i in range(x.shape[1]):
        n = min(i, before)
        nats -= laws[n][tuple(x[:, i - n : i + 1].T)].log()
    return nats


def count_sample(laws, shape, before, generator):
    "Texts written letter by letter."
    x = torch.zeros(shape, dtype=torch.int64)
    for i in range(shape[1]):
        n = min(i, before)
        law = laws[n][tuple(x[:, i - n : i].T)].expand(shape[0], -1)
        x[:, i] = draw(law, generator)
    return x


def count(a):
    "The rows below every network: chapter 14's `Triples`, and its shorter contexts."
    text, tokenizer, train, held = corpus(a)
    laws, x = laws_of(train, tokenizer.K), windows(held, LENGTH, LENGTH)
    rows = []
    for before, label in enumerate(COUNTS):
        bits = count_nats(laws, x, before) / LENGTH / math.log(2)
        g = torch.Generator().manual_seed(1)
        out = count_sample(laws, (50, LENGTH), before, g)
        share, error = word_share(tokenizer.decode(out), text.train)
        rows.append(
            dict(
                name=f"counts_{before + 1}",
                label=label,
                numbers=tokenizer.K ** (before + 1),
                bits=bits.mean().item(),
                stderr_data=bits.std().item() / len(x) ** 0.5,
                windows=len(x),
                words=share,
                words_stderr=error,
                sample=tokenizer.decode(out)[0],
            )
        )
        print(f"{label}: {rows[-1]['bits']:.3f} bits, words {share:.1%}")
    PARTS.mkdir(parents=True, exist_ok=True)
    write_atomically(PARTS / "counts.json", json.dumps(rows, indent=1))


def beyond(parts):
    "What a table would show that the course has promised not to."
    said = []
    for p in parts:
        limit = LIMITS.get(p["name"], math.inf)
        if p["steps"] == STEPS and not p["bits"] <= limit:
            said.append(f"{p['label']}: {p['bits']:.3f} bits, at most {limit}")
        if p["parameters"] > MOST_PARAMETERS:
            said.append(f"{p['label']}: {p['parameters']:,} parameters")
    return said


def gathered(target):
    "Rows of the table that there is; a row that was run anew takes its place."
    old = json.loads(target.read_text()) if target.exists() else {}
    new = [json.loads(p.read_text()) for p in sorted(PARTS.glob("*-*.json"))]
    rows = {
        (row["name"], row["steps"], row["seed"]): row
        for row in [*old.get("runs", []), *new]
    }
    beside = {}
    for what in ("counts", "speed"):
        file = PARTS / f"{what}.json"
        there = file.exists()
        beside[what] = json.loads(file.read_text()) if there else old.get(what)
    return list(rows.values()), beside


def table(a):
    target = LIB / "results" / "protocol_p.json"
    parts, beside = gathered(target)
    order = list(systems(65))
    parts.sort(key=lambda p: (order.index(p["name"]), -p["steps"], p["seed"]))
    said = beyond(parts)
    if said:
        sys.exit("Nothing was written. " + "; ".join(said))
    target.parent.mkdir(exist_ok=True)
    write_atomically(
        target,
        json.dumps(
            dict(
                protocol=__doc__.strip().splitlines()[-2:],
                runs=parts,
                **beside,
            ),
            indent=1,
        )
        + "\n",
    )
    for p in parts:
        print(
            f"{p['label']:42s} {p['steps']:5d} steps  seed {p['seed']}  {p['bits']:.3f} +- {p['stderr_data']:.3f} bits/char  words {p['words']:.0%}"
        )


if __name__ == "__main__":
    ask = argparse.ArgumentParser(
        description="Protocol P: see the head of this file."
    )
    ask.add_argument("what", choices=["run", "speed", "count", "table"])
    ask.add_argument("name", nargs="?", choices=list(systems(65)))
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--steps", type=int, default=STEPS)
    ask.add_argument("--rounds", type=int, default=40)
    ask.add_argument("--cache", help="folder with (or for) the downloaded text")
    a = ask.parse_args()
    if a.what == "run" and not a.name:
        sys.exit("Say which system: " + ", ".join(systems(65)))
    dict(run=run, speed=speed, count=count, table=table)[a.what](a)
