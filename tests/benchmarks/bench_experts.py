"""The shared experts of a UniTSE block in one pass, and in a loop over experts: forward and backward, in one run.

    python tests/benchmarks/bench_experts.py [--rounds 5] [--device cpu|cuda] [--precision float32 bfloat16]

15 experts, the 8 best gates of each utterance. The loop has two Conv1d modules an expert, as the paper describes them. With two tasks,
block 1 gives both tasks the same input: ours computes the experts' first convolution once; the loop runs every expert for each task,
or, as `loop, experts once`, runs it once and weighs its output for both. In block 2 every task has an input of its own. All ways have
the same weights. GFLOP/s and the part of the measured peak are of the work that ours needs, for all ways. On a GPU ours is also
compiled and captured in a CUDA graph, and launches of a step are counted.
"""

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from timing import in_turns, launches, peak_gflops, spread
from torch import Tensor, nn

from data.reporting.tables import aligned
from heads.evaluation.predictions import autocast
from heads.models.parts.experts import LowRankExperts, TopK, windows

EXPERTS, TOP_K = 15, 8
CASES = {"one task": (0,), "two tasks, block 1": (0, 0), "two tasks, block 2": (0, 1)}
"""What is measured → for each task, which of the inputs it reads."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Forward = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]
"""An input (B, T, d) and gates (B, N) for each task → (B, T, d) for each."""


@dataclass(frozen=True)
class Size:
    """One block on one batch."""

    batch: int
    steps: int
    dim: int
    rank: int

    def gflop(self, case: str) -> float:
        """Work of forward and backward: every product, and its two in the backward pass, what tasks share counted once."""
        tasks = CASES[case]
        first, second = 3 * len(set(tasks)), len(tasks)  # kernels of 3 and of 1
        return 3 * 2 * self.batch * self.steps * self.dim * EXPERTS * self.rank * (first + second) / 1e9


SIZES = (Size(8, 200, 768, 128), Size(8, 20, 768, 128), Size(8, 200, 256, 32))


class ExpertLoop(nn.Module):
    """Experts as modules of their own, D → r of kernel 3 and r → D of kernel 1."""

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        experts = (nn.Sequential(nn.Conv1d(dim, rank, 3, padding=1), nn.Conv1d(rank, dim, 1)) for _ in range(EXPERTS))
        self.experts = nn.ModuleList(experts)

    def forward(self, inputs: Tensor, gates: Sequence[Tensor]) -> list[Tensor]:
        """(B, T, d) and the gates (B, N) of every task that reads it → their sums (B, T, d)."""
        channels_first = inputs.transpose(1, 2)
        totals: list[Tensor | float] = [0.0] * len(gates)
        for number, expert in enumerate(self.experts):
            output = expert(channels_first)
            totals = [total + weights[:, number, None, None] * output for total, weights in zip(totals, gates, strict=True)]
        return [total.transpose(1, 2) for total in totals]


def packed(experts: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Weights, or gradients, of the loop's experts as `LowRankExperts` has them."""
    down, down_bias, up, up_bias = zip(*experts, strict=True)
    down = torch.cat([weight.transpose(1, 2).flatten(1) for weight in down])
    return [down, torch.cat(down_bias), torch.cat([weight.squeeze(-1) for weight in up], 1), torch.stack(up_bias)]


class Work(NamedTuple):
    """What every way computes."""

    inputs: list[Tensor]  # (B, T, d), one a task; the same tensor for tasks that share it
    gates: list[Tensor]  # (B, N), one a task
    cotangents: list[Tensor]  # (B, T, d), one a task

    @classmethod
    def random(cls, size: Size, case: str, device: str) -> "Work":
        torch.manual_seed(1)
        select, tasks = TopK(EXPERTS, TOP_K), CASES[case]
        streams = [torch.randn(size.batch, size.steps, size.dim, device=device, requires_grad=True) for _ in set(tasks)]
        gates = [select(torch.randn(size.batch, EXPERTS)).to(device).requires_grad_() for _ in tasks]
        return cls([streams[number] for number in tasks], gates, [torch.randn_like(streams[0]) for _ in tasks])

    def leaves(self) -> list[Tensor]:
        return [*{id(inputs): inputs for inputs in self.inputs}.values(), *self.gates]


def ways(loop: ExpertLoop, experts: LowRankExperts, work: Work) -> dict[str, Forward]:
    """The forward passes to compare; ours first."""
    mask = torch.ones(work.inputs[0].shape[:2], dtype=torch.bool, device=work.inputs[0].device)

    def ours(inputs: Sequence[Tensor], gates: Sequence[Tensor]) -> list[Tensor]:
        hidden = {key: experts.hidden(windows(one, mask)) for key, one in {id(one): one for one in inputs}.items()}
        return [experts.mix(hidden[id(one)], weights, mask) for one, weights in zip(inputs, gates, strict=True)]

    def per_task(inputs: Sequence[Tensor], gates: Sequence[Tensor]) -> list[Tensor]:
        return [loop(one, [weights])[0] for one, weights in zip(inputs, gates, strict=True)]

    found: dict[str, Forward] = {"ours": ours, "loop, per task": per_task}
    if len(work.inputs) > 1 and work.inputs[0] is work.inputs[1]:
        found["loop, experts once"] = lambda inputs, gates: loop(inputs[0], gates)
    return found


def step(forward: Forward, work: Work, parameters: Sequence[Tensor], precision: str) -> tuple[list[Tensor], Sequence[Tensor]]:
    """Outputs, and gradients of inputs, gates and parameters."""
    with autocast(work.inputs[0].device, precision):
        outputs = forward(work.inputs, work.gates)
    cotangents = [cotangent.to(output.dtype) for cotangent, output in zip(work.cotangents, outputs, strict=True)]
    return outputs, torch.autograd.grad(outputs, [*work.leaves(), *parameters], cotangents)


def captured(run: Callable[[], object]) -> Callable[[], None]:
    """The same as a CUDA graph: all its kernels in one launch."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def difference(ours: Sequence[Tensor], loop: Sequence[Tensor]) -> float:
    """Largest difference of a tensor, relative to its largest value."""
    pairs = [(a.detach().float(), b.detach().float()) for a, b in zip(ours, loop, strict=True)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def same_experts(size: Size, device: str) -> tuple[ExpertLoop, LowRankExperts]:
    """Both, with the same weights."""
    torch.manual_seed(0)
    loop, experts = ExpertLoop(size.dim, size.rank), LowRankExperts(size.dim, [size.rank] * EXPERTS)
    with torch.no_grad():
        for mine, theirs in zip(experts.parameters(), packed([list(e.parameters()) for e in loop.experts]), strict=True):
            mine.copy_(theirs)
    return loop.to(device), experts.to(device)


def compare(size: Size, case: str, device: str, precision: str, extras: bool = True) -> tuple[dict[str, Callable[[], object]], float]:
    """A step of each way, on a GPU also compiled and captured unless without extras, and how far ours is from the loop."""
    loop, experts = same_experts(size, device)
    work = Work.random(size, case, device)
    forwards = ways(loop, experts, work)
    if device != "cpu" and extras:
        torch.compiler.reset()  # each case compiles anew, instead of falling back after a few
        forwards["ours, compiled"] = torch.compile(forwards["ours"])
    parameters = {name: list((experts if name.startswith("ours") else loop).parameters()) for name in forwards}
    steps = {name: partial(step, forward, work, parameters[name], precision) for name, forward in forwards.items()}
    (outputs, gradients), (outputs_loop, gradients_loop) = steps["ours"](), steps["loop, per task"]()
    count = len(work.leaves())
    as_ours = packed([gradients_loop[place : place + 4] for place in range(count, len(gradients_loop), 4)])
    if device != "cpu" and extras:
        steps["ours, captured"] = captured(steps["ours"])
    return steps, difference([*outputs, *gradients], [*outputs_loop, *gradients_loop[:count], *as_ours])


def measure(size: Size, case: str, device: str, precision: str, rounds: int, peak: float) -> Iterator[list[str]]:
    """The rows of one case."""
    steps, worst = compare(size, case, device, precision)
    for run in steps.values():
        run()
    times = in_turns(steps, rounds, device, repeats=1 if device == "cpu" else 20)
    base = statistics.median(times["ours"])
    for name, values in times.items():
        median = statistics.median(values)
        rate = size.gflop(case) / median
        cells = [
            case,
            name,
            spread([1e3 * value for value in values], 2),
            f"{median / base:.2f}×",
            f"{rate:,.0f}",
            f"{rate / peak:.0%}",
        ]
        yield [*cells, "" if device == "cpu" else str(launches(steps[name])), f"{worst:.0e}" if name == "ours" else ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--precision", nargs="+", choices=DTYPES, help="default: float32, and on a GPU bfloat16 autocast too")
    options = parser.parse_args()
    device = options.device
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, in convolutions too
    header = ["", "way", "ms (least–most)", "× ours", "GFLOP/s", "of peak", "" if device == "cpu" else "launches", "max |Δ| to loop"]
    for precision in options.precision or (["float32"] if device == "cpu" else list(DTYPES)):
        peak = peak_gflops(device, DTYPES[precision])
        print(f"{precision} on {device}, medians of {options.rounds} rounds; peak of a matrix product {peak:,.0f} GFLOP/s")
        for size in SIZES:
            rows = [row for case in CASES for row in measure(size, case, device, precision, options.rounds, peak)]
            print(f"\nB = {size.batch}, T = {size.steps}, d = {size.dim}, {EXPERTS} experts of rank {size.rank}")
            print(aligned(rows, header, left=2))
        print()


if __name__ == "__main__":
    main()
