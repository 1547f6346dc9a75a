"""Seconds that an epoch of training takes, of every head, at CMU-MOSI's size; beside them the models of MMSA 2.2.1 that run.

    python tests/benchmarks/bench_heads.py [--heads mmolre mult …] [--preset common] [--batch 32] [--share 0.125] [--device cpu|cuda]
                                           [--audio-limit 299] [--clips 1284] [--mmsa PYTHON] [--models lf_dnn mfn …]

1,284 clips of 52 videos, with random features in float16: text (T, 384) with a mean of 17 rows, audio (T, 768) with a mean of 200, the
first `--audio-limit` of them read. Training only: batches are made, forward, backward, clipping, step; no evaluation.

Heads learn both tasks unless they have one only, by `heads.training.single_engine`. A share of the batches of an epoch's plan, evenly
spread over their sizes, is trained on twice in each of its stages; the second time is divided by the share. `--share 1` times
all. Epochs are the second: Self-MM makes no labels in its first. Heads that read whole videos keep the batch of the preset, in
videos, and at least 4 batches of any epoch are timed.

MMSA's models learn sentiment only, with MMSA's own options but for the batch, from a file of `data.interchange.mmsa` of the same
features: all clips padded to the longest, at the front. Their own trainers run; timed is the third of their passes over the training
split, whole (the first of Self_MM only notes the labels, its labels change from the third on). LF_DNN, TFN, LMF and MFN average audio
over its steps when the file is loaded, which is not timed; Self_MM has the last step of the text in the place of BERT. What else of
MMSA runs, and why, is in docs/interchange.md. An environment with MMSA beside this torch:

    python -m venv mmsa
    python -m pip --python mmsa/bin/python install --no-deps MMSA==2.2.1 "easydict>=1.9" "nvidia-ml-py>=11"
    python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $(echo mmsa/lib/python3*/site-packages)/ours.pth
    python tests/benchmarks/bench_heads.py --mmsa mmsa/bin/python
"""

import argparse
import json
import math
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from random_cache import CLIPS_PER_VIDEO, write_corpus
from timing import in_turns
from tqdm import tqdm

from data.interchange.mmsa import export_mmsa
from data.reporting.tables import aligned
from heads.evaluation.predictions import total_lengths
from heads.models.registry import HEADS
from heads.runs.config import PRESETS, RunConfig, make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache
from heads.training.loop import Run
from heads.training.plan import BatchRows, groups, rows_of, size_of
from heads.training.single_engine import SingleEngine

NAMES = [name for name, entry in HEADS.items() if entry.head]
MODELS = ["lf_dnn", "tfn", "lmf", "mfn", "graph_mfn", "self_mm"]
DIMS = {"text": 384, "audio": 768}
LEAST_BATCHES = 4

MMSA_EPOCH = '''
"""Trains a model of MMSA until the third pass over the training split is over, and prints its seconds."""

import json
import sys
import time

import torch
from MMSA import get_config_regression
from MMSA.data_loader import MMDataLoader
from MMSA.models.AMIO import AMIO
from MMSA.trains.ATIO import ATIO


class Passes:
    def __init__(self, loader):
        self.loader, self.done = loader, 0

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        begin = time.perf_counter()
        yield from self.loader
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.done += 1
        if self.done == 3:
            print(json.dumps([parameters, time.perf_counter() - begin]))
            sys.exit()


class LastStep(torch.nn.Identity):
    def forward(self, text):
        return text[:, -1:]


model, options = sys.argv[1], json.loads(sys.argv[2])
torch.backends.cudnn.allow_tf32 = False
if model == "self_mm":
    module = sys.modules["MMSA.models.multiTask.SELF_MM"]
    module.BertTextEncoder = LastStep
    module.pack_padded_sequence = lambda padded, lengths, **_: padded
args = get_config_regression(model, "mosi")
args.update(options, feature_T=None, feature_A=None, feature_V=None, train_mode="regression", cur_seed=1)
loaders = MMDataLoader(args, num_workers=0)
made = AMIO(args).to(args.device)
parameters = sum(value.numel() for value in made.parameters())
loaders["train"] = Passes(loaders["train"])
ATIO().getTrain(args).do_train(made, loaders)
'''


class Timed(NamedTuple):
    """One row of the table."""

    name: str
    packable: str
    parameters: int
    seconds: float  # of an epoch


def spread_over_sizes(run: Run, plan: Sequence[BatchRows], share: float) -> list[BatchRows]:
    """A share of the batches of a pass, at even distances among all of them in the order of what they hold, padding included."""
    lengths, accumulate = total_lengths(run.tensors), run.config.train.accumulate
    ordered = sorted(plan, key=lambda batch: size_of(batch) * lengths[rows_of(batch)].max())
    wanted = max(share * len(plan), LEAST_BATCHES)
    count = min(math.ceil(wanted / accumulate) * accumulate, len(plan))
    return [ordered[int((place + 0.5) * len(plan) / count)] for place in range(count)]


def train(engine: SingleEngine, plan: Sequence[BatchRows]) -> None:
    """One pass over some batches."""
    run, options = engine.run, engine.run.config.train
    keys = torch.from_numpy(run.keys(len(plan))[:, None]).to(run.tensors.device)
    batches = zip(run.tensors.batches(plan), keys, strict=True)
    for group in groups(plan, options.accumulate):
        for _ in group:
            engine.accumulate(*next(batches), 1 / len(group))
        engine.step([options.lr])


def time_head(config: RunConfig, loaded: LoadedCache, share: float) -> Timed:
    """An epoch of a head, from a share of its batches."""
    run_data, device = loaded.open(config), loaded.device.type
    run = Run(run_data.config, run_data.tensors, RunFolder(loaded.cache / config.head))
    engine, head, plan, seconds = SingleEngine(run), HEADS[config.head].head, run.plan(), 0.0
    length = len(plan) // len(head.stages)
    for stage, part in zip(head.stages, groups(plan, length), strict=True):
        chosen = spread_over_sizes(run, part, share)
        engine.begin(stage, [2])
        _, timed = in_turns({stage: lambda chosen=chosen: train(engine, chosen)}, 2, device)[stage]
        seconds += timed * len(part) / len(chosen)
    parameters = sum(parameter.numel() for parameter in engine.head.parameters())
    return Timed(config.head, "yes" if HEADS[config.head].packs else "no", parameters, seconds)


def time_model(model: str, python: Path, file: Path, settings: argparse.Namespace) -> Iterator[Timed]:
    """An epoch of a model of MMSA, in a process of its own; if it stops, no row but the reason, printed."""
    options = {"batch_size": settings.batch, "train_samples": settings.clips, "device": settings.device}
    options |= {"custom_feature": str(file), "model_save_path": str(file.with_suffix(".pth"))}
    if model == "self_mm":
        options |= {"use_bert": False, "text_out": DIMS["text"]}
    result = subprocess.run([python, "-c", MMSA_EPOCH, model, json.dumps(options)], capture_output=True, text=True)
    if result.returncode:
        tqdm.write(f"{model} stopped: {result.stderr.strip().splitlines()[-1]}")
    else:
        yield Timed(f"MMSA {model}", "", *json.loads(result.stdout.splitlines()[-1]))


def configure(head: str, settings: argparse.Namespace) -> RunConfig:
    """The preset at the batch and the limit asked for."""
    train = {} if HEADS[head].head.context else {"batch_size": settings.batch}
    return make_config(head, "mosi", settings.preset, {"train": train, "data": {"audio_limit": settings.audio_limit}})


def measure(folder: Path, settings: argparse.Namespace) -> Iterator[Timed]:
    """All heads, then all models of MMSA, one after another."""
    clips_of = {"train": settings.clips, "valid": CLIPS_PER_VIDEO, "test": CLIPS_PER_VIDEO}  # the last two are not timed
    corpus, loaded = write_corpus(folder, clips_of, DIMS), LoadedCache(folder, torch.device(settings.device))
    for head in tqdm(settings.heads, disable=None, leave=False):
        yield time_head(configure(head, settings), loaded, settings.share)
    if settings.mmsa:
        limits = configure(NAMES[0], settings).data
        export_mmsa(corpus, folder / "mosi.pkl", {"text": limits.text_limit, "audio": limits.audio_limit})
        for model in tqdm(settings.models, disable=None, leave=False):
            yield from time_model(model, settings.mmsa, folder / "mosi.pkl", settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--heads", nargs="+", default=NAMES, choices=NAMES, metavar="HEAD", help="default: all but the simple baselines"
    )
    parser.add_argument("--preset", default="common", choices=PRESETS, help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=32, help="clips in a batch (default: %(default)s)")
    parser.add_argument("--share", type=float, default=0.125, help="of the batches of an epoch (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="default: %(default)s")
    parser.add_argument("--audio-limit", type=int, default=299, help="frames of a clip that are read (default: %(default)s)")
    parser.add_argument("--clips", type=int, default=1284, help="default: %(default)s, as in CMU-MOSI")
    parser.add_argument("--mmsa", type=Path, metavar="PYTHON", help="of an environment that has MMSA, see above")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, metavar="MODEL", help="of MMSA; default: all that run")
    settings = parser.parse_args()
    torch.backends.cudnn.allow_tf32 = False  # float32 is float32, in recurrent layers too
    with tempfile.TemporaryDirectory() as folder:
        found = list(measure(Path(folder), settings))
    fastest = min(one.seconds for one in found[: len(settings.heads)])
    print(f"{settings.clips:,} clips, preset {settings.preset}, batch {settings.batch}, {settings.share:.3g} of epochs timed;", end=" ")
    print(f"{settings.device}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = [[one.name, one.packable, f"{one.parameters:,}", f"{one.seconds:.2f}", f"{one.seconds / fastest:.1f}×"] for one in found]
    print(aligned(rows, ["head", "packable", "parameters", "s an epoch", "× fastest head"], left=2))


if __name__ == "__main__":
    main()
