"""Every missing output is explained by the change that made it necessary, and explaining writes nothing."""

import dataclasses
import os
import re
import shutil

import numpy as np
from projects import read_rows, states, write_rows, write_wav

from data.feature_store import FeatureStore
from pipeline import steps
from pipeline.explain import explain
from pipeline.outputs import missing, shard_is_sound
from pipeline.plan import Plan
from pipeline.settings import EncoderSettings


def reason(plan: Plan, output: str) -> str:
    """Returns the reason for one output, without its size."""
    lines = [re.sub(r", [\d,]+ utterances:", ":", line) for line in explain(plan)]
    (line,) = [line for line in lines if re.match(rf" +{output}:", re.sub(" +", " ", line))]
    return line.partition(": ")[2]


def described(plan: Plan) -> list[str]:
    return [re.sub(" +", " ", line.strip()).partition(",")[0].partition(":")[0] for line in explain(plan)[1:] if line[2] != " "]


def test_a_finished_build_has_nothing_to_do(finished):
    assert explain(finished.plan()) == ["Everything exists; BuildFeatures would run no task."]


def test_before_the_first_build_everything_is_never_computed(project):
    plan = project.plan()
    lines = explain(plan)
    assert lines[0] == f"BuildFeatures would make 26 of 26 outputs in {project.cache}:"
    assert reason(plan, "manifest clips") == "never computed"
    assert reason(plan, "features clips audio") == "never computed"
    assert reason(plan, "pseudo labels clips") == "never computed"
    assert "    5 of 5 shards, 24 utterances to encode" in lines
    assert not (project.cache / "features").exists()


def test_explaining_writes_nothing(built):
    before = states(built.cache)
    built.edit("video1_1", text="Nobody cried.")
    explain(built.plan())
    assert states(built.cache) == before


def test_a_changed_transcript_is_named_and_audio_is_not_mentioned(built):
    built.edit("video1_1", text="Nobody cried.")
    plan = built.plan()
    assert described(plan) == [
        "manifest clips",
        "features clips text",
        "features clips sentence",
        "pseudo labels clips",
        "report report",
    ]
    assert reason(plan, "features clips text") == "1 of 24 utterances changed (video1_1)"
    assert reason(plan, "manifest clips").startswith("table ")
    assert re.fullmatch(r"embeddings clips \w+ → \w+; labels clips \w+… → \w+…", reason(plan, "pseudo labels clips"))
    assert sum("1 of 5 shards" in line for line in explain(plan)) == 2


def test_a_changed_neighbour_is_told_from_a_changed_transcript(built):
    built.split_by_video()
    in_context = EncoderSettings(str(built.encoder), context=2)
    assert reason(built.plan(text=in_context), "features clips text") == "encoder: context none → 2"
    _make(built.plan(text=in_context), "text")
    built.edit("video1_0", text="Nobody cried.")
    plan = built.plan(text=in_context)
    assert reason(plan, "features clips text") == (
        "1 of 24 utterances changed (video1_0); 2 of 24 utterances with other previous utterances as context (video1_1, video1_2)"
    )
    assert reason(plan, "features clips sentence") == "1 of 24 utterances changed (video1_0)"
    assert sum("1 of 5 shards" in line for line in explain(plan)) == 2


def test_a_changed_clip_before_another_is_told_from_a_changed_clip(built):
    built.split_by_video()
    in_context = EncoderSettings("tiny-data2vec", context_s=0.5)
    _make(built.plan(audio=in_context), "audio")
    write_wav(built.medium("video1_1"), np.random.default_rng(0).normal(0, 0.1, 8_000))
    assert reason(built.plan(audio=in_context), "features clips audio") == (
        "1 of 24 utterances changed (video1_1); 1 of 24 utterances with other previous utterances as context (video1_2)"
    )


def test_changed_clips_are_named_up_to_three(built):
    for number in range(5):
        write_wav(built.medium(f"video{number}_0"), np.random.default_rng(number).normal(0, 0.1, 8_000))
    plan = built.plan()
    assert described(plan) == ["manifest clips", "features clips audio", "report report"]
    assert reason(plan, "features clips audio") == "5 of 24 utterances changed (video0_0, video1_0, video2_0, …)"
    assert reason(plan, "manifest clips").startswith("media ")


def test_a_changed_label_concerns_no_feature(built):
    built.edit("video1_1", label=3)
    plan = built.plan()
    assert described(plan) == ["manifest clips", "pseudo labels clips", "report report"]
    assert reason(plan, "pseudo labels clips").startswith("labels clips ")


def test_new_and_vanished_utterances_are_told_apart(built):
    built.add_video("video8")
    plan = built.plan()
    assert reason(plan, "features clips text") == "2 of 26 utterances new (video8_0, video8_1)"
    assert "features donors sentence" not in described(plan)
    write_rows(built.clips / "label.csv", read_rows(built.clips / "label.csv")[2:-2])
    assert reason(built.plan(), "features clips audio") == "2 of 22 utterances gone (video0_0, video0_1)"


def test_a_changed_setting_is_said_with_both_values(built):
    plan = built.plan(text=dataclasses.replace(built.plan().settings.text, case="keep"))
    assert described(plan) == ["features clips text", "report report"]
    assert reason(plan, "features clips text") == "encoder: case sentence → keep"
    rule = dataclasses.replace(plan.settings.rule, neighbours=3)
    assert reason(built.plan(rule=rule), "pseudo labels clips") == "rule neighbours 1 → 3"


def test_other_weights_are_said_by_their_file(built, tmp_path):
    encoder = shutil.copytree(built.encoder, tmp_path / built.encoder.name)
    content = bytearray((encoder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (encoder / "model.safetensors").write_bytes(content)
    plan = built.plan(text=EncoderSettings(str(encoder)))
    assert re.fullmatch(r"encoder: files model.safetensors \w+… → \w+…", reason(plan, "features clips text"))


def test_damage_is_said_of_files_and_of_shards(built):
    plan = built.plan()
    text, audio = plan.features["clips", "text"], plan.features["clips", "audio"]
    os.truncate(text.path, 1000)
    audio.path.unlink()
    content = bytearray(audio.shards[0].path.read_bytes())
    with FeatureStore.open(audio.shards[0].path) as store:
        content[content.index(store.read_all().tobytes())] ^= 1
    audio.shards[0].path.write_bytes(content)
    assert reason(plan, "features clips text") == "the file is damaged"
    lines = explain(plan)
    assert "    all 5 shards exist: merging only" in lines
    size = len(audio.shards[0].rows)
    assert f"    1 of 5 shards, {size} utterances to encode; 1 of them damaged ({audio.shards[0].path.name})" in lines
    assert [output.path for output in missing(plan) if output.kind == "shard"] == [audio.shards[0].path]


def test_an_excluded_clip_is_not_taken_for_a_new_one(built):
    built.medium("video2_1").write_bytes(b"not a sound")
    plan = built.plan(on_bad_media="exclude")
    _make(plan, "audio")
    assert missing(plan)[-1].kind == "report"
    write_wav(built.medium("video5_1"), np.random.default_rng(0).normal(0, 0.1, 8_000))
    assert reason(built.plan(on_bad_media="exclude"), "features clips audio") == "1 of 24 utterances changed (video5_1)"


def _make(plan: Plan, modality: str) -> None:
    for corpus in plan.corpora.values():
        steps.make_manifest(corpus, plan.settings.on_bad_media, 1, lambda count: None)
    features = plan.features["clips", modality]
    for shard in features.shards:
        if not shard_is_sound(shard.path):
            steps.make_shard(plan, features, shard, "cpu", 1, lambda count: None)
    steps.merge_shards(plan, features)


def test_a_further_set_is_new_and_no_changed_state_of_the_usual_one(built):
    text = EncoderSettings(str(built.encoder))
    plan = built.plan(sets={"text.lower": dataclasses.replace(text, case="lower")})
    assert reason(plan, "features clips text.lower") == "never computed"
    assert described(plan) == ["features clips text.lower", "report report"]
