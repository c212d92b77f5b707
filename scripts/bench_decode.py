"""Quality against calls: samplers that reveal letters, on many texts.

    python scripts/bench_decode.py [texts [sampler]]

The shipped `masked` network writes windows of 64 letters (208 unless told
otherwise). For each sampler: network calls a text, the price of as many
held-out windows of the plays in bits a letter (`priced`: an upper bound for
random places, the number itself for rules without coins), and, for as many
samples, the share of known words and the bits under the shipped next-letter
network. Behind each number its standard error over texts. One seed. With the
name of a sampler, such as "threshold 0.9", that one alone.
"""

import math
import sys
import time
from functools import partial

import torch

from discrete_diffusion.core import seed_everything
from discrete_diffusion.data import CharTokenizer, load_text, windows
from discrete_diffusion.decode import (
    apart,
    at_random,
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


def samplers(generator):
    "Moves by name, those first that matter most."

    def scheduled(choose, calls):
        steps = [reveal(choose(L // calls, generator))] * calls
        return in_turn(steps)

    def always(rule):
        return in_turn([reveal(rule)] * L)

    return {
        "random 8": scheduled(at_random, 8),
        "apart 8": scheduled(apart, 8),
        "random 16": scheduled(at_random, 16),
        "apart 16": scheduled(apart, 16),
        "bounded, eps 5": always(partial(entropy_bounded, eps=5.0)),
        "one by one": scheduled(at_random, L),
        "bounded, eps 0.5": always(partial(entropy_bounded, eps=0.5)),
        "apart 4": scheduled(apart, 4),
        "threshold 0.9": always(partial(surer_than, threshold=0.9)),
    }


def in_parts(net, size=26):
    "The network, asked about so many texts at a time: twice as fast on a CPU."
    return lambda x, t, y=None: torch.cat([net(part) for part in x.split(size)])


def with_error(each):
    "Mean and standard error, as text."
    each = each.double()
    error = each.std().item() / len(each) ** 0.5
    return f"{each.mean().item():.3f} +- {error:.3f}"


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


def main(texts, only=None):
    torch.set_num_threads(1)
    generator = seed_everything(0)
    trained, plays = load_pretrained("masked"), load_text("plays")
    letters = CharTokenizer(trained.notes["alphabet"])
    kernel = Absorbing(trained.net.K, linear_schedule())
    net = in_parts(trained.net)
    held = windows(letters.encode(plays.held), L, L)
    pages = held[:: len(held) // texts][:texts]
    judge, price = Judge(letters, plays), {}
    print(
        f"{texts} texts of {L} letters, torch {torch.__version__}, one thread"
    )
    print("real text:", as_line(judge(pages)), flush=True)
    chosen = samplers(generator)
    if only is not None:
        chosen = {only: chosen[only]}
    for name, moves in chosen.items():
        begun = time.process_time()
        nats, calls = priced(net, kernel, pages, moves)
        price[name] = nats / L / math.log(2)
        out = sample(
            net,
            kernel,
            (texts, L),
            moves,
            reads="full",
            generator=generator,
        )
        line = f"calls {calls.double().mean():4.1f}  price "
        line += f"{with_error(price[name])}  {as_line(judge(out.x))}"
        seconds = time.process_time() - begun
        print(f"{name:16} {line}  ({seconds:.0f} s)", flush=True)
    if only is None:
        compare(price)


def compare(price):
    "Paired differences of the prices, text by text."
    for one, other in (
        ("random 8", "apart 8"),
        ("random 16", "apart 16"),
        ("one by one", "apart 8"),
        ("one by one", "apart 16"),
        ("bounded, eps 5", "random 16"),
    ):
        paired = with_error(price[one] - price[other])
        print(f"price of {one} less {other}, paired: {paired}")


if __name__ == "__main__":
    texts, *only = sys.argv[1:] or ["208"]
    main(int(texts), *only)
