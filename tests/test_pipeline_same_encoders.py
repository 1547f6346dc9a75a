"""The encoders of a run are found by the SHA-256 of their files, wherever they are, with the settings that the identity states."""

import json
import os
import shutil
from pathlib import Path

import pytest
from adaptations import plan_adaptation, run

from data.errors import InputError
from data.feature_store import FeatureStore
from data.fingerprint import FileDigests
from pipeline import steps
from pipeline.encode import configure
from pipeline.encoding.checkpoints import identity, locate
from pipeline.plan import Plan
from pipeline.same_encoders import Places, find, read_encoders
from pipeline.settings import AdaptSettings, CorpusSettings, EncoderSettings


def made(name: str, modality: str, settings: EncoderSettings, dtype: str = "float16") -> dict[str, object]:
    """What config.json says of the features of an encoder."""
    source = locate(modality, settings)
    paths = [path for path in sorted(source.folder.iterdir()) if path.is_file()]
    digests = FileDigests(Path("/nowhere")).digests(paths)
    own = identity(modality, settings, source, dict(zip((path.name for path in paths), digests, strict=True)), dtype, "float32")
    return {"encoder": {"name": name, "revision": "", "trained": True}, "identity": json.loads(json.dumps(own)), "dim": 32}


def config(folder: Path, **encoders: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"encoders": encoders}), encoding="utf-8")
    return folder / "config.json"


AUDIO = EncoderSettings("tiny-data2vec", layers="mean(0..1)", context_s=1.5, frame_rate_hz=12.5)


def test_an_encoder_is_found_where_a_cache_has_used_it_and_luigi_cfg_says_the_same(tmp_path, tiny_bert):
    """The name in the run is of no account: this folder has another."""
    moved = shutil.copytree(tiny_bert, tmp_path / "50% ü" / "elsewhere")
    text = EncoderSettings(str(moved), layers="0,1", case="lower", max_tokens=20, context=2)
    path = config(tmp_path / "run", text=made("tiny-bert", "text", text), audio=made("tiny-data2vec", "audio", AUDIO))
    digests = FileDigests(tmp_path / "cache" / "fingerprints.json")
    for file in moved.iterdir():
        os.utime(file, (1e9, 1e9))  # younger files are not remembered
    digests.digests([file for file in moved.iterdir() if file.is_file()])
    found = find(read_encoders(path), Places((tmp_path / "cache",)), digests)
    assert found == {"text": text, "audio": EncoderSettings("tiny-data2vec", layers="mean(0,1)", context_s=1.5, frame_rate_hz=12.5)}
    assert list(find(read_encoders(path, ["audio"]), Places(), digests)) == ["audio"]
    clips = tmp_path / "clips-1"
    clips.mkdir()
    written = configure(path, clips, tmp_path / "made", Places((tmp_path / "cache",)), "cpu").read_text(encoding="utf-8").splitlines()
    assert f"model = {moved}".replace("%", "%%") in written
    assert {"layers = 0,1", "case = lower", "max_tokens = 20", "context = 2", "context_s = 1.5", "frame_rate_hz = 12.5"} <= set(written)
    assert {'modalities = ["text", "audio"]', "dtype = float16", "on_bad_media = exclude", "device = cpu"} <= set(written)
    (moved / "config.json").write_text((moved / "config.json").read_text() + "\n")
    where = r"the encoder tiny-bert, model.safetensors with the SHA-256 [0-9a-f]{64}, which is not at hand"
    with pytest.raises(
        InputError, match=rf"^The text features of the run come from {where}. Give its folder: --encoder text=FOLDER\.$"
    ):
        find(read_encoders(path), Places((tmp_path / "cache",)), digests)


def test_a_folder_that_is_given_counts_alone_and_another_encoder_is_refused(tmp_path, tiny_bert):
    settings = EncoderSettings(str(tiny_bert))
    path, digests = config(tmp_path / "run", text=made("x/y", "text", settings)), FileDigests(tmp_path / "fingerprints.json")
    assert find(read_encoders(path), Places(given={"text": tiny_bert}), digests) == {"text": settings}
    for given, said in (
        ({"txt": tiny_bert}, r"--encoder 'txt': the run has no such features. It has: text\.$"),
        ({"text": tmp_path}, r"no config.json"),
        (
            {"text": locate("text", EncoderSettings("minilm")).folder},
            r"not the encoder of the run: the SHA-256 of its config.json is 953f",
        ),
    ):
        with pytest.raises(InputError, match=said):
            find(read_encoders(path), Places(given=given), digests)
    other = made("x/y", "text", settings)
    other["identity"]["padding"] = "as it was once"
    with pytest.raises(InputError, match=r"its features have padding 'none: as the utterance alone', not 'as it was once'\.$"):
        find({"text": other}, Places(given={"text": tiny_bert}), digests)


def test_features_of_other_tools_and_of_unlike_builds_are_refused(tmp_path, tiny_bert):
    settings = EncoderSettings(str(tiny_bert))
    path = config(tmp_path / "run", vision={"encoder": "openface", "identity": {"origin": "x"}, "dim": 3})
    with pytest.raises(InputError, match=r"the vision features come from another tool, which has to make those of the clips, too"):
        read_encoders(path)
    both = {"text": made("b", "text", settings), "audio": made("tiny-data2vec", "audio", EncoderSettings("tiny-data2vec"), "float32")}
    with pytest.raises(InputError, match=r"differ in dtype \(text float16, audio float32\), which one build cannot make"):
        configure(config(tmp_path / "run", **both), tmp_path, tmp_path / "made", Places(given={"text": tiny_bert}), "cpu")
    (tmp_path / "run" / "config.json").write_text('{"encoders": {"text": {}}}')
    with pytest.raises(InputError, match=r"not the config.json of a run \('identity'\)"):
        read_encoders(tmp_path / "run" / "config.json")


@pytest.fixture
def taught(project) -> tuple[Plan, Path]:
    """The plan of a build whose text encoder has learned, and the folder of this encoder."""
    plan, adaptation = plan_adaptation(project, epochs=1)
    return plan, run(plan, adaptation)


def test_an_adapted_encoder_gives_clips_of_other_corpora_the_features_of_its_own_build(project, taught, tmp_path):
    """The build that only has the folder makes the same bytes under the same identity."""
    plan, folder = taught
    features = plan.features["clips", "text"]
    copied = shutil.copytree(folder, tmp_path / "copied")
    wanted = {"text": {"encoder": {"name": folder.name}, "identity": json.loads(json.dumps(features.identity)), "dim": 32}}
    digests = FileDigests(tmp_path / "fingerprints.json")
    assert find(wanted, Places((project.cache,)), digests) == {"text": EncoderSettings(str(folder), adapted=True)}
    with pytest.raises(
        InputError, match=rf"come from the adapted encoder {folder.name} \(encoders/{folder.name} in the cache of its build\)"
    ):
        find(wanted, Places(), digests)
    settings = find(wanted, Places(given={"text": copied}), digests)["text"]
    again = project.plan(
        cache=tmp_path / "cache", corpora=(CorpusSettings("other", "folder", project.clips),), features=(), modalities=("text",),
        text=settings, targets=(), donors=(),
    )  # fmt: skip
    other = again.features["other", "text"]
    assert json.loads(json.dumps(other.identity)) == wanted["text"]["identity"]
    assert other.encoder.tuning == features.encoder.tuning == "tuned elsewhere, then adapted on clips"
    for one, of in ((plan, features), (again, other)):
        for shard in of.shards:
            steps.make_shard(one, of, shard, "cpu", 1, lambda count: None)
        steps.merge_shards(one, of)
    with FeatureStore.open(features.path) as first, FeatureStore.open(other.path) as second:
        assert first.ids == second.ids
        assert first.read_all().tobytes() == second.read_all().tobytes()


def test_an_adapted_encoder_that_is_damaged_or_read_otherwise_is_refused(project, taught):
    _, folder = taught

    def plan(**changed: object) -> Plan:
        text = EncoderSettings(str(folder), adapted=True, **changed)
        return project.plan(text=text, targets=(), donors=())

    with pytest.raises(InputError, match=r"learned with case = 'sentence', but \[text\] has 'lower'. Set it so\.$"):
        plan(case="lower")
    with pytest.raises(InputError, match=r"\[text\] adapted is true, but \[adapt\] has text learn again. Choose one of the two\.$"):
        project.plan(text=EncoderSettings(str(folder), adapted=True), adapt=AdaptSettings(corpora=("clips",)))
    with (folder / "config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"a file is missing or has changed since the encoder learned. Copy it again\.$"):
        plan()
    (folder / "adapt.json").unlink()
    with pytest.raises(
        InputError, match=r"\[text\] adapted is true, but .* has no adapt.json; the folder of an adapted encoder is expected"
    ):
        plan()
