"""Feature extraction with full-size encoders: ours, one clip at a time, and MMML's way, in one run.

    python tests/benchmarks/bench_extraction.py [--root MOSI_LIKE_ROOT] [--clips 64] [--rounds 3] [--device cpu|cuda]

The encoders are RoBERTa-base and Data2Vec-audio-base in size, with random weights: speed does not depend on the values. Without --root
the clips are the bundled sample's. All ways decode the same files. MMML's way is written from its description (every text padded to 96
tokens, every clip cut or padded to 6 s, batches of 8, attention weights computed and returned to find the lengths); it redoes this in
every epoch, the others once. Useful work is what the models need for each utterance alone and unpadded. The peak is the best float32
(or bfloat16) matrix product measured on this machine in the same run.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from mmml import BATCH, SECONDS, Encoders, Recordings, choose_clips, encoder_gflop, in_files, make_checkpoints, sentence_case
from timing import in_turns, peak_gflops

from data.media import SAMPLE_RATE_HZ
from pipeline.encoding import encoders, extract
from pipeline.settings import SAMPLE, EncoderSettings

MMML = "MMML's way"


class Reference(Encoders):
    """What users have today."""

    def one_at_a_time(self, clips: Recordings) -> dict[str, list[np.ndarray]]:
        return {"text": self.texts(clips), "audio": self.speech(clips)}

    @torch.no_grad()
    def texts(self, clips: Recordings) -> list[np.ndarray]:
        ids = (self.tokenizer(sentence_case(text), return_tensors="pt")["input_ids"] for text in clips.texts)
        return [self.text(one.to(self.device)).last_hidden_state[0].cpu().numpy() for one in ids]

    @torch.no_grad()
    def speech(self, clips: Recordings) -> list[np.ndarray]:
        waves = (clips.wave(row) for row in range(len(clips.texts)))
        values = (self.extractor(wave, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")["input_values"] for wave in waves)
        return [self.audio(one.to(self.device)).last_hidden_state[0].cpu().numpy() for one in values]

    def mmml(self, clips: Recordings) -> None:
        rows = range(len(clips.texts))
        with torch.no_grad():
            for start in range(0, len(rows), BATCH):
                features, _ = self.encode(clips, rows[start : start + BATCH])
                features["audio"].cpu()


def ours(loaded: Mapping[str, Any], texts: Sequence[str], sound: Iterable[tuple[int, np.ndarray]]) -> dict[str, list[np.ndarray]]:
    """The pipeline's own path, to features of the loaded modalities. `sound` yields (row, waveform), decoded beside the encoder."""
    features: dict[str, list[Any]] = {modality: [None] * len(texts) for modality in loaded}
    ids = [str(row) for row in range(len(texts))]
    for modality, encoder in loaded.items():
        inputs = enumerate(texts) if modality == "text" else sound
        extract.extract(encoder, extract.prepare(encoder, inputs, ids), features[modality].__setitem__)
    return features


def useful_gflop(paths: Mapping[str, Path], seconds: Sequence[float], features: Mapping[str, Sequence[np.ndarray]]) -> float:
    """Work of each utterance alone and unpadded; counted on shapes at four lengths, and quadratic between them."""
    lengths = {"text": [len(f) for f in features["text"]], "audio": [round(s * SAMPLE_RATE_HZ) for s in seconds]}
    total = 0.0
    for modality, values in lengths.items():
        nodes = np.linspace(min(values), max(values), 4).round().astype(int)
        work = encoder_gflop(paths, modality, nodes.tolist())
        total += float(np.polyval(np.polyfit(nodes, work, 2), values).sum())
    return total


def largest_difference(ours: Sequence[np.ndarray], alone: Sequence[np.ndarray]) -> tuple[float, float]:
    """(largest absolute difference, relative L2 error)."""
    worst = max(float(np.abs(a - b).max()) for a, b in zip(ours, alone, strict=True))
    squares = sum(float(((a - b) ** 2).sum()) for a, b in zip(ours, alone, strict=True))
    return worst, (squares / sum(float((b**2).sum()) for b in alone)) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=SAMPLE / "mosi")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    root, table = choose_clips(options.root, options.clips)
    clips = in_files(root, table)
    device = options.device if options.device == "cpu" else "cuda:0"
    with tempfile.TemporaryDirectory() as folder:
        paths = make_checkpoints(Path(folder))
        alone, eager = Reference(paths, device, "sdpa"), Reference(paths, device, "eager")
        peaks = {dtype: peak_gflops(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
        loaded = {
            precision: {m: encoders.load(m, EncoderSettings(str(path)), device, precision) for m, path in paths.items()}
            for precision in ("float32", "bfloat16")
        }
        ways: dict[str, Callable[[], Any]] = {
            MMML: lambda: eager.mmml(clips),
            "one at a time": lambda: alone.one_at_a_time(clips),
            "ours, float32": lambda: ours(loaded["float32"], clips.texts, extract.waveforms(root, table)),
            "ours, bfloat16": lambda: ours(loaded["bfloat16"], clips.texts, extract.waveforms(root, table)),
        }
        of_texts: dict[str, Callable[[], Any]] = {
            "one at a time": lambda: alone.texts(clips),
            "ours, float32": lambda: ours({"text": loaded["float32"]["text"]}, clips.texts, ()),
            "ours, bfloat16": lambda: ours({"text": loaded["bfloat16"]["text"]}, clips.texts, ()),
        }
        results = {name: way() for name, way in ways.items()}  # warm-up, and what the differences are taken from
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        text_seconds: dict[str, list[float]] = {name: [] for name in of_texts}
        for _ in range(options.rounds):
            peaks = {dtype: max(peak, peak_gflops(device, dtype)) for dtype, peak in peaks.items()}
            for name, times in in_turns(ways, 1, device).items():
                seconds[name] += times
            for name, times in in_turns(of_texts, 1, device).items():
                text_seconds[name] += times
        work = useful_gflop(paths, table["duration_s"].tolist(), results["one at a time"])
    speech_s, cut_s = table["duration_s"].sum(), (table["duration_s"] - SECONDS).clip(lower=0).sum()
    print(f"\n{len(table)} clips, {speech_s:.0f} s of speech, mean {speech_s / len(table):.2f} s, on {device}")
    print(f"useful work {work:,.0f} GFLOP; peak of a matrix product: float32 {peaks[torch.float32]:,.0f} GFLOP/s, ", end="")
    print(f"bfloat16 {peaks[torch.bfloat16]:,.0f} GFLOP/s")
    print(f"MMML's way cuts {100 * cut_s / speech_s:.1f} % of the speech and repeats all of this in every epoch")
    print(f"{'way':<16}{'s, median (min–max)':>24}{'clips/s':>9}{'of peak':>9}{'vs MMML':>9}{'vs one':>8}{'tokens/s':>10}", end="")
    print("   max |Δ| to alone (relative): text, audio")
    tokens = sum(map(len, results["one at a time"]["text"]))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, values in seconds.items():
        median, peak = medians[name], peaks[torch.bfloat16 if "bfloat16" in name else torch.float32]
        spread = f"{median:.1f} ({min(values):.1f}–{max(values):.1f})"
        line = f"{name:<16}{spread:>24}{len(table) / median:>9.2f}{work / median / peak:>9.0%}"
        line += f"{medians[MMML] / median:>8.2f}×{medians['one at a time'] / median:>7.2f}×"
        if name != MMML:
            line += f"{tokens / statistics.median(text_seconds[name]):>10,.0f}"
            pairs = [largest_difference(results[name][m], results["one at a time"][m]) for m in ("text", "audio")]
            line += "   " + ", ".join(f"{worst:.1e} ({relative:.1e})" for worst, relative in pairs)
        print(line)


if __name__ == "__main__":
    main()
