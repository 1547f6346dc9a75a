"""How time and memory grow with the corpus: BuildFeatures on 1×, 2× and 4× the clips, up to CMU-MOSEI's 22,856, tiny encoder.

    python tests/benchmarks/bench_scale.py [--clips 22856] [--seconds 7.3]

The clips are a few seeded noises under many names (hard links), of MOSEI's mean length. Each build is a process of its own; its peak
memory is the operating system's figure, and beside it stands what the process holds when the encoder has been loaded and has seen one
clip. Everything in the build counts: fingerprints, decoding for the manifest, encoding, merging, the report.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

from data.media import SAMPLE_RATE_HZ

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=22_856)
    parser.add_argument("--seconds", type=float, default=7.3)
    options = parser.parse_args()
    code = _ENCODER_ONLY.format(samples=round(options.seconds * SAMPLE_RATE_HZ))
    encoder_mb = int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) / 1024
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for share in (4, 2, 1):
            clips = options.clips // share
            write_corpus(Path(folder) / f"corpus{share}", clips, options.seconds)
            rows.append((clips, *build(Path(folder) / f"build{share}", Path(folder) / f"corpus{share}")))
    print(f"\n{options.seconds} s a clip; the process with the encoder and one clip holds {encoder_mb:,.0f} MB")
    print(f"{'clips':>8}{'s':>9}{'clips/s':>9}{'time, × first':>15}{'peak MB':>9}{'besides the encoder':>21}")
    for clips, seconds, peak in rows:
        print(
            f"{clips:>8,}{seconds:>9.0f}{clips / seconds:>9.0f}{seconds / rows[0][1]:>15.2f}{peak:>9,.0f}{peak - encoder_mb:>18,.0f} MB"
        )


if __name__ == "__main__":
    main()
