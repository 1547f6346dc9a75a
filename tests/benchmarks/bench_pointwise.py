"""Layer norm and GELU in a row, by torch's own kernels and compiled by torch.compile, in one run.

    python tests/benchmarks/bench_pointwise.py [--rounds 7] [--device cpu|cuda] [--threads N]

They follow every convolution of Data2Vec's front end; the input here is that of a clip of 4.3 s. Lengths vary from clip to clip, so the
chain is compiled for any length (dynamic shapes). On a CPU that needs a C++ compiler.
"""

import argparse
import time
from collections.abc import Callable

import torch
from timing import in_turns, spread
from torch import Tensor
from torch.nn import functional

from pipeline.encoding import cpu

FRAMES, CHANNELS = 13_439, 512  # behind the first convolution


def norm_and_gelu(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return functional.gelu(functional.layer_norm(hidden, (hidden.shape[-1],), weight, bias))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cpu.keep_freed_memory()
    print(f"{'norm and GELU in':<20}{'eager ms':>20}{'compiled ms':>20}{'faster':>8}{'to compile s':>14}")
    for dtype in (torch.float32, torch.bfloat16):
        hidden = torch.randn(1, FRAMES, CHANNELS, device=options.device, dtype=dtype)
        parameters = torch.ones_like(hidden[0, 0]), torch.zeros_like(hidden[0, 0])
        compare(str(dtype).removeprefix("torch."), norm_and_gelu, (hidden, *parameters), options)


def compare(name: str, chain: Callable[..., Tensor], inputs: tuple[Tensor, ...], options: argparse.Namespace) -> None:
    compiled = torch.compile(chain, dynamic=True)
    with torch.inference_mode():
        begin = time.perf_counter()
        found = compiled(*inputs)
        seconds = time.perf_counter() - begin
        is_short = found.dtype == torch.bfloat16  # compiled, it is rounded once less
        torch.testing.assert_close(found, chain(*inputs), **({"atol": 0.02, "rtol": 0.02} if is_short else {"atol": 1e-5, "rtol": 0}))
        ways = {"eager": lambda: chain(*inputs), "compiled": lambda: compiled(*inputs)}
        times = in_turns(ways, options.rounds, options.device, repeats=5)
    milliseconds = {way: [1000 * one for one in values] for way, values in times.items()}
    ratio = sorted(times["eager"])[len(times["eager"]) // 2] / sorted(times["compiled"])[len(times["compiled"]) // 2]
    print(f"{name:<20}{spread(milliseconds['eager'], 2):>20}{spread(milliseconds['compiled'], 2):>20}{ratio:>7.2f}×{seconds:>14.1f}")


if __name__ == "__main__":
    main()
