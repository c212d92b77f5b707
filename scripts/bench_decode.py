"""Quality against calls: samplers that reveal letters, on many texts.

    python scripts/bench_decode.py [texts]      into results/decode.json

The shipped `masked` network writes windows of 64 letters (208 unless told
otherwise). First the curve of chapter 19 on as many held-out windows of the
plays, and what its best schedules save against even ones, by the staircase and
text by text. Then, for each sampler: network calls a text, the price of the
held-out windows in bits a letter (`priced`: an upper bound for random places,
the number itself for rules without coins), and, for as many samples, the share
of known words, the bits under the shipped next-letter network and the entropy
of pairs of letters. Each with its standard error over texts. One seed, one
thread.
"""

import itertools
import json
import math
import sys
import time
from functools import partial

import torch
from house import LIB, machine, write_atomically

from discrete_diffusion.core import seed_everything, uniforms
from discrete_diffusion.data import CharTokenizer, load_text, windows
from discrete_diffusion.decode import (
    apart,
    at_random,
    best_counts,
    context_cost,
    entropy_bounded,
    in_turn,
    priced,
    reveal,
    surer_than,
)
from discrete_diffusion.evaluation import ngram_entropy, word_share
from discrete_diffusion.forward import Absorbing, linear_schedule
from discrete_diffusion.pretrained import load_pretrained
from discrete_diffusion.sampling import sample
from discrete_diffusion.transformer import NextLetter

L = 64


def samplers(curve, generator):
    "Moves by name."

    def in_steps(choose, counts):
        return in_turn([reveal(choose(k, generator)) for k in counts])

    def always(rule):
        return in_turn([reveal(rule)] * L)

    found = {}
    for calls in (4, 8, 16):
        even, best = [L // calls] * calls, best_counts(curve, calls)
        found[f"random {calls}"] = in_steps(at_random, even)
        found[f"random {calls}, best schedule"] = in_steps(at_random, best)
        found[f"apart {calls}"] = in_steps(apart, even)
    found["one by one"] = in_steps(at_random, [1] * L)
    for eps in (0.5, 5.0):
        found[f"bounded, eps {eps}"] = always(partial(entropy_bounded, eps=eps))
    found["threshold 0.9"] = always(partial(surer_than, threshold=0.9))
    return found


def in_parts(net, size=26):
    "The network, asked about so many texts at a time: twice as fast on a CPU."
    return lambda x, t, y=None: torch.cat([net(part) for part in x.split(size)])


def with_error(each):
    "Mean over texts and its standard error."
    each = each.double()
    return each.mean().item(), each.std().item() / len(each) ** 0.5


def costs_of(net, kernel, pages, generator):
    "One column for each m: what one more letter costs a text, in bits."
    columns = []
    for m in range(L):
        turn = uniforms(pages.shape, generator).argsort(-1).argsort(-1)
        columns.append(context_cost(net, kernel, pages, turn < m))
    return torch.stack(columns, 1) / math.log(2)


class Judge:
    "Words, bits under the next-letter network `ar`, entropy of pairs of letters."

    def __init__(self, letters, text):
        shipped = load_pretrained("ar")
        self.net, self.letters, self.text = shipped.net, letters, text
        self.its = CharTokenizer(shipped.notes["alphabet"])
        self.known = set(shipped.notes["alphabet"])

    def spelled(self, said):
        "With an E for a letter that `ar` does not know."
        return "".join(c if c in self.known else "E" for c in said)

    def __call__(self, x):
        said = self.letters.decode(x)
        again = torch.stack([self.its.encode(self.spelled(s)) for s in said])
        bits = NextLetter(self.its.K).bits(self.net, again)
        words, error = word_share(said, self.text.train)
        return dict(
            words=words,
            words_stderr=error,
            bits=bits.total,
            bits_stderr=bits.stderr_data,
            pairs=ngram_entropy(said),
            text=said[0],
        )


def as_line(judged):
    "What a judge says, in one line."
    line = "words {words:.3f} +- {words_stderr:.3f}"
    return (line + "  ar {bits:.3f} +- {bits_stderr:.3f}").format(**judged)


def curve_rows(costs, other):
    """The curve on these texts, and what its best schedules save there.
    Those are found on the `other` texts: no text takes part in both."""
    found, curve = dict(calls={}), other.mean(0)
    found["curve"] = [with_error(column) for column in costs.T]
    for calls in (4, 8, 16):
        even, best = [L // calls] * calls, best_counts(curve, calls)
        price = {}
        for name, counts in (("even", even), ("best", best)):
            places = list(itertools.accumulate(counts[:-1], initial=0))
            price[name] = costs[:, places] @ torch.tensor(counts).to(costs) / L
        found["calls"][calls] = dict(
            counts=best,
            even=with_error(price["even"]),
            best=with_error(price["best"]),
            saved=with_error(price["even"] - price["best"]),
        )
        print(f"{calls} calls, saved: {found['calls'][calls]['saved']}")
    found["area"] = with_error(costs.mean(1))
    return found


def main(texts):
    torch.set_num_threads(1)
    generator = seed_everything(0)
    trained, plays = load_pretrained("masked"), load_text("plays")
    letters = CharTokenizer(trained.notes["alphabet"])
    kernel = Absorbing(trained.net.K, linear_schedule())
    net = in_parts(trained.net)
    held = windows(letters.encode(plays.held), L, L)
    apart_by = len(held) // texts
    pages = held[::apart_by][:texts]
    other = held[apart_by // 2 :: apart_by][:texts]
    judge, price, rows = Judge(letters, plays), {}, []
    print(f"{texts} texts of {L} letters")
    real = judge(pages)
    print("real text:", as_line(real), flush=True)
    costs = [costs_of(net, kernel, x, generator) for x in (pages, other)]
    schedules = curve_rows(*costs)
    curve = costs[1].mean(0)
    for name, moves in samplers(curve, generator).items():
        begun = time.process_time()
        nats, calls = priced(net, kernel, pages, moves)
        price[name] = nats / L / math.log(2)
        out = sample(
            net, kernel, (texts, L), moves, reads="full", generator=generator
        )
        row = dict(calls=calls.double().mean().item())
        row["price"], row["price_stderr"] = with_error(price[name])
        row |= judge(out.x)
        rows.append(dict(rule=name, **row))
        seconds = time.process_time() - begun
        print(
            f"{name:26} calls {row['calls']:4.1f}  price {row['price']:.3f} "
            f"+- {row['price_stderr']:.3f}  {as_line(row)}  ({seconds:.0f} s)",
            flush=True,
        )
    found = dict(
        texts=texts,
        seed=0,
        machine=machine(),
        real=real,
        rows=rows,
        schedules=schedules,
        paired=compared(price),
    )
    target = LIB / "results" / "decode.json"
    write_atomically(target, json.dumps(found, indent=1) + "\n")


def compared(price):
    "Paired differences of the prices, text by text."
    found = []
    for one, other in (
        ("random 8", "apart 8"),
        ("random 16", "apart 16"),
        ("apart 8", "one by one"),
        ("apart 16", "one by one"),
        ("bounded, eps 5.0", "random 16"),
    ):
        less = with_error(price[one] - price[other])
        found.append(dict(price_of=one, less_that_of=other, bits=less))
        print(f"price of {one} less {other}, paired: {less}")
    return found


if __name__ == "__main__":
    main(int((sys.argv[1:] or ["208"])[0]))
