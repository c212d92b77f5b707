"""Chapter 24's masked network on one GPU: speed, share of the peak, and bits.

    python benchmarks/scale/gpu.py [--data tinyshakespeare.txt] [--steps 2000]
                                   [--peak 989] [--width 128]

Trains the masked system (characters, 12 windows of 64) in bfloat16, first as it
is, then compiled: on the plays, or on the text of protocol P if its file is
given. Prints tokens a second after the first 50 steps, which share of the peak
that is (`--peak`: teraflops a second of the card in bfloat16, from its data
sheet; known for some), and the bound on held-out windows, on the GPU and again
on the CPU in float32, with the same draws. They may differ by .01 bits, by
rounding; more ends the script with an error. Ten minutes at most on a GPU.

Has been run on a CPU, to see that it runs. It has not met a GPU.
"""

import argparse
import tempfile
import time

import torch

from discrete_diffusion.data import windows
from discrete_diffusion.scale import RunConfig, build, predict, prepare
from discrete_diffusion.training import fit
from discrete_diffusion.transformer import letter_frequencies, text_optimizers

FIRST = 50  # steps that are not timed
APART = 0.01  # bits a token that rounding on another device may change
PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "T4": 65}


def trained(config, rows, K, frequencies, compiled):
    "The network, its system and the seconds of the steps after the first."
    net, system = build(config, K, frequencies)
    net.to("cuda" if torch.cuda.is_available() else "cpu")
    run = torch.compile(net) if compiled else net
    marks = []

    def noise(x, generator):
        marks.append(time.perf_counter())
        return system.noise(x.long(), generator)

    fit(
        run,
        system.loss,
        rows,
        config.training(),
        noise=noise,
        optimizers=text_optimizers(net),
        progress=False,
    )
    first = min(FIRST, len(marks) // 2)
    return (
        net.eval(),
        system,
        (marks[-1] - marks[first]) / (len(marks) - 1 - first),
    )


def bits(system, net, held):
    "The bound, with the same draws wherever the network is."
    draws = torch.Generator().manual_seed(0)
    home = next(net.parameters()).device
    return system.bits(net, held.to(home), passes=4, generator=draws)


def peak_of_card():
    "Teraflops a second in bfloat16 (T4: float16), dense; None if not known."
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name()
    return next((v for card, v in PEAKS.items() if card in name), None)


def main():
    ask = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ask.add_argument("--data", default="plays", help="or a text's path")
    ask.add_argument("--steps", type=int, default=2000)
    ask.add_argument("--peak", type=float, help="teraflops a second, bfloat16")
    ask.add_argument("--width", type=int, default=128)
    ask.add_argument("--limit", type=int, default=0, help="tokens")
    said = ask.parse_args()
    peak = said.peak or peak_of_card()
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(
            "masked",
            folder,
            data=said.data,
            width=said.width,
            steps=said.steps,
            limit=said.limit,
            precision="bf16",
        )
        tokens, vocabulary = prepare(config)
        cut = int(0.9 * len(tokens))
        rows = windows(tokens[:cut], config.length)
        held = windows(tokens[cut:], config.length, config.length).long()
        held = held[:: max(1, len(held) // 256)]
        frequencies = letter_frequencies(tokens[:cut], vocabulary.K)
        cost = predict(config, vocabulary.K)
        for compiled in (False, True):
            net, system, seconds = trained(
                config, rows, vocabulary.K, frequencies, compiled
            )
            made = config.batch_size * config.length / seconds
            rate = cost.flops / seconds / 1e12
            share = f", {rate / peak:.1%} of the peak" if peak else ""
            here, cpu = bits(system, net, held), bits(system, net.cpu(), held)
            print(
                f"{'compiled' if compiled else 'as it is'}: "
                f"{made:,.0f} tokens a second, {rate:.2f} teraflops a second"
                f"{share}; at most {here.total:.4f} bits (on the CPU "
                f"{cpu.total:.4f}, standard error {cpu.stderr_data:.4f})"
            )
            if abs(here.total - cpu.total) > APART:
                raise SystemExit(f"the two bounds differ by more than {APART}")


if __name__ == "__main__":
    main()
