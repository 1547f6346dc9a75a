"""BuildFeatures end to end, in a process of its own: its files, the tasks that it repeats, and the failures that it survives."""

import collections
import json
import os
import pty
import random
import re
import signal
import socket
import subprocess
import termios
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from projects import LIMIT_S, Process, Project, executed, features, finish, forked, python, states, write_project, write_wav

from data.__main__ import main
from data.atomic import remove_strays
from data.feature_store import FeatureStore
from data.manifest import read_manifest
from data.media import decode
from pipeline.plan import Plan
from pipeline.settings import SAMPLE

RETRY_S = 0.05
NO_LABELS = {"corpora": {"folders": '{"clips": "clips"}'}, "pseudo_labels": {"targets": "[]", "donors": "[]"}}


def index(project: Project) -> dict:
    return json.loads((project.cache / "index.json").read_text(encoding="utf-8"))


def shards(plan: Plan, modality: str) -> dict[str, Path]:
    return {shard.name: shard.path for shard in plan.features["clips", modality].shards}


def shard_of(plan: Plan, modality: str, utterance_id: str) -> str:
    ids = plan.corpora["clips"].corpus.utterances["utterance_id"]
    return next(shard.name for shard in plan.features["clips", modality].shards if utterance_id in set(ids[list(shard.rows)]))


def damage(path: Path, utterance: int = 0) -> str:
    """Changes one byte of an utterance's values and returns its id."""
    with FeatureStore.open(path) as store:
        values, name = store.read(utterance, utterance + 1).tobytes(), store.ids[utterance]
    content = bytearray(path.read_bytes())
    content[content.index(values) + len(values) // 2] ^= 0x40
    path.write_bytes(content)
    return name


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def last_hidden_state(folder: Path, **inputs: torch.Tensor) -> np.ndarray:
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**inputs).last_hidden_state[0].numpy()


def test_index_names_everything_that_the_build_made(finished):
    named = index(finished)
    clips, donors = named["corpora"]["clips"], named["corpora"]["donors"]
    assert named["version"] == 1
    assert sorted(clips["features"]) == ["audio", "sentence", "text"]
    assert sorted(donors["features"]) == ["sentence"]
    paths = [named["report"], *(corpus["manifest"] for corpus in (clips, donors)), clips["pseudo_labels"]]
    paths += [*clips["features"].values(), *donors["features"].values()]
    made = states(finished.cache).keys()
    assert made - {path for path in made if path.startswith("shards/")} == {*paths, "index.json", ".index.lock"}


@pytest.fixture(scope="module")
def first_build(tmp_path_factory, tiny_bert):
    """A project and the result of its first build, in a fresh process, which imports everything itself."""
    project = write_project(tmp_path_factory.mktemp("first"), tiny_bert)
    return project, project.build("--log-level", "WARNING", fresh=True)


def test_summary_says_what_was_computed_and_without_a_terminal_lines_tell_the_progress(first_build):
    project, result = first_build
    assert result.returncode == 0
    progress = r"BuildFeatures: \d+ of 20 files, [\d,]+ of 120 clips \(\d+ %\).*"
    assert all(re.fullmatch(progress, line) for line in result.stderr.splitlines())
    assert result.stderr.splitlines()[-1].startswith("BuildFeatures: 20 of 20 files, 120 of 120 clips (100 %), ")
    first, *lines = result.stdout.strip().splitlines()
    assert first.startswith("BuildFeatures: computed 2 manifests, 18 shards, 4 features, 1 pseudo labels, 1 report; reused nothing; ")
    audio = np.diff(features(project)[Path(index(project)["corpora"]["clips"]["features"]["audio"]).name]["offsets"])
    assert re.fullmatch(rf"  clips +audio +24 utterances +{audio.sum()} × 64 +\d+\.\d MB  tiny-data2vec \(untrained\)", lines[1])
    assert lines[-2:] == [f"  cache    {project.cache}", f"  report   {project.cache / index(project)['report']}"]


def test_a_fresh_process_and_a_fork_build_the_same(first_build, finished):
    assert features(first_build[0]) == features(finished)
    assert states(first_build[0].cache).keys() == states(finished.cache).keys()


def test_features_are_what_the_untouched_model_gives_for_each_utterance_alone(finished):
    named = index(finished)["corpora"]["clips"]
    manifest = read_manifest(finished.cache / named["manifest"])
    stores = {modality: FeatureStore.open(finished.cache / path) for modality, path in named["features"].items()}
    tokenizer = transformers.AutoTokenizer.from_pretrained(finished.encoder)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(SAMPLE / "tiny-data2vec")
    for store in stores.values():
        assert list(store.ids) == manifest["utterance_id"].tolist()
        assert store.dtype == np.float32
    for row in manifest.iloc[::5].itertuples():
        tokens = last_hidden_state(finished.encoder, **tokenizer(row.text[0] + row.text[1:].lower(), return_tensors="pt"))
        np.testing.assert_allclose(stores["text"][row.utterance_id], tokens, atol=1e-5, rtol=0)
        np.testing.assert_allclose(stores["sentence"][row.utterance_id], tokens.mean(0, keepdims=True), atol=1e-5, rtol=0)
        waveform = decode(finished.clips / row.media)
        assert row.duration_s == len(waveform) / 16_000
        inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
        frames = last_hidden_state(SAMPLE / "tiny-data2vec", input_values=inputs["input_values"])
        np.testing.assert_allclose(stores["audio"][row.utterance_id], frames, atol=1e-5, rtol=0)


def test_a_build_with_nothing_to_do_imports_neither_torch_nor_transformers(finished):
    code = (
        "import atexit, sys; sys.argv = ['luigi', '--module', 'pipeline', 'BuildFeatures'];"
        " atexit.register(lambda: print('imported:', *sorted({'torch', 'transformers', 'matplotlib'} & set(sys.modules))));"
        " from luigi.cmdline import luigi_run; luigi_run()"
    )
    result = finish(python("-c", code, cwd=finished.root))
    assert result.returncode == 0, result.stderr
    assert "BuildFeatures: computed nothing; " in result.stdout
    assert result.stdout.splitlines()[-1] == "imported:"


def test_second_run_executes_nothing_and_touches_nothing(finished):
    before = states(finished.cache)
    again = finished.build()
    assert again.returncode == 0, again.stderr
    assert executed(again.stderr) == []
    assert again.stdout.strip().startswith(
        "BuildFeatures: computed nothing; reused 2 manifests, 4 features, 1 pseudo labels, 1 report;"
    )
    assert states(finished.cache) == before


def test_killed_builds_end_with_the_data_of_an_undisturbed_one(project, finished):
    project.configure(**NO_LABELS)
    chance = random.Random(7)
    for shards_before_kill, at_most_s in ((0, 1.5), (1, 0.1), (5, 0.1), (9, 0.02)):
        process = project.start()
        while len(list(project.cache.glob("shards/*/*/[!.]*.h5"))) < shards_before_kill and process.poll() is None:
            time.sleep(RETRY_S / 5)
        time.sleep(chance.uniform(0, at_most_s))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        survivors = states(project.cache / "shards")
        (project.cache / "shards").mkdir(parents=True, exist_ok=True)
        (project.cache / "shards" / f".left.h5.tmp~{socket.gethostname()}~{process.pid}").touch()
    result = project.build()
    assert result.returncode == 0, result.stderr
    assert len(features(project)) == 2
    assert features(project).items() <= features(finished).items()
    assert list(project.cache.rglob("*.tmp~*")) == []
    whole = {path: state for path, state in survivors.items() if ".tmp~" not in path}
    assert len(whole) >= 9
    assert whole.items() <= states(project.cache / "shards").items()
    assert len([task for task in executed(result.stderr) if task.startswith("FeatureShard")]) == 10 - len(whole)


def test_damaged_shards_are_rebuilt_and_a_truncated_feature_file_is_merged_again(built, finished):
    plan = built.plan()
    audio = shards(plan, "audio")
    corrupted, truncated, *_ = audio
    damage(audio[corrupted], 1)
    truncate(audio[truncated])
    plan.features["clips", "audio"].path.unlink()
    truncate(plan.features["clips", "text"].path)
    before = states(built.cache / "shards")
    result = built.build()
    assert result.returncode == 0, result.stderr
    rebuilt = {f"FeatureShard clips audio {name}" for name in (corrupted, truncated)}
    assert sorted(executed(result.stderr)) == sorted({*rebuilt, "Features clips audio", "Features clips text", "BuildFeatures"})
    after = states(built.cache / "shards")
    assert {path for path in after if after[path] != before[path]} == {
        str(audio[name].relative_to(built.cache / "shards")) for name in (corrupted, truncated)
    }
    assert features(built) == features(finished)


def test_four_workers_compute_every_shard_once_under_one_bar(project, finished):
    corpora = NO_LABELS["corpora"] | {"modalities": '["text"]'}
    project.configure(**NO_LABELS | {"corpora": corpora, "build": {"shard_clips": 12}})
    terminal, stderr = pty.openpty()
    termios.tcsetwinsize(stderr, (24, 100))
    process = project.start("--workers", "4", stderr=stderr)
    os.close(stderr)
    shown = bytearray()
    reader = threading.Thread(target=_read_all, args=(terminal, shown))
    reader.start()
    result = finish(process)
    reader.join()
    log = shown.decode()
    assert result.returncode == 0, log
    ran = [task for task in executed(log) if task.startswith("FeatureShard")]
    assert sorted(ran) == sorted(f"FeatureShard clips text {name}" for name in shards(project.plan(shard_clips=12), "text"))
    bars = re.findall(r"([^\r\n]*?): +\d+%\|[^|]*\| +\d+/(\d+)", log)
    assert set(bars) == {("clips: fingerprints of media", "24"), ("BuildFeatures", str(24 + 24))}
    assert re.search(r"BuildFeatures: 100%.*\d(?: clips/s|s/ clips)", log)
    values, expected = (FeatureStore.open(built.plan().features["clips", "text"].path).read_all() for built in (project, finished))
    np.testing.assert_allclose(values, expected, atol=1e-5, rtol=0)  # other shards, so other batches


def _read_all(terminal: int, into: bytearray) -> None:
    try:
        while chunk := os.read(terminal, 1 << 16):
            into += chunk
    except OSError:  # how a terminal says that nobody writes to it any more
        os.close(terminal)


@pytest.fixture
def scheduler(tmp_path):
    """Arguments for the workers of a luigid of their own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "luigid").mkdir()
    arguments = ["--address", "127.0.0.1", "--port", str(port), "--state-path", str(tmp_path / "luigid" / "state")]
    daemon = python("-c", "from luigi.cmdline import luigid; luigid()", *arguments, cwd=tmp_path / "luigid", stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not _listens(port):
        assert daemon.poll() is None
        assert time.monotonic() < deadline
        time.sleep(RETRY_S)
    yield ["--scheduler-host", "127.0.0.1", "--scheduler-port", str(port)]
    daemon.terminate()
    daemon.communicate(timeout=30)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_two_processes_with_a_luigid_compute_every_shard_once_and_both_wait_for_the_end(project, finished, scheduler):
    project.configure(**NO_LABELS | {"worker": {"wait_interval": 0.2, "wait_jitter": 0}})
    results = [finish(process) for process in [project.start(*scheduler) for _ in range(2)]]
    assert [result.returncode for result in results] == [0, 0], [result.stderr for result in results]
    ran = collections.Counter(task for result in results for task in executed(result.stderr))
    plan = project.plan()
    names = {f"FeatureShard clips {m} {name}" for m in ("audio", "text") for name in shards(plan, m)}
    assert {task for task in ran if task.startswith("FeatureShard")} == names
    assert set(ran.values()) == {1}
    assert sum("BuildFeatures: computed" in result.stdout for result in results) == 1
    expected = features(finished)
    for name, content in features(project).items():
        assert content == expected[name]


def test_two_processes_with_a_luigid_both_say_so_when_the_build_fails(built, scheduler):
    built.medium("video2_1").write_bytes(b"not a sound")
    built.configure(worker={"wait_interval": 0.2, "wait_jitter": 0})
    results = [finish(process) for process in [built.start(*scheduler, "--log-level", "WARNING") for _ in range(2)]]
    for result in results:
        assert result.returncode in (25, 30)
        assert "error: BuildFeatures has not finished" in result.stderr
        assert "Traceback" not in result.stderr
    assert any("video2_1" in result.stderr for result in results)


def test_two_workers_with_a_luigid_lose_one_output_by_a_kill_and_the_next_call_makes_the_bytes_of_a_local_build(
    project, finished, scheduler
):
    project.configure(**NO_LABELS | {"worker": {"wait_interval": 0.2, "wait_jitter": 0}})
    arguments = ("--workers", "2", *scheduler)
    first = project.start(*arguments)
    output = _kill_a_worker(project, first)
    result = finish(first)
    assert result.returncode == 30, result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ") and "its process was ended" in line]
    assert "(SIGKILL; by the system if memory is short" in line
    assert "error: BuildFeatures has not finished" in result.stderr
    assert "Traceback" not in result.stderr
    assert not output.exists()
    assert _processes_of(first) == []
    second = project.start(*arguments)
    again = finish(second)
    assert again.returncode == 0, again.stderr
    assert _processes_of(second) == []
    ran = {task for one in (result, again) for task in executed(one.stderr)}
    plan = project.plan()
    assert {task for task in ran if task.startswith("FeatureShard")} == {
        f"FeatureShard clips {modality} {name}" for modality in ("audio", "text") for name in shards(plan, modality)
    }
    expected = features(finished)
    made = features(project)
    assert len(made) == 2
    assert made == {name: expected[name] for name in made}
    assert list(project.cache.rglob("*.tmp~*")) == []
    assert not (project.cache / "locks").exists()


def _kill_a_worker(project: Project, build: Process) -> Path:
    """Kills a process of a build while it makes an output, and returns the output."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        assert build.poll() is None
        for lock in project.cache.glob("locks/*.lock"):
            maker = _maker(lock)
            if maker in (None, build.pid):
                continue
            os.kill(maker, signal.SIGSTOP)
            time.sleep(RETRY_S)  # until it has stopped
            if _maker(lock) == maker:
                os.kill(maker, signal.SIGKILL)
                return project.cache.joinpath(*lock.name.removesuffix(".lock").split("~"))
            os.kill(maker, signal.SIGCONT)
    raise AssertionError("no worker has made an output")


def _maker(lock: Path) -> int | None:
    """Returns the number of the process that holds a lock of an output, if one does."""
    try:
        found = re.search(r"^pid=(\d+)$", lock.read_text(encoding="utf-8"), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(found[1]) if found else None


def _processes_of(build: Process) -> list[str]:
    """Returns the processes of the group of a build that have not ended."""
    states = [path.read_text(encoding="ascii").rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat")]
    return [" ".join(fields[:3]) for fields in states if int(fields[2]) == build.pid and fields[0] != "Z"]


def test_a_build_repeats_only_what_a_change_touches_as_explain_has_said(built):
    before = states(built.cache)
    built.edit("video0_1", text="Nobody laughed.")
    built.edit("video5_0", label=2)
    write_wav(built.medium("video3_2"), np.random.default_rng(5).normal(0, 0.1, 8_000))
    for path in built.clips.rglob("*.wav"):
        os.utime(path)
    explained = finish(forked("-m", "pipeline", "explain", cwd=built.root))
    assert explained.returncode == 0, explained.stderr
    assert states(built.cache) == before
    plan = built.plan()
    text, audio = shard_of(plan, "text", "video0_1"), shard_of(plan, "audio", "video3_2")
    (sizes,) = {len(plan.features["clips", modality].shards) for modality in ("text", "audio")}
    lines = [re.sub(r", 24 utterances:", ":", line.strip()) for line in explained.stdout.splitlines()]
    for modality, shard, name in (("text", text, "video0_1"), ("sentence", text, "video0_1"), ("audio", audio, "video3_2")):
        rows = next(len(planned.rows) for planned in plan.features["clips", modality].shards if planned.name == shard)
        at = lines.index(f"features      clips {modality}: 1 of 24 utterances changed ({name})")
        assert lines[at + 1] == f"1 of {sizes} shards, {rows} utterances to encode"
    assert not [line for line in lines if line.startswith(("features      donors", "manifest      donors"))]
    result = built.build()
    assert result.returncode == 0, result.stderr
    changed = [f"FeatureShard clips {name}" for name in (f"text {text}", f"sentence {text}", f"audio {audio}")]
    merged = [f"Features clips {modality}" for modality in ("text", "sentence", "audio")]
    rest = ["Manifest clips", "PseudoLabels clips", "Report", "BuildFeatures"]
    assert sorted(executed(result.stderr)) == sorted([*changed, *merged, *rest])
    assert {path: state for path, state in before.items() if path.startswith("shards/")}.items() <= states(built.cache).items()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"corpora": {"folders": '{"clips": "nowhere"}'}, "pseudo_labels": {}}, "nowhere: does not exist; expected the folder of a"),
        ({"text": {"model": "roberta-bass"}}, "'roberta-bass'. Did you mean 'roberta-base'? Available: minilm, "),
        ({"build": {"dtpye": "float16"}}, "Unknown setting in section [build] of luigi.cfg: 'dtpye'. Did you mean 'dtype'?"),
        ({"pseudo_label": {"neighbours": 3}}, "unknown section [pseudo_label]. Did you mean [pseudo_labels]?"),
        ({"build": {"dtype": "float17"}}, "Unknown [build] dtype 'float17'. Did you mean 'float16'? Available: float16, float32."),
        ({"build": {"shard_clips": "many"}}, "luigi.cfg, section [build]: shard_clips is 'many': invalid literal for int()"),
        ({"corpora": {"folders": '["clips"]'}}, "section [corpora]: folders is '[\"clips\"]': expected"),
        ({"pseudo_labels": {"targets": '["clip"]'}}, "Unknown corpus in [pseudo_labels] targets: 'clip'. Did you mean 'clips'?"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_settings_is_one_line_and_a_failure(project, changed, message):
    if "nowhere" in message:
        changed = NO_LABELS | changed | {"pseudo_labels": NO_LABELS["pseudo_labels"]}
    project.configure(**changed)
    result = project.build()
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("INFO:")]
    assert line.startswith("error: ")
    assert message in line
    assert not (project.cache / "features").exists()


def test_bad_media_stop_the_build_with_the_list_of_them(built):
    bad = ["video2_1", "video6_0"]
    for name in bad:
        built.medium(name).write_bytes(b"not a sound")
    before = states(built.cache / "features")
    result = built.build("--log-level", "WARNING")
    assert result.returncode == 30
    assert "Traceback" not in result.stderr
    assert re.findall(r"^  (video\w+): ", result.stderr, re.MULTILINE) == bad
    assert "2 of 24 utterances cannot be used" in result.stderr
    assert "set on_bad_media = exclude" in result.stderr
    assert states(built.cache / "features") == before


def test_a_gpu_that_is_not_there_is_one_message(built, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = built.plan()
    plan.features["clips", "audio"].path.unlink()
    for path in shards(plan, "audio").values():
        path.unlink()
    built.configure(build={"device": "cuda"})
    result = built.build("--log-level", "WARNING")
    assert result.returncode == 30
    error, end = result.stderr.splitlines()
    assert re.match(r"ERROR: FeatureShard\(.*\): device = cuda means a GPU here, but torch \S+ cannot use one\. .* device = cpu", error)
    assert end == "error: BuildFeatures has not finished. The next run continues from the files that exist."


def test_excluded_media_are_named_and_leave_the_others_alone(built, finished):
    plan = built.plan()
    lone = next(shard for shard in plan.features["clips", "audio"].shards if len(shard.rows) == 3)
    ids = plan.corpora["clips"].corpus.utterances["utterance_id"]
    bad = sorted({*ids[list(lone.rows)], "video0_2"})
    for name in bad:
        built.medium(name).write_bytes(b"not a sound")
    built.configure(build={"on_bad_media": "exclude"})
    result = built.build()
    assert result.returncode == 0, result.stderr
    assert f"  clips    {len(bad)} utterances excluded, by name in the report" in result.stdout
    named = index(built)["corpora"]["clips"]
    manifest = read_manifest(built.cache / named["manifest"]).set_index("utterance_id")
    assert sorted(manifest.index[manifest["excluded"] != ""]) == bad
    assert all("not a media file" in manifest.loc[name, "excluded"] for name in bad)
    assert named["features"]["text"] == index(finished)["corpora"]["clips"]["features"]["text"]
    audio, undisturbed = (
        FeatureStore.open(project.cache / index(project)["corpora"]["clips"]["features"]["audio"]) for project in (built, finished)
    )
    assert list(audio.ids) == [name for name in ids if name not in bad]
    for name in audio.ids:
        np.testing.assert_array_equal(audio[name], undisturbed[name])
    assert remove_strays(built.cache) == []


def test_a_further_set_is_all_that_is_computed_and_joined_features_stay(built):
    before, text = features(built), index(built)["corpora"]["clips"]["features"]["text"]
    with FeatureStore.open(built.cache / text) as store:
        lengths = store.lengths
        (built.root / "openface").mkdir()
        for name in store.ids:
            np.save(built.root / "openface" / f"{name}.npy", np.full((2, 3), len(name), np.float32))
    place = ["--cache", str(built.cache), "--corpus", "clips"]
    assert main(["import", str(built.root / "openface"), "--format", "npy", "--modality", "vision", *place]) == 0
    built.configure(**{"text.lower": {"model": built.encoder, "case": "lower"}})
    result = built.build()
    assert result.returncode == 0, result.stderr
    made = [task for task in executed(result.stderr) if task.startswith(("FeatureShard", "Features ", "Manifest"))]
    assert {task.split()[0]: task.split()[2] for task in made} == {"FeatureShard": "text.lower", "Features": "text.lower"}
    named = index(built)["corpora"]["clips"]
    assert list(named["features"]) == ["text", "text.lower", "audio", "sentence", "vision"]
    assert (named["features"]["text"], named["joined"]) == (text, ["vision"])
    after = features(built)
    assert {name: after[name] for name in before} == before
    with FeatureStore.open(built.cache / named["features"]["text.lower"]) as store:
        assert store.attrs["identity"]["case"] == "lower"
        assert store.attrs["modality"] == "text"
        assert len(store.lengths) == len(lengths)
    assert re.search(r"clips    text\.lower +24 utterances", result.stdout)
    assert executed(built.build().stderr) == []
