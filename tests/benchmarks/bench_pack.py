"""Ways to train several runs together: forward and backward of one UniTSE block of every run, with dropout, in one run.

    python tests/benchmarks/bench_pack.py [--runs 1 4 8] [--rounds 5] [--device cpu|cuda] [--compiled]

one after another: a module a run. vmap: `torch.func`, what heads.training.packed_engine does. written out: the same block with a run
dimension in every product, by hand. compiled: vmap below torch.compile (minutes to compile). captured: vmap in a CUDA graph, on
a GPU. All ways have the same parameters and give the same loss, which is checked. Sizes: `light` (batch 32, d 256, 75 steps,
rank 16) and the paper's (batch 8, d 768, 200 steps, rank 64).
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from timing import in_turns, launches, spread
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional

from data.reporting.tables import aligned
from heads.models.mixtures.unitse import UniTSEBlock, UniTSEOptions
from heads.models.parts.experts import ranking
from heads.models.parts.randomness import drawing_from

TASKS = ("msa", "mer")


class Size(NamedTuple):
    """One block on one batch a run."""

    batch: int
    steps: int
    dim: int
    rank: int


SIZES = {"light": Size(32, 75, 256, 16), "paper-mosi": Size(8, 200, 768, 64)}


class Case:
    """Runs with data of their own."""

    def __init__(self, size: Size, runs: int, device: str) -> None:
        options = UniTSEOptions(rank=size.rank, task_rank=size.rank, top_k=8, dropout=0.1)
        torch.manual_seed(0)
        self.blocks = [UniTSEBlock(options, size.dim, TASKS).to(device) for _ in range(runs)]
        self.inputs = torch.randn(runs, size.batch, size.steps, size.dim, device=device)
        self.mask = torch.ones(runs, size.batch, size.steps, dtype=torch.bool, device=device)
        self.keys = torch.arange(runs, device=device)
        self.parameters, self.buffers = stack_module_state(self.blocks)
        self.template = copy.deepcopy(self.blocks[0]).to("meta")

    def one_after_another(self) -> Tensor:
        """Losses (K,) and their gradients."""
        losses = []
        for block, inputs, mask, key in zip(self.blocks, self.inputs, self.mask, self.keys, strict=True):
            with drawing_from(key):
                loss = _loss(block(dict.fromkeys(TASKS, inputs), mask)[0])
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses)

    def stacked(self) -> Tensor:
        """The same by vmap."""
        losses = vmap(self._one)(self.parameters, self.buffers, self.inputs, self.mask, self.keys)
        losses.sum().backward()
        return losses.detach()

    def _one(self, parameters: Any, buffers: Any, inputs: Tensor, mask: Tensor, key: Tensor) -> Tensor:
        with drawing_from(key):
            streams, _ = functional_call(self.template, (parameters, buffers), (dict.fromkeys(TASKS, inputs), mask))
        return _loss(streams)

    def written_out(self) -> Tensor:
        """The same with a run dimension in every product."""
        own = self.parameters
        padded = functional.pad(self.inputs, (0, 0, 1, 1))
        seen = torch.cat([padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]], -1)
        hidden = _product(seen, own["shared.down"], own["shared.down_bias"])
        streams = {}
        for task in TASKS:
            gates = self._gates(task)
            rank = hidden.shape[-1] // gates.shape[-1]
            scaled = hidden * gates.repeat_interleave(rank, -1).unsqueeze(2)
            mixed = _product(scaled, own["shared.up"]) + (gates @ own["shared.up_bias"]).unsqueeze(2)
            alone = _product(seen, own[f"own.{task}.down"], own[f"own.{task}.down_bias"])
            mixed = mixed + _product(alone, own[f"own.{task}.up"]) + own[f"own.{task}.up_bias"].unsqueeze(1)
            streams[task] = mixed
        dropped = {task: vmap(self._dropped, in_dims=(0, 0, None))(value, self.keys, task) for task, value in streams.items()}
        losses = torch.stack([value.square().mean((1, 2, 3)) for value in dropped.values()]).sum(0)
        losses.sum().backward()
        return losses.detach()

    def _gates(self, task: str) -> Tensor:
        own, name = self.parameters, f"routers.{task}"
        narrow = _product(self.inputs, own[f"{name}.steps.0.weight"], own[f"{name}.steps.0.bias"])
        steps = functional.gelu(functional.layer_norm(narrow, narrow.shape[-1:]))
        pooled = _product(steps, own[f"{name}.steps.3.weight"], own[f"{name}.steps.3.bias"]).mean(2)
        logits = torch.baddbmm(own[f"{name}.project.bias"].unsqueeze(1), pooled, own[f"{name}.project.weight"].transpose(1, 2))
        gates = logits.softmax(-1)
        return gates * (ranking(gates) < 8)

    def _dropped(self, values: Tensor, key: Tensor, task: str) -> Tensor:
        with drawing_from(key + TASKS.index(task)):  # a block numbers its draws, one a task
            return self.blocks[0].dropout(values)


def _product(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(K, B, T, d), (K, o, d), (K, o) → (K, B, T, o)"""
    flat = inputs.flatten(1, 2)
    product = torch.bmm(flat, weight.mT) if bias is None else torch.baddbmm(bias.unsqueeze(1), flat, weight.mT)
    return product.unflatten(1, inputs.shape[1:3])


def _loss(streams: dict[str, Tensor]) -> Tensor:
    return torch.stack([value.square().mean() for value in streams.values()]).sum()


def captured(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A step as a CUDA graph."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        losses = step()

    def replay() -> Tensor:
        graph.replay()
        return losses

    return replay


def ways(case: Case, device: str, is_compiled: bool) -> dict[str, Callable[[], Tensor]]:
    """What is compared."""
    found = {"one after another": case.one_after_another, "vmap": case.stacked, "written out": case.written_out}
    if is_compiled:
        found["vmap, compiled"] = torch.compile(case.stacked)
    if device != "cpu":
        found["vmap, captured"] = captured(case.stacked)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args()
    rows = []
    for name, size in SIZES.items():
        for runs in options.runs:
            case = Case(size, runs, options.device)
            found = ways(case, options.device, options.compiled)
            for way in found.values():
                torch.testing.assert_close(way(), case.one_after_another(), rtol=1e-3, atol=1e-5)
            times = in_turns(found, options.rounds, options.device)
            base = statistics.median(times["one after another"])
            for way, values in times.items():
                median = statistics.median(values)
                count = str(launches(found[way])) if options.device != "cpu" else "–"
                cells = [spread([1000 * value for value in values], 0), f"{1000 * median / runs:.0f}", f"{base / median:.2f}×", count]
                rows.append([name, str(runs), way, *cells])
    print(aligned(rows, ["size", "runs", "way", "ms a step", "ms a run", "against one after another", "launches"], left=3))


if __name__ == "__main__":
    main()
