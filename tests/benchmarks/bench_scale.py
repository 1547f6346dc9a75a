"""How time and memory grow with the corpus: BuildFeatures on 1×, 2× and 4× the clips, up to CMU-MOSEI's 22,856, tiny encoder; and what
a build does besides encoding, up to a million utterances.

    python tests/benchmarks/bench_scale.py [--clips 22856] [--seconds 7.3] [--planned 22856 100000 1000000]

The clips are a few seeded noises under many names (hard links), of MOSEI's mean length. Each build is a process of its own; its peak
memory is the operating system's figure, and beside it stands what the process holds when the encoder has been loaded and has seen one
clip. Everything in the build counts: fingerprints, decoding for the manifest, encoding, merging, the report.

The second part has an encoder that costs nothing: its features, one number for each utterance, are written into the cache
beforehand. There are corpora of texts alone, and of texts with segments of a few recordings. Seconds are those of the processor, so
that other work on the machine does not count; each figure is of a process of its own, as each worker on a cluster is one. `--clips 0`
leaves out the first part, `--planned 0` the second.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
import wave
import zlib
from pathlib import Path

import h5py
import numpy as np

from data.feature_index import FeatureIndex
from data.manifest import write_manifest
from data.media import SAMPLE_RATE_HZ
from pipeline.plan import Plan

_DISTINCT = 16
_CLIPS_PER_VIDEO = 7  # as in MOSEI

_ENCODER_ONLY = """
import numpy as np, resource
from data.media import decode
from pipeline import steps
from pipeline.encoding import encoders
from pipeline.report import gather
from pipeline.settings import EncoderSettings
encoder = encoders.load("audio", EncoderSettings("tiny-data2vec"), "cpu", "float32")
encoder.encode([encoder.prepare(np.random.default_rng(0).normal(0, 0.1, {samples}).astype(np.float32))])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_corpus(root: Path, clips: int, seconds: float) -> None:
    """A corpus in the `folder` layout: label.csv and one wav a clip."""
    generator = np.random.default_rng(0)
    root.mkdir(parents=True)
    for number in range(_DISTINCT):
        samples = (generator.normal(0, 3000, round(seconds * SAMPLE_RATE_HZ))).astype("<i2")
        with wave.open(str(root / f".noise{number}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE_HZ, len(samples), "NONE", ""))
            file.writeframes(samples.tobytes())
    with (root / "label.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["video_id", "clip_id", "text", "mode"])
        for clip in range(clips):
            video, place = f"video{clip // _CLIPS_PER_VIDEO}", clip % _CLIPS_PER_VIDEO
            table.writerow([video, place, f"Sentence {place} of {video}.", ("train", "valid", "test")[clip // _CLIPS_PER_VIDEO % 3]])
            (root / video).mkdir(exist_ok=True)
            os.link(root / f".noise{clip % _DISTINCT}.wav", root / video / f"{place}.wav")


def build(folder: Path, corpus: Path) -> tuple[float, float]:
    """(seconds, peak memory in MB) of a build with the audio encoder alone."""
    folder.mkdir()
    (folder / "luigi.cfg").write_text(
        f'[corpora]\nfolders = {{"scale": "{corpus}"}}\nmodalities = ["audio"]\n[build]\ncache = {folder / "cache"}\ndevice = cpu\n'
    )
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "luigi", "--module", "pipeline", "BuildFeatures"], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"The build in {folder} failed.")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


def write_table(root: Path, utterances: int, with_media: bool) -> None:
    """A corpus in the `folder` layout with all columns; its media, if any, are segments of `_DISTINCT` recordings of a minute."""
    generator = np.random.default_rng(0)
    root.mkdir(parents=True)
    for number in range(_DISTINCT if with_media else 0):
        with wave.open(str(root / f"noise{number}.wav"), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE_HZ, 60 * SAMPLE_RATE_HZ, "NONE", ""))
            file.writeframes(generator.normal(0, 3000, 60 * SAMPLE_RATE_HZ).astype("<i2").tobytes())
    words = ["this", "movie", "was", "really", "very", "good", "and", "nobody", "liked", "it", "at", "all"]
    picked = generator.integers(0, len(words), (utterances, 9))
    with (root / "label.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        of_media = ["start_s", "end_s", "media"] if with_media else []
        table.writerow(["video_id", "clip_id", "text", "mode", "label", "speaker", *of_media])
        for number in range(utterances):
            video, place = divmod(number, _CLIPS_PER_VIDEO)
            text, split = " ".join(words[word] for word in picked[number]), ("train", "valid", "test")[video % 3]
            segment = [7.5 * place, 7.5 * place + 7.3, f"noise{video % _DISTINCT}.wav"] if with_media else []
            table.writerow([f"video{video}", place, f"{text} {number}.", split, number % 31 / 5 - 3, f"speaker{video % 997}", *segment])


_PLAN = """
import resource, sys, time
import bench_scale
from pipeline import config, steps
from pipeline.plan import make_plan
settings = config.read_settings()
begin = time.process_time()
plan = make_plan(settings)
print(time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, len(list(plan.outputs())))
bench_scale.write_outputs(plan)
begin = time.process_time()
steps.write_index(plan)
assert steps.index_is_current(plan)
print(time.process_time() - begin)
"""


def write_outputs(plan: Plan) -> None:
    """What a build of an encoder that costs nothing leaves in the cache; its report is empty."""
    for corpus in plan.corpora.values():
        table = corpus.corpus.utterances
        attributes = {"corpus": corpus.settings.name, "layout": corpus.corpus.layout, "parts": dict(corpus.parts), "findings": []}
        write_manifest(corpus.manifest, table, attributes)
    for features in plan.features.values():
        ids = features.corpus.corpus.utterances["utterance_id"].iloc[list(features.rows)].tolist()
        facts = {"encoder": {"name": features.encoder.name, "trained": True}, "identity": dict(features.identity), "excluded": {}}
        index, values = FeatureIndex.of(features.path, ids, [1] * len(ids), features.sources, facts), np.zeros((len(ids), 1), "<f2")
        index.checksums[:] = zlib.crc32(values[:1].data)
        features.path.parent.mkdir(exist_ok=True)
        with h5py.File(features.path, "w", libver=("v108", "v108")) as file:
            file["values"] = values
            index.write(file)
    plan.report.parent.mkdir()
    plan.report.write_text("")


def run(folder: Path, *arguments: str) -> tuple[str, float, float]:
    """(output, seconds of the processor, peak memory in MB) of Python in a folder with a luigi.cfg."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])}
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(arguments[:3])} failed in {folder}.")
        output.seek(0)
        return output.read(), usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def print_plans(folder: Path, sizes: list[int]) -> None:
    """Prints what plan, explain, index and a build with nothing to do take for corpora of these sizes."""
    print("\nwithout encoding: seconds of the processor, peak memory of the process")
    print(f"{'utterances':>11}{'':>11}{'outputs':>9}{'plan':>17}{'explain':>17}{'index s':>9}{'nothing to do':>17}")
    for utterances in sizes:
        for kind, modalities in (("text", '["text"]'), ("segments", '["text", "audio"]')):
            here = folder / f"{kind}{utterances}"
            write_table(here / "corpus", utterances, kind == "segments")
            (here / "luigi.cfg").write_text(
                f'[corpora]\nfolders = {{"scale": "{here / "corpus"}"}}\nmodalities = {modalities}\n'
                f"[build]\ncache = {here / 'cache'}\ndevice = cpu\nshard_clips = 4096\n"
            )
            run(here, "-c", "from pipeline import config; from pipeline.plan import make_plan; make_plan(config.read_settings())")
            (plan_s, plan_mb, outputs), (index_s,) = (line.split() for line in run(here, "-c", _PLAN)[0].splitlines())
            explain = run(here, "-m", "pipeline", "explain")[1:]
            nothing = run(here, "-m", "luigi", "--module", "pipeline", "BuildFeatures")[1:]
            cells = [f"{float(seconds):>9.1f}{float(mb):>5,.0f} MB" for seconds, mb in ((plan_s, plan_mb), explain, nothing)]
            print(f"{utterances:>11,}{kind:>11}{outputs:>9}{cells[0]}{cells[1]}{float(index_s):>9.3f}{cells[2]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=22_856)
    parser.add_argument("--seconds", type=float, default=7.3)
    parser.add_argument("--planned", type=int, nargs="+", default=[22_856, 100_000, 1_000_000])
    options = parser.parse_args()
    if options.clips:
        print_builds(options.clips, options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        print_plans(Path(folder), [size for size in options.planned if size])


def print_builds(most_clips: int, clip_seconds: float) -> None:
    """Prints what builds with the tiny encoder take for a quarter, half and all of the clips."""
    code = _ENCODER_ONLY.format(samples=round(clip_seconds * SAMPLE_RATE_HZ))
    encoder_mb = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) / 1024
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for share in (4, 2, 1):
            clips = most_clips // share
            write_corpus(Path(folder) / f"corpus{share}", clips, clip_seconds)
            rows.append((clips, *build(Path(folder) / f"build{share}", Path(folder) / f"corpus{share}")))
    print(f"\n{clip_seconds} s a clip; the process with the encoder and one clip holds {encoder_mb:,.0f} MB")
    print(f"{'clips':>8}{'s':>9}{'clips/s':>9}{'time, × first':>15}{'peak MB':>9}{'besides the encoder':>21}")
    for clips, seconds, peak in rows:
        print(
            f"{clips:>8,}{seconds:>9.0f}{clips / seconds:>9.0f}{seconds / rows[0][1]:>15.2f}{peak:>9,.0f}{peak - encoder_mb:>18,.0f} MB"
        )


if __name__ == "__main__":
    main()
