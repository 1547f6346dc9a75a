"""A researcher's project in miniature: two small corpora in the `folder` layout, an encoder of texts, a luigi.cfg and a cache."""

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from forked import ForkedPython

from data.feature_store import FeatureStore
from data.labels import EMOTIONS
from pipeline.plan import Plan, make_plan
from pipeline.settings import CHECKOUT, CorpusSettings, EncoderSettings, Settings

SAMPLE_RATE_HZ = 16_000
LIMIT_S = 120
Process = subprocess.Popen[str] | ForkedPython
_tried: dict[Path, bytes] = {}  # encoder of texts → what planning remembers of the encoders that can be used
VIDEOS = [f"video{number}" for number in range(8)]
WORDS = ["Really", "this", "plot", "was", "a", "calm", "delight", "though", "nobody", "in", "our", "row", "laughed", "or", "cried"]


@dataclass(frozen=True)
class Project:
    """A folder for builds: `clips` (speech, text, sentiment) and `donors` (text, sentiment, emotions)."""

    root: Path
    encoder: Path  # a folder with a text encoder

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def clips(self) -> Path:
        return self.root / "clips"

    def configure(self, **changed: Mapping[str, object]) -> None:
        """Writes luigi.cfg: the usual settings with those of some sections changed."""
        sections: dict[str, dict[str, object]] = {
            "corpora": {"folders": json.dumps({"clips": "clips", "donors": "donors"}), "features": '["clips"]'},
            "build": {"cache": "cache", "dtype": "float32", "shard_clips": 6, "device": "cpu"},
            "text": {"model": self.encoder},
            "sentence": {"model": self.encoder},
            "pseudo_labels": {"targets": '["clips"]', "donors": '["donors"]'},
        }
        for name, values in changed.items():
            sections[name] = sections.get(name, {}) | values
        lines = [f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()) for name, values in sections.items()]
        (self.root / "luigi.cfg").write_text("\n".join(lines), encoding="utf-8")

    def plan(self, **changed: object) -> Plan:
        """Plans a build with the usual luigi.cfg, some fields of `Settings` changed.

        Encoders that were tried for one project of the same encoder of texts are known to be usable in the next, as in one cache.
        """
        text = EncoderSettings(str(self.encoder))
        usual = {
            "cache": self.cache,
            "corpora": tuple(CorpusSettings(name, "folder", self.root / name) for name in ("clips", "donors")),
            "text": text,
            "audio": EncoderSettings("tiny-data2vec"),
            "sentence": text,
            "features": ("clips",),
            "dtype": "float32",
            "device": "cpu",
            "shard_clips": 6,
            "targets": ("clips",),
            "donors": ("donors",),
        }
        settings = Settings(**usual | changed)
        memo = settings.cache / "encoders.json"
        if self.encoder in _tried and not memo.exists():
            settings.cache.mkdir(parents=True, exist_ok=True)
            memo.write_bytes(_tried[self.encoder])
        plan = make_plan(settings)
        if memo.exists():
            _tried[self.encoder] = memo.read_bytes()
        return plan

    def start(self, *arguments: str, stderr: int = subprocess.PIPE, fresh: bool = False) -> Process:
        """Starts BuildFeatures in a process group of its own; every task that it runs is in its log, see `executed`."""
        command = ["-m", "luigi", "--module", "pipeline", "BuildFeatures", "--log-level", "INFO", *arguments]
        return (python if fresh else forked)(*command, cwd=self.root, stderr=stderr)

    def build(self, *arguments: str, fresh: bool = False) -> subprocess.CompletedProcess[str]:
        """Runs BuildFeatures to its end."""
        return finish(self.start(*arguments, fresh=fresh))

    def copy(self, root: Path) -> "Project":
        """The same project elsewhere, cache and all."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return Project(root, self.encoder)

    def edit(self, utterance_id: str, **cells: object) -> None:
        """Changes cells of one row of the clips' label.csv."""
        rows = read_rows(self.clips / "label.csv")
        next(row for row in rows if row["id"] == utterance_id).update(cells)
        write_rows(self.clips / "label.csv", rows)

    def split_by_video(self) -> None:
        """Puts each video of the clips into one split; otherwise its clips are in several."""
        rows = read_rows(self.clips / "label.csv")
        for row in rows:
            row["mode"] = ("train", "valid", "test")[int(str(row["video_id"]).removeprefix("video")) % 3]
        write_rows(self.clips / "label.csv", rows)

    def add_video(self, video: str) -> None:
        """Adds a video of two clips."""
        added = [write_clip(self.clips, video, number, seed=100 + number) for number in range(2)]
        write_rows(self.clips / "label.csv", read_rows(self.clips / "label.csv") + added)

    def medium(self, utterance_id: str) -> Path:
        """The wav of a clip."""
        return self.clips / (utterance_id.replace("_", "/") + ".wav")


def python(*arguments: str, cwd: Path, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """Starts Python with the packages of this checkout, one thread, no network, and the settings of `cwd` only."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=cwd, env=_environment(), text=True, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True,
    )  # fmt: skip


def forked(*arguments: str, cwd: Path, stderr: int = subprocess.PIPE) -> ForkedPython:
    """Starts the same as a fork that has imported the large libraries: -m and a module, or -c and code."""
    return ForkedPython(*arguments, cwd=cwd, env=_environment(), stderr=stderr)


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LUIGI_")}
    return environment | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT), "HF_HUB_OFFLINE": "1"}


def executed(log: str) -> list[str]:
    """The tasks that ran, as "FeatureShard clips audio 10", in order; from Luigi's log at level INFO."""
    tasks = re.findall(r"running +(\w+)\((.*)\)", log)
    values = [re.findall(r"(?:corpus|modality|shard)=([^,]*)", parameters) for _, parameters in tasks]
    return [" ".join([name, *found]) for (name, _), found in zip(tasks, values, strict=True)]


def features(project: Project) -> dict[str, dict[str, object]]:
    """Returns the contents of all feature files without their times: file name → values, ids, offsets, checksums, sources."""
    found = {}
    for path in sorted((project.cache / "features").iterdir()):
        with FeatureStore.open(path) as store:
            assert not store.verify()
            found[path.name] = {
                "values": store.read_all().tobytes(),
                "ids": store.ids,
                "offsets": store.offsets.tolist(),
                "checksums": store.checksums.tolist(),
                "sources": store.sources,
            }
    return found


def states(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Relative path → (inode, time of modification in ns, content hash) of all files below a folder.

    What planning remembers is left out, fingerprints and encoders that were tried: it is no output.
    """
    memos = ("fingerprints.json", "encoders.json")
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in memos]
    return {str(path.relative_to(folder)): _state(path) for path in sorted(paths)}


def _state(path: Path) -> tuple[int, int, str]:
    return path.stat().st_ino, path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


def finish(process: Process) -> subprocess.CompletedProcess[str]:
    """Waits for a process, for a limited time."""
    try:
        stdout, stderr = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def write_project(root: Path, encoder: Path) -> Project:
    """Writes both corpora and the usual luigi.cfg."""
    project = Project(root, encoder)
    rows = [write_clip(project.clips, video, number, 3 * VIDEOS.index(video) + number) for video in VIDEOS for number in range(3)]
    write_rows(project.clips / "label.csv", rows)
    write_rows(root / "donors" / "label.csv", [_donor(number) for number in range(12)])
    project.configure()
    return project


def write_clip(folder: Path, video: str, number: int, seed: int) -> dict[str, object]:
    """Writes the wav of one clip, 0.3 to 0.8 s of a tone in noise, and returns its row of label.csv."""
    random = np.random.default_rng(seed)
    seconds = np.arange(int(random.integers(4_800, 12_800))) / SAMPLE_RATE_HZ
    write_wav(folder / video / f"{number}.wav", 0.3 * np.sin(880 * seconds * (seed + 1)) + random.normal(0, 0.1, len(seconds)))
    return {
        "id": f"{video}_{number}",
        "video_id": video,
        "clip_id": number,
        "text": sentence(seed),
        "label": (seed % 7) - 3,
        "mode": ("train", "valid", "test")[seed % 3],
    }


def write_wav(path: Path, samples: np.ndarray) -> None:
    """Writes (S,) samples of full scale ±1 at 16 kHz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, len(samples), "NONE", ""))
        file.writeframes((samples.clip(-1, 1) * 32_767).astype("<i2").tobytes())


def sentence(seed: int) -> str:
    """Three to nine words."""
    random = np.random.default_rng(seed)
    return " ".join(random.choice(WORDS, size=int(random.integers(3, 10)))) + "."


def read_rows(path: Path) -> list[dict[str, object]]:
    """Reads a label.csv."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    """Writes a label.csv."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _donor(number: int) -> dict[str, object]:
    emotions = {emotion: int(position == number % 6) for position, emotion in enumerate(EMOTIONS)}
    name = {"id": f"donor{number}", "video_id": f"source{number // 3}", "clip_id": number}
    return name | {"text": sentence(1000 + number), "label": (-2, 0, 2)[number % 3], "mode": "train"} | emotions
