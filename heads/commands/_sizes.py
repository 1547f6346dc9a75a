"""Sizes of heads and mixtures: parameters and multiply-accumulates, counted on the real modules and not from formulas. They are printed
by `heads.commands.params`. This module imports torch: commands import it in `run`.

The paper says that its low-rank experts have 5.7 times fewer parameters and need 5.9 times fewer operations than a standard MoE,
which saves over 80 %. Here the standard MoE is the same module at rank = width.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from data.errors import InputError
from data.reporting.tables import aligned
from heads.models.inputs import Inputs
from heads.models.mixtures.standard import StandardMoEOptions
from heads.models.mixtures.unitse import UniTSE, UniTSEOptions
from heads.models.mmolre import FamilyOptions, FusionHead, MMoLRE, MMoLREOptions, PostFusion, PreFusion
from heads.models.options import nested, parse_assignments
from heads.models.own import short_name
from heads.models.parts.fusion import CrossModalLayer, FusionOptions
from heads.models.registry import HEADS
from heads.models.tasks import TASKS
from heads.runs.build import make_head
from heads.runs.config import make_config
from heads.tables.paper import MIXED_RANKS

DIM = 768
STEPS = {"text": 96, "audio": 299}
"""Time steps of the paper's longest utterance: 96 tokens and 6 s of audio."""

M = TypeVar("M", bound=nn.Module)

_PAPER = UniTSEOptions(rank=128, top_k=8)
_STANDARD = StandardMoEOptions(top_k=8).unitse(DIM)

_FORMATS: dict[str, tuple[str, Callable[[float], str]]] = {
    "parameters": ("parameters", "{:,.0f}".format),
    "times_fewer": ("× fewer", "{:.3f}".format),
    "saved": ("saved", "{:.1%}".format),
    "macs": ("GMAC", lambda count: f"{count / 1e9:.3f}"),
    "times_fewer_macs": ("× fewer", "{:.3f}".format),
    "macs_shared": ("GMAC, block 1 shared", lambda count: f"{count / 1e9:.3f}"),
    "times_fewer_macs_shared": ("× fewer", "{:.3f}".format),
    "mixtures": ("mixtures", "{:,.0f}".format),
    "fusions": ("fusions", "{:,.0f}".format),
    "outputs": ("outputs", "{:,.0f}".format),
}
"""Column → its heading and the format of its values."""


def block_table() -> pd.DataFrame:
    """Compare UniTSE with the standard MoE on one utterance of the full length.

    Returns:
        A row for one block on text, at several ranks, and a row for the whole mixture: two blocks on each modality. Columns:
        `parameters`; `macs` if every task runs every expert on its own input; `macs_shared` as the first block is really run: the tasks
        have one input, so the experts' first convolution is computed once; `times_fewer…`: ratio of the standard MoE's value in the
        same column to this one; `saved`: share of the standard MoE's parameters that is not needed.
    """
    options = {
        "UniTSE block, r = 128": _PAPER,
        "UniTSE block, r = 64": replace(_PAPER, rank=64),
        "UniTSE block, ranks 16 to 128": replace(_PAPER, rank=MIXED_RANKS),
        "UniTSE block, r = 16": replace(_PAPER, rank=16),
        f"standard MoE block, r = {DIM}": _STANDARD,
    }
    text_alone, whole = {"text": STEPS["text"]}, STEPS
    blocks = {name: _measure(replace(of_block, blocks=1), text_alone) for name, of_block in options.items()}
    both = {"whole UniTSE, r = 128": _measure(_PAPER, whole), f"whole standard MoE, r = {DIM}": _measure(_STANDARD, whole)}
    return pd.concat([_beside_the_last(blocks), _beside_the_last(both)])


def head_table() -> pd.DataFrame:
    """Count the parameters of the family's heads with the paper's options, for features 768 wide, and of one layer of their fusion."""
    fusion = _on_meta(lambda: CrossModalLayer(FusionOptions(), DIM, tuple(STEPS)))
    rows = {
        "baseline-msa": _parts(PreFusion, PreFusion.Options(), "msa"),
        "baseline-mer": _parts(PreFusion, PreFusion.Options(), "mer"),
        "post-fusion": _parts(PostFusion, PostFusion.Options(), "both"),
        "pre-fusion": _parts(PreFusion, PreFusion.Options(), "both"),
        "mmolre, r = 64": _parts(MMoLRE, MMoLREOptions(), "both"),
        "mmolre, r = 128": _parts(MMoLRE, MMoLREOptions(mixture=_PAPER), "both"),
        "one layer of a fusion": {"parameters": _parameters(fusion)},
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def table_of(head: str, preset: str | None, assignments: Sequence[str]) -> pd.DataFrame:
    """Count the parameters of one head and of its parts, for features 768 wide.

    Args:
        head: A name that `heads.models.registry.find` knows.
        preset: As for `make_config`.
        assignments: Options, as --set takes them.

    Raises:
        InputError: There is no such head, it has no parameters because it is a simple baseline, or an option is out of its range.
    """
    config = make_config(head, "CORPUS", preset, nested(parse_assignments([*assignments])))
    kind = HEADS[config.head].head
    if kind is None:
        raise InputError(f"{config.head} is a simple baseline of scikit-learn: it has no parameters to count.")
    inputs = Inputs(tuple(dict.fromkeys(kind.needs or STEPS, DIM).items()), (), ())
    made = _on_meta(lambda: make_head(config.head, config.model, inputs, config.task))
    parts = {name: count for name, part in made.named_children() if (count := _parameters(part))}
    of_itself = sum(parameter.numel() for parameter in made.parameters(recurse=False))
    counts = parts | ({"its own": of_itself} if of_itself else {}) | {short_name(config.head): _parameters(made)}
    return pd.DataFrame.from_dict({name: {"parameters": count} for name, count in counts.items()}, orient="index")


def render(measured: pd.DataFrame) -> str:
    """Format a table of this module as aligned text: names left, numbers right, nothing where there is no value."""
    columns = [str(column) for column in measured]
    rows = [[str(name), *(_written(column, row[column]) for column in columns)] for name, row in measured.iterrows()]
    return aligned(rows, ["", *(_FORMATS[column][0] for column in columns)])


def _written(column: str, value: float) -> str:
    return "" if pd.isna(value) else _FORMATS[column][1](value)


def _beside_the_last(measured: dict[str, dict[str, int]]) -> pd.DataFrame:
    """Put the sizes of several mixtures in a table, with their ratios to the last of them."""
    counts = pd.DataFrame.from_dict(measured, orient="index")
    ratios = counts.iloc[-1] / counts
    return pd.DataFrame(
        {
            "parameters": counts["parameters"],
            "times_fewer": ratios["parameters"],
            "saved": 1 - 1 / ratios["parameters"],
            "macs": counts["macs"],
            "times_fewer_macs": ratios["macs"],
            "macs_shared": counts["macs_shared"],
            "times_fewer_macs_shared": ratios["macs_shared"],
        }
    )


def _measure(options: UniTSEOptions, steps: dict[str, int]) -> dict[str, int]:
    """Count for one mixture per modality, all of the same options; `steps` has the length of each modality."""
    mixture = _on_meta(lambda: UniTSE(options, DIM, TASKS["both"]))
    return {
        "parameters": len(steps) * _parameters(mixture),
        "macs": sum(_macs(lambda length=length: _run_apart(mixture, length)) for length in steps.values()),
        "macs_shared": sum(_macs(lambda length=length: mixture(*_utterance(length))) for length in steps.values()),
    }


def _run_apart(mixture: UniTSE, length: int) -> None:
    """Run the blocks on a separate tensor for each task, so that nothing is shared."""
    streams = {task: _utterance(length)[0] for task in mixture.tasks}
    _, mask = _utterance(length)
    for block in mixture.blocks:
        streams, _ = block(streams, mask)


def _utterance(length: int) -> tuple[Tensor, Tensor]:
    """Return features (1, T, D) and their mask (1, T), without memory."""
    return torch.empty(1, length, DIM, device="meta"), torch.empty(1, length, dtype=torch.bool, device="meta")


def _macs(run: Callable[[], object]) -> int:
    """Count the multiply-accumulates of a call: half of its floating-point operations."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() // 2


def _parts(head: type[FusionHead], options: FamilyOptions, task: str) -> dict[str, int]:
    module = _on_meta(lambda: head(options, dict.fromkeys(STEPS, DIM), task))
    parts = {name: _parameters(getattr(module, name)) for name in ("mixtures", "fusions", "outputs")}
    return {**parts, "parameters": _parameters(module)}


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _on_meta(make: Callable[[], M]) -> M:
    """Make a module whose weights take no memory; nothing here reads them."""
    with torch.device("meta"):
        return make()
