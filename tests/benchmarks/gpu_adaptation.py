"""Adaptation and epochs, for `gpu.py`: encoders that learn, and heads on a cache against heads with encoders in the loop."""

import argparse
import statistics

import bench_adaptation
import bench_epoch
import mmml
from gpu_inputs import MOSEI, MOSI, SMALL_MODEL, checkpoints, recordings
from gpu_rows import Rows, Setting, at_least, figure

from data.media import SAMPLE_RATE_HZ

GOALS = {"light": 30, "paper-mosi": 4}
"""Preset → how many times faster an epoch on the cache is than with encoders that learn in the loop."""


def adaptation(setting: Setting) -> Rows:
    """Seconds of an epoch of adaptation, validation included, and of encoding a corpus; steps are measured and multiplied."""
    for modality, path in checkpoints(setting).items():
        for precision in ("float32",) if setting.is_small else ("bfloat16", "float32"):
            measured = bench_adaptation.measure(
                modality, str(path), precision, setting.small_or(1, 6), setting.device, setting.small_or(2, bench_adaptation.SAMPLE)
            )
            for name, clips in {"MOSI": MOSI, "MOSEI": MOSEI}.items():
                costs = measured.of(clips)
                note = f"{costs.epochs} epochs in the recipe; {1000 * measured.step:.0f} ms a step of {measured.recipe.step_size} clips"
                yield figure(f"adapting {modality}, {precision}, {name}'s size", costs.epoch, "s an epoch", note)


def epochs(setting: Setting) -> Rows:
    """Epochs of mmolre on cached features, and with the encoders in the loop, MMML's way, which decode nothing here."""
    clips = recordings(setting.small_or(3, 64))
    paths = checkpoints(setting)
    options = argparse.Namespace(device=setting.device, precision="float32")
    sizes = {"text": mmml.TOKENS, "audio": mmml.SECONDS * SAMPLE_RATE_HZ}
    gflop = sum(mmml.encoder_gflop(paths, modality, [size])[0] for modality, size in sizes.items())
    for preset, goal in list(GOALS.items())[: setting.small_or(1, len(GOALS))]:
        loop = mmml.Encoders(paths, setting.device, "eager")
        lengths = bench_epoch.lengths_of(loop.tokenizer, clips)
        model = SMALL_MODEL if setting.is_small else {}
        setup = bench_epoch.Setup(options, setting.folder / "epochs", clips, lengths, loop, gflop, model)
        setup.folder.mkdir(exist_ok=True)
        times = bench_epoch.Epochs.prepare(preset, setup).times(setting.small_or(1, 3), setting.device)
        seconds = {name: statistics.median(values) for name, values in times.items()}
        for name, value in seconds.items():
            yield figure(f"epoch of {preset}, {name}", 1000 * value / len(clips.texts), "ms a clip", "float32 unless said")
        ratio = seconds["encoders tuned"] / seconds["ours"]
        yield at_least(f"epoch of {preset}: on the cache against encoders in the loop", ratio, "×", goal, "sound from memory")
