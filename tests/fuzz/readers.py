"""Every reader of the program, with a small valid input that is made here, and what a command does with it."""

import os
import random
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import predictions
import small_runs
import torch
import yaml
from caches import make_cache
from fuzz.harness import Reader, cleared
from fuzz.mutations import BYTES, TEXT, Mutation
from luigi.cmdline_parser import CmdlineParser
from luigi.configuration import LuigiConfigParser
from tiny_checkpoints import write_audio_checkpoint, write_text_checkpoint
from tones import encode, tone, write_wav

from data.cache import open_corpus, read_cache
from data.corpora import read_corpus, recognise
from data.corpora.base import Corpus
from data.corpora.own_files import gather, write_folder
from data.csd import Entry, read_csd, write_csd
from data.feature_store import FeatureStore
from data.fingerprint import FileDigests
from data.interchange.commands import EXPORTS, IMPORTS, JOINS
from data.interchange.imported import write_corpus
from data.interchange.joined import join
from data.manifest import read_attributes, read_manifest, summarise
from data.media import SAMPLE_RATE_HZ, decode
from data.targets import load_targets
from data.tensors import CorpusTensors
from heads.runs.config import make_config
from heads.runs.evaluate import reopen
from heads.runs.external import read_predictions
from heads.runs.folder import RunFolder
from heads.sweeps.grid import read_grid
from heads.sweeps.results.report import write_report
from heads.sweeps.results.trials import collect
from heads.sweeps.search import STUDY, Search
from pipeline import tasks  # noqa: F401  # Luigi registers a task when its class is made
from pipeline.config import expect_usable_files, read_settings
from pipeline.config_file import expect_readable_files
from pipeline.encoding import encoders
from pipeline.encoding.checkpoints import expect_whole, files, locate
from pipeline.settings import SAMPLE, EncoderSettings

CORPUS = "mosi"
ALL = frozenset(BYTES)
_SPEECH = tone(SAMPLE_RATE_HZ, 0.5)


def _pickle_opcodes(rng: random.Random, content: bytes) -> bytes:
    """Insert opcodes of a pickle: deep tuples, distant memo entries, long integers, names, states."""
    hostile = rng.choice(
        (
            b"\x85" * 100_000,
            b"}" * rng.choice((3, 100_000)),
            b"r" + rng.randbytes(4),
            b"j" + rng.randbytes(4),
            b"p999999999\n",
            b"\x8b\xff\xff\x00\x00",
            b"L" + b"9" * 5000 + b"L\n",
            b"cos\nsystem\n",
            b"\x95" + rng.randbytes(8),
            b"\x8e" + rng.randbytes(8),
            b"0", b"1", b"2", b"(", b"a", b"b", b"e", b"h\x00", b"o", b"s", b"t", b"u", b"}b", b"R", b"\x81", b"\x91", b"\x93", b"\x94",
        )
    )  # fmt: skip
    start = rng.randrange(2, len(content))
    return content[:start] + hostile + content[start:]


def _npy_header(rng: random.Random, content: bytes) -> bytes:
    """Replace a number, a type or a flag in the header of a `.npy` file."""
    head, end = content[:128], content[128:]
    found = list(re.finditer(rb"\d+|<f4|False|\(|\)|'", head[10:]))
    match = rng.choice(found)
    other = rng.choice((b"99999999999", b"0", b"-1", b"True", b"|O", b"<c8", b"(" * 50, b"", b"1e9", b"<U1"))
    return head[: 10 + match.start()] + other + head[10 + match.end() :] + end


def _media(codec: str, name: str, rate_hz: int = 44_100) -> Callable[[Path], list[Path]]:
    return lambda folder: [encode(folder / name, codec, rate_hz, 2, duration_s=0.5, picture=name.endswith(".mp4"))]


def _wav(folder: Path) -> list[Path]:
    return [write_wav(folder / "clip.wav", (tone(SAMPLE_RATE_HZ, 0.5) * 30_000).astype(np.int16))]


def _decode(folder: Path) -> np.ndarray:
    return decode(next(folder.iterdir()))


def _clips(folder: Path) -> list[Path]:
    table = pd.DataFrame(
        {
            "id": [f"v{number // 3}_{number}" for number in range(9)],
            "video_id": [f"v{number // 3}" for number in range(9)],
            "clip_id": range(9),
            "text": [f'It runs, "{number}" hours; I\'d see it twice.' for number in range(9)],
            "label": np.linspace(-3, 3, 9),
            "split": ["train", "valid", "test"] * 3,
            "speaker": "ann",
        }
    )
    table.to_csv(folder / "label.csv", index=False)
    return [folder / "label.csv"]


def _sample(name: str, damaged: str, without: str = "") -> Callable[[Path], list[Path]]:
    """Copy a bundled corpus, its media as links; the files that match `damaged` are damaged."""

    def prepare(folder: Path) -> list[Path]:
        root = SAMPLE / name
        for file in (file for file in root.rglob("*") if file.is_file() and file.name != without):
            copy = folder / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix in (".csv", ".txt", ".csd"):
                shutil.copyfile(file, copy)
            else:
                copy.symlink_to(file)
        return sorted(folder.glob(damaged))

    return prepare


def _transcripts(folder: Path) -> list[Path]:
    """Write MOSI as CMU releases it, with splits."""
    entries = []
    for number, video in enumerate(("v0", "v1", "v2")):
        path = folder / "Raw" / "Transcript" / "Segmented" / f"{video}.annotprocessed"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}_DELIM_IT RUNS {line} HOURS\n" for line in range(1, 5)))
        times = np.array([[2.0 * k, 2 * k + 1.5] for k in range(4)])
        entries.append((video, Entry(np.linspace(-3, number, 4, dtype=np.float32)[:, None], times)))
    write_csd(folder / "CMU_MOSI_Opinion_Labels.csd", "Opinion Segment Labels", entries)
    (folder / "splits.csv").write_text("video_id,split\nv0,train\nv1,valid\nv2,test\n")
    return [*folder.rglob("*.annotprocessed"), folder / "splits.csv"]


def _mosi(folder: Path) -> list[Any]:
    return _of(read_corpus("mosi", folder, CORPUS))


def _corpus(folder: Path) -> list[Any]:
    return _of(read_corpus(recognise(folder), folder, CORPUS))


def _folder_corpus(folder: Path) -> list[Any]:
    return _of(read_corpus("folder", folder, CORPUS))


def _texts(folder: Path) -> list[Any]:
    clips = gather({}, folder / "label.csv").clips
    write_folder(folder / "clips", clips, [])
    return [*clips, read_corpus("folder", folder / "clips", CORPUS).utterances]


def _of(corpus: Corpus) -> list[Any]:
    return [corpus.layout, corpus.utterances, [(one.kind, one.message) for one in corpus.findings]]


def _csd(folder: Path) -> list[Path]:
    entries = [
        (f"v{number}[{part}]", Entry(np.ones((1, 7)) * number, np.array([[0.0, 1.0]]))) for number in range(4) for part in range(3)
    ]
    write_csd(folder / "labels.csd", "All Labels", entries)
    return [folder / "labels.csd"]


def _read_csd(folder: Path) -> list[Any]:
    sequence = read_csd(folder / "labels.csd")
    return [sequence.metadata, {name: [entry.intervals, entry.features] for name, entry in sequence.entries.items()}]


def _exported(format: str) -> Callable[[Path], list[Path]]:
    def prepare(folder: Path) -> list[Path]:
        cache = make_cache(folder.parent / "cache", utterances=12)
        out = folder / "export"
        EXPORTS[format](open_corpus(cache, CORPUS), out, {})
        return [out] if out.is_file() else sorted(out.glob("*/*.npy"))[:3] + sorted(out.glob("*.csv")) + sorted(out.glob("*.json"))

    return prepare


def _imported(format: str) -> Callable[[Path], list[Any]]:
    def read(folder: Path) -> list[Any]:
        cache = cleared(folder.parent / "imported")
        notes = write_corpus(cache, IMPORTS[format](folder / "export", CORPUS))
        corpus = open_corpus(cache, CORPUS)
        return [notes, read_manifest(corpus.manifest), [FeatureStore.open(path).read_all() for path in corpus.features.values()]]

    return read


def _to_join(format: str) -> Callable[[Path], list[Path]]:
    def prepare(folder: Path) -> list[Path]:
        corpus = open_corpus(make_cache(folder.parent / "cache", utterances=12), CORPUS)
        out, rng = folder / "export", np.random.default_rng(0)
        if format == "mmsa":
            EXPORTS[format](corpus, out, {})
            return [out]
        values = {name: rng.standard_normal((3, 2)) for name in read_manifest(corpus.manifest)["utterance_id"]}
        if format == "csd":
            write_csd(out, "vision", ((name, Entry(rows, np.arange(6.0).reshape(3, 2))) for name, rows in values.items()))
            return [out]
        out.mkdir()
        for name, rows in values.items():
            np.save(out / f"{name}.npy", rows)
        return sorted(out.iterdir())

    return prepare


def _joined(format: str, name: str) -> Callable[[Path], list[Any]]:
    def read(folder: Path) -> list[Any]:
        cache = cleared(folder.parent / "joined")
        shutil.copytree(folder.parent / "cache", cache, dirs_exist_ok=True)
        notes = join(cache, CORPUS, name, JOINS[format](folder / "export", name), folder / "export", "exclude")
        with FeatureStore.open(open_corpus(cache, CORPUS).features[name]) as store:
            return [notes, store.ids, store.read_all(), store.attrs["missing"]]

    return read


def _cache(*names: str) -> Callable[[Path], list[Path]]:
    """Make a cache with pseudo-labels; the files of these names are damaged."""

    def prepare(folder: Path) -> list[Path]:
        make_cache(folder, utterances=12, ledger=True)
        return [folder / name for name in names]

    return prepare


def _features(folder: Path) -> list[Any]:
    with FeatureStore.open(folder / "features" / f"{CORPUS}-text.h5") as store:
        facts = {name: value for name, value in store.attrs.items() if name != "when"}
        return [facts, store.ids, store.sources, store.offsets, [store[name] for name in store.ids]]


def _trained_on(folder: Path) -> list[np.ndarray]:
    corpus = open_corpus(folder, CORPUS)
    tensors = CorpusTensors.load(corpus, load_targets(corpus), device="cpu", memory_bytes=0)
    batch = tensors.batch(np.arange(len(tensors.targets)))
    return [values.numpy() for values in batch.features.values()]


def _manifest(folder: Path) -> list[Any]:
    path = folder / "manifests" / f"{CORPUS}.parquet"
    return [summarise(path), read_attributes(path), read_manifest(path)]


def _ledger(folder: Path) -> np.ndarray:
    return load_targets(open_corpus(folder, CORPUS), "pseudo").emotions


def _index(folder: Path) -> list[Any]:
    return [(name, [str(path.relative_to(folder)) for _, path in corpus.files()]) for name, corpus in read_cache(folder).items()]


def _memo(folder: Path) -> list[Path]:
    for number in range(3):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 100)
        os.utime(folder / f"{number}.bin", ns=(10**18, 10**18))
    _digests(folder)
    return [folder / "fingerprints.json"]


def _digests(folder: Path) -> list[str]:
    return FileDigests(folder / "fingerprints.json").digests(sorted(folder.glob("*.bin")))


def _luigi_cfg(folder: Path) -> list[Path]:
    (folder / "luigi.cfg").write_text(
        '[corpora]\nmosi = data/mosi\nmeld = data/meld\nfolders = {"mine": "clips"}\nfeatures = ["mine"]\n\n'
        "[build]\ncache = cache\ndtype = float32\nshard_clips = 7\non_bad_media = exclude\n\n"
        "[text]\nmodel = minilm\nlayer = 1\nmax_tokens = 50\ncase = keep\n\n[audio]\nlayer = -1\n\n"
        "[pseudo_labels]\nneighbours = 5\nminimum_similarity = 0.25\n"
        'targets = ["mosi"]\ndonors = ["meld"]\ncategories = {"fru": "anger"}\n'
    )
    return [folder / "luigi.cfg"]


def _settings(folder: Path) -> str:
    """Read the settings as the command `luigi` does: the files as text first, then Luigi's parser, then the values."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        expect_readable_files()
        LuigiConfigParser._instance = None
        expect_usable_files()
        with CmdlineParser.global_instance(["BuildFeatures"]):
            return str(read_settings())
    finally:
        os.chdir(before)


def _checkpoint_of(write: Callable[[Path, str], Any], architecture: str) -> Callable[[Path], list[Path]]:
    def prepare(folder: Path) -> list[Path]:
        write(folder / "model", architecture)
        return [file for file in (folder / "model").iterdir() if file.is_file()]

    return prepare


def _encoded(modality: str, utterance: Any) -> Callable[[Path], list[np.ndarray]]:
    """Return a reader that checks a checkpoint as a plan does, and encodes one utterance."""

    def read(folder: Path) -> list[np.ndarray]:
        settings = EncoderSettings(str(folder / "model"))
        source = locate(modality, settings)
        expect_whole(files(modality, source))
        encoder = encoders.make(modality, source, settings)
        return encoder.encode([encoder.prepare(utterance)])

    return read


def _grid(folder: Path) -> list[Path]:
    content = {
        "head": "mmolre",
        "seeds": [1, 2],
        "fixed": {"train.max_epochs": 2, "model.dim": 8},
        "grid": {"train.lr": [0.001, 0.01], "model.mixture.top_k": [1, 2]},
        "random": {"count": 2, "seed": 3, "train.weight_decay": {"log_uniform": [1e-5, 1e-2]}},
    }
    (folder / "grid.yaml").write_text(yaml.safe_dump(content))
    return [folder / "grid.yaml"]


def _read_grid(folder: Path) -> list[str]:
    return [f"{config.key()} {config.seed}" for config in read_grid(folder / "grid.yaml", CORPUS).configs()]


def _preset(folder: Path) -> list[Path]:
    (folder / "preset.yaml").write_text(yaml.safe_dump({"train": {"lr": 0.01, "max_epochs": 3}, "model": {"dim": 8, "output": [8, 4]}}))
    return [folder / "preset.yaml"]


def _read_preset(folder: Path) -> str:
    return str(make_config("pre-fusion", CORPUS, str(folder / "preset.yaml")))


def _run(folder: Path) -> list[Path]:
    """Train one small run, below a sweep, and let another one fail."""
    cache = make_cache(folder.parent / "cache", utterances=12)
    made = small_runs.run(cache, folder / "trials", changes={"train.max_epochs": 1, "train.keep": []})
    failed = RunFolder(shutil.copytree(made.path, made.path.with_name(made.path.name[:-1] + "2")))
    (failed.path / "metrics.json").unlink()
    failed.write_failure("Epoch 1: the validation loss is not finite.")
    return sorted(file for file in folder.rglob("*") if file.suffix in (".json", ".csv", ".parquet", ".safetensors"))


def _checkpoint(folder: Path) -> list[Path]:
    """Write what a run has on disk before it is finished: the parameters of an epoch, and the state."""
    tensors = {"weight": torch.arange(600.0).reshape(20, 30), "bias": torch.ones(20, dtype=torch.bfloat16)}
    run = RunFolder(folder)
    run.save_checkpoint("checkpoint.safetensors", tensors)
    run.save_state(tensors, {"history": [{"epoch": 1}], "selection": {"best": 0.5}})
    return sorted(folder.glob("*.safetensors"))


def _read_checkpoint(folder: Path) -> list[Any]:
    run = RunFolder(folder)
    state = run.load_state()
    found = [run.load_checkpoint("checkpoint.safetensors"), *(state or ())]
    return [run.saved_epochs, str(state and state[1]), [_bytes_of(tensors) for tensors in found[:2]]]


def _bytes_of(tensors: Mapping[str, Any]) -> dict[str, tuple[str, bytes]]:
    return {name: (str(tensors[name].dtype), tensors[name].view(torch.uint8).numpy().tobytes()) for name in sorted(tensors)}


def _run_predictions(folder: Path) -> list[Path]:
    manifest = read_manifest(open_corpus(make_cache(folder.parent / "cache", utterances=12), CORPUS).manifest)
    table = predictions.made_up(manifest).rename(columns={"id": "utterance_id"})
    truth = {f"{name}_true": table[name] for name in table.columns if name != "utterance_id"}
    RunFolder(folder).write_predictions("predictions.parquet", table.assign(**truth), {"split": "valid"})
    return [folder / "predictions.parquet"]


def _of_run(folder: Path) -> list[Any]:
    """Read what `evaluate` reads, and what `sweep` reads when it goes on."""
    read: list[Any] = [collect(folder)]
    for run in map(RunFolder, sorted((folder / "trials").iterdir())):
        if run.is_complete:
            reopen(run, None, torch.device("cpu"))
            read.append({name: tensor.numpy() for name, tensor in run.load_checkpoint("checkpoint.safetensors").items()})
    return read


def _swept(folder: Path) -> list[Path]:
    return [*_run(folder), *_grid(folder)]


def _sweep_report(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def _study(folder: Path) -> list[Path]:
    """Begin a search: trials that have ended, with values after each epoch, and one that is in progress."""
    (folder / "short.yaml").write_text("seed: 3\n")
    space = "{train.lr: {log_uniform: [1.0e-5, 1.0e-1]}, train.batch_size: {choice: [4, 8]}, count: 8, seed: 5}"
    (folder / "grid.yaml").write_text(f"head: ridge\ncorpus: mosi\npreset: {folder / 'short.yaml'}\nrandom: {space}\n")
    with _search(folder) as search:
        for number, _ in search.ask(4):
            for epoch in range(1, 4):
                search.report(number, epoch, 1 / (number + epoch))
            if number < 3:
                search.tell(number, float(number), "complete")
    return [folder / "sweep" / STUDY]


def _search(folder: Path) -> Search:
    return Search(folder / "sweep", read_grid(folder / "grid.yaml", None), "mae", search="optuna", prune="asha")


def _go_on(folder: Path) -> list[Any]:
    done = []
    with _search(folder) as search:
        for number, config in search.ask(3):
            done.append([number, config.key(), search.report(number, 4, 0.5)])
            search.tell(number, 0.5, "complete")
    return done


def _predictions(folder: Path) -> list[Path]:
    corpus = open_corpus(make_cache(folder.parent / "cache", utterances=12), CORPUS)
    return [predictions.written(folder / "predictions.csv", predictions.made_up(read_manifest(corpus.manifest)))]


def _read_predictions(folder: Path) -> list[Any]:
    found = read_predictions(folder / "predictions.csv")
    corpus = open_corpus(folder.parent / "cache", CORPUS)
    return [found.task, found.table, found.stranger(corpus)]


_PICKLE: Mapping[str, Mutation] = {**BYTES, "pickle_opcodes": _pickle_opcodes, "pickle_opcodes_2": _pickle_opcodes}
_FOLDER: Mapping[str, Mutation] = {**BYTES, **TEXT}


def _table(*readers: Reader) -> Mapping[str, Reader]:
    return {reader.name: reader for reader in readers}


READERS: Mapping[str, Reader] = _table(
    Reader("wav", _wav, _decode, guarded=frozenset({"cut"})),
    Reader("flac", _media("flac", "clip.flac"), _decode, guarded=ALL),
    Reader("mp3", _media("mp3", "clip.mp3"), _decode),
    Reader("ogg", _media("libopus", "clip.ogg", 48_000), _decode, guarded=ALL),
    Reader("mp4", _media("aac", "clip.mp4"), _decode),
    Reader("webm", _media("libopus", "clip.webm", 48_000), _decode),
    Reader("label.csv", _clips, _folder_corpus, TEXT),
    Reader("table of texts", _clips, _texts, TEXT),
    Reader("MOSI table", _sample("mosi", "label.csv"), _corpus, TEXT),
    Reader("MOSI transcripts", _transcripts, _mosi, TEXT),
    Reader("MOSEI table", _sample("mosei", "label.csv"), _corpus, TEXT),
    Reader("MOSEI transcripts", _sample("mosei", "Raw/Transcript/**/*.txt", "label.csv"), _corpus, TEXT),
    Reader("MOSEI labels", _sample("mosei", "*.csd", "label.csv"), _corpus),
    Reader("MELD tables", _sample("meld", "*.csv"), _corpus, TEXT),
    Reader("IEMOCAP", _sample("iemocap", "**/*.txt"), _corpus, TEXT),
    Reader("csd", _csd, _read_csd),
    Reader("MMSA pickle", _exported("mmsa"), _imported("mmsa"), _PICKLE),
    Reader("MERBench", _exported("merbench"), _imported("merbench"), _FOLDER),
    Reader("joined npy", _to_join("npy"), _joined("npy", "vision"), {**BYTES, "npy_header": _npy_header}),
    Reader("joined csd", _to_join("csd"), _joined("csd", "vision")),
    Reader("joined MMSA", _to_join("mmsa"), _joined("mmsa", "text.mmsa"), _PICKLE),
    Reader("feature file", _cache(f"features/{CORPUS}-text.h5"), _features, guarded=ALL),
    Reader("training", _cache(f"features/{CORPUS}-text.h5", f"features/{CORPUS}-audio.h5"), _trained_on, guarded=ALL),
    Reader("manifest", _cache(f"manifests/{CORPUS}.parquet"), _manifest, guarded=ALL),
    Reader("ledger", _cache(f"pseudo_labels/{CORPUS}.parquet"), _ledger, guarded=ALL),
    Reader("index.json", _cache("index.json"), _index, TEXT),
    Reader("fingerprints.json", _memo, _digests, TEXT, frozenset(TEXT)),
    Reader("luigi.cfg", _luigi_cfg, _settings, TEXT),
    Reader("text encoder", _checkpoint_of(write_text_checkpoint, "bert"), _encoded("text", "word1 word7"), _FOLDER, share=0.5),
    Reader("speech encoder", _checkpoint_of(write_audio_checkpoint, "hubert"), _encoded("audio", _SPEECH), _FOLDER, share=0.5),
    Reader("grid", _grid, _read_grid, TEXT),
    Reader("preset", _preset, _read_preset, TEXT),
    Reader("run folder", _run, _of_run, _FOLDER),
    Reader("sweep report", _swept, _sweep_report, _FOLDER, share=0.1),
    Reader("study", _study, _go_on, TEXT),
    Reader("checkpoint", _checkpoint, _read_checkpoint, guarded=ALL),
    Reader("run predictions", _run_predictions, lambda folder: RunFolder(folder).predictions(), guarded=ALL),
    Reader("predictions", _predictions, _read_predictions, TEXT),
)
"""Name → reader."""


def choose(names: Iterable[str]) -> list[Reader]:
    """Return the readers of these names, all if there are none."""
    return [READERS[name] for name in names] or list(READERS.values())
