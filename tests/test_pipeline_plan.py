"""Names of outputs: a change renames what it touches and nothing else, and shards stay put when a corpus grows."""

import dataclasses
import hashlib
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import Project, write_project, write_rows, write_wav

from data.errors import InputError
from pipeline.plan import Plan, cut_shards
from pipeline.settings import SAMPLE, CorpusSettings, EncoderSettings

videos = st.lists(st.integers(0, 40).map("v{}".format), min_size=1, max_size=80)
limits = st.integers(1, 12)


@pytest.fixture(scope="module")
def unbuilt(tmp_path_factory, tiny_bert) -> Project:
    return write_project(tmp_path_factory.mktemp("unbuilt"), tiny_bert)


@pytest.fixture(scope="module")
def before(unbuilt) -> Plan:
    return unbuilt.plan()


@pytest.fixture
def project(unbuilt, tmp_path) -> Project:
    return unbuilt.copy(tmp_path / "project")


def renamed(before: Plan, after: Plan) -> dict[str, int]:
    """Output → number of files of that sort that `after` names and `before` does not, without those that stay."""
    old, new = _names(before), _names(after)
    counts = {sort: len(names - old.get(sort, set())) for sort, names in new.items()}
    return {sort: count for sort, count in counts.items() if count}


def _names(plan: Plan) -> dict[str, set[str]]:
    names = {f"manifest {name}": {corpus.manifest.name} for name, corpus in plan.corpora.items()}
    for (corpus, modality), features in plan.features.items():
        names[f"features {corpus} {modality}"] = {features.path.name}
        names[f"shards {corpus} {modality}"] = {f"{shard.path.parent.name}/{shard.path.name}" for shard in features.shards}
    names |= {f"pseudo labels {name}": {ledger.path.name} for name, ledger in plan.ledgers.items()}
    return names | {"report": {plan.report.name}}


def test_the_same_corpora_and_settings_elsewhere_have_the_same_names(before, project):
    assert renamed(before, project.plan()) == {}


def test_sets_that_read_the_same_share_their_rows_and_digests(before):
    text, sentence, audio = (before.features["clips", name] for name in ("text", "sentence", "audio"))
    assert text.sources is sentence.sources
    assert text.rows is sentence.rows
    assert audio.sources != text.sources
    assert text.sources_of([3, 0]) == [text.sources[3], text.sources[0]]


def test_a_changed_transcript_renames_its_text_and_sentence_shard_and_no_audio(before, project):
    project.edit("video4_1", text="Nobody laughed at all.")
    assert renamed(before, project.plan()) == {
        "manifest clips": 1, "shards clips text": 1, "features clips text": 1, "shards clips sentence": 1,
        "features clips sentence": 1, "pseudo labels clips": 1, "report": 1,
    }  # fmt: skip


def test_a_changed_clip_renames_its_audio_shard_alone(before, project):
    write_wav(project.medium("video4_1"), np.random.default_rng(0).normal(0, 0.1, 9_000))
    assert renamed(before, project.plan()) == {"manifest clips": 1, "shards clips audio": 1, "features clips audio": 1, "report": 1}


@pytest.fixture
def in_context(project) -> EncoderSettings:
    """Each video of the project is in one split; the encoder of texts reads one previous utterance."""
    project.split_by_video()
    return EncoderSettings(str(project.encoder), context=1)


def test_context_renames_the_text_features_alone_and_names_itself(before, project, in_context):
    project.split_by_video()
    without, planned = project.plan(), project.plan(text=in_context)
    assert renamed(without, planned) == {"shards clips text": 5, "features clips text": 1, "report": 1}
    text = planned.features["clips", "text"]
    assert text.identity == before.features["clips", "text"].identity | {"context": 1}
    assert "context" not in planned.features["clips", "sentence"].identity


def test_a_changed_transcript_changes_what_reads_it_as_context_and_no_more(project, in_context):
    before = project.plan(text=in_context)
    project.edit("video4_0", text="Nobody laughed at all.")
    after = project.plan(text=in_context)
    assert sources_changed(before, after, "text") == ["video4_0", "video4_1"]
    assert sources_changed(before, after, "sentence") == ["video4_0"]
    assert renamed(before, after)["shards clips text"] == 1
    old, new = (plan.features["clips", "text"].sources for plan in (project.plan(), after))
    own = {source.partition("+")[0] for source in new}
    assert own == set(old)
    assert sum("+" in source for source in new) == 16  # two of three utterances of each of eight videos


def test_a_video_in_two_splits_refuses_context_and_nothing_else(project):
    one = EncoderSettings(str(project.encoder), context=1)
    said = r"^clips: video 'video0' is in several splits \(train, valid, test\), so context .* or set context = 0 in luigi\.cfg\.$"
    with pytest.raises(InputError, match=said):
        project.plan(text=one)
    whole = project.plan(text=one, features=("donors",), modalities=("text",))
    assert ("donors", "text") in whole.features


def test_without_context_nothing_says_so(before):
    for features in before.features.values():
        assert not any(name.startswith("context") for name in features.identity)
        assert not any("+" in source for source in features.sources)


def test_a_changed_clip_changes_the_later_ones_of_its_video_that_read_it_and_one_shard(project):
    project.split_by_video()
    audio = EncoderSettings("tiny-data2vec", context_s=0.5)
    before = project.plan(audio=audio)
    assert before.features["clips", "audio"].identity["context_s"] == 0.5
    write_wav(project.medium("video4_1"), np.random.default_rng(0).normal(0, 0.1, 9_000))
    after = project.plan(audio=audio)
    assert sources_changed(before, after, "audio") == ["video4_1", "video4_2"]
    assert renamed(before, after) == {"manifest clips": 1, "shards clips audio": 1, "features clips audio": 1, "report": 1}


def test_of_segments_the_recording_and_the_start_identify_the_context(project):
    talk = project.root / "talk"
    write_wav(talk / "talk.wav", np.random.default_rng(0).normal(0, 0.1, 32_000))
    rows = [
        {
            "id": f"talk_{n}",
            "video_id": "talk",
            "media": "talk.wav",
            "text": "Really.",
            "start_s": n / 2,
            "end_s": n / 2 + 0.5,
            "mode": mode,
        }
        for n, mode in enumerate(["train"] * 4)
    ]
    write_rows(talk / "label.csv", rows)
    only = {"corpora": (CorpusSettings("talk", "folder", talk),), "features": (), "modalities": ("audio",), "targets": (), "donors": ()}
    audio = EncoderSettings("tiny-data2vec", context_s=1.0)
    without, planned = project.plan(**only), project.plan(audio=audio, **only)
    assert planned.features["talk", "audio"].sources == without.features["talk", "audio"].sources
    assert planned.features["talk", "audio"].key != without.features["talk", "audio"].key
    for number, row in enumerate(rows):
        row |= {"video_id": f"video{number}", "mode": ("train", "test")[number % 2]}
    write_rows(talk / "label.csv", rows)
    assert ("talk", "audio") in project.plan(**only).features
    with pytest.raises(InputError, match=r"^talk: recording 'talk\.wav' is in several splits \(train, test\), .* context_s = 0"):
        project.plan(audio=audio, **only)


def sources_changed(before: Plan, after: Plan, modality: str) -> list[str]:
    """The clips whose source differs between two plans."""
    old, new = (plan.features["clips", modality].sources for plan in (before, after))
    ids = after.corpora["clips"].corpus.utterances["utterance_id"]
    return [name for name, one, other in zip(ids, old, new, strict=True) if one != other]


def test_a_touched_or_copied_clip_renames_nothing(before, project):
    os.utime(project.medium("video4_1"))
    shutil.copy(project.medium("video4_0"), project.root / "copy.wav")
    os.replace(project.root / "copy.wav", project.medium("video4_0"))
    assert renamed(before, project.plan()) == {}


def test_a_changed_label_or_split_renames_no_feature(before, project):
    project.edit("video4_1", label=-3, mode="test")
    assert renamed(before, project.plan()) == {"manifest clips": 1, "pseudo labels clips": 1, "report": 1}


def test_a_new_video_renames_one_shard_of_each_modality(before, project):
    project.add_video("video8")
    changes = renamed(before, project.plan())
    for modality in ("text", "audio", "sentence"):
        assert changes[f"shards clips {modality}"] in (1, 2)  # 2 if the shard had to be split
        old, new = (plan.features["clips", modality].shards for plan in (before, project.plan()))
        assert len({shard.path.name for shard in old} - {shard.path.name for shard in new}) == 1
    assert "shards donors sentence" not in changes


@pytest.mark.parametrize(
    ("changed", "sorts"),
    [
        ({"device": "auto"}, ""),
        ({"decoders": 4}, ""),
        ({"players": "embed"}, ""),
        ({"shard_clips": 512}, "shards clips text, shards clips audio, shards clips sentence, shards donors sentence"),
        ({"on_bad_media": "exclude"}, "manifest clips, manifest donors"),
        ({"precision": "bfloat16"}, "text, audio, sentence, pseudo labels"),
        ({"dtype": "float16"}, "text, audio, sentence, pseudo labels"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_setting_renames_what_its_value_determines(before, unbuilt, changed, sorts):
    found = set(renamed(before, unbuilt.plan(**changed)))
    if sorts.startswith(("shards", "manifest")) or not sorts:
        assert found - {"report"} == set(sorts.split(", ")) - {""}
    else:
        assert not [sort for sort in found if sort.startswith("manifest")]
        for word in sorts.split(", "):
            assert [sort for sort in found if word in sort]


def test_the_case_of_texts_renames_text_and_not_audio(before, unbuilt):
    encoder = dataclasses.replace(before.settings.text, case="keep")
    assert set(renamed(before, unbuilt.plan(text=encoder))) == {"features clips text", "shards clips text", "report"}


def test_the_layer_of_audio_renames_audio_and_not_text(before, unbuilt):
    encoder = EncoderSettings("tiny-data2vec", layers="1")
    assert set(renamed(before, unbuilt.plan(audio=encoder))) == {"features clips audio", "shards clips audio", "report"}


def test_layers_rename_the_features_by_what_they_are_and_not_by_how_they_are_written(before, unbuilt):
    texts = {
        layers: unbuilt.plan(text=dataclasses.replace(before.settings.text, layers=layers)).features["clips", "text"].path.name
        for layers in ("-1", "1", "-2", "0,1", "all", "0..-1", "mean(all)", "mean(0..1)")
    }
    assert texts["-1"] == before.features["clips", "text"].path.name
    assert len(set(texts.values())) == 5
    assert texts["-2"] not in (texts["1"], texts["-1"])
    assert texts["0,1"] == texts["all"] == texts["0..-1"]
    assert texts["mean(all)"] == texts["mean(0..1)"]


def test_the_frame_rate_renames_audio_and_the_encoders_own_rate_does_not(before, unbuilt):
    encoder = EncoderSettings("tiny-data2vec", frame_rate_hz=12.5)
    assert set(renamed(before, unbuilt.plan(audio=encoder))) == {"features clips audio", "shards clips audio", "report"}
    assert renamed(before, unbuilt.plan(audio=dataclasses.replace(encoder, frame_rate_hz=50.0))) == {}


def test_other_weights_under_the_same_name_rename_the_features(before, unbuilt, tmp_path):
    encoder = shutil.copytree(unbuilt.encoder, tmp_path / unbuilt.encoder.name)
    content = bytearray((encoder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (encoder / "model.safetensors").write_bytes(content)
    found = renamed(before, unbuilt.plan(text=EncoderSettings(str(encoder))))
    assert set(found) == {"features clips text", "shards clips text", "report"}


def test_a_copy_of_an_encoder_in_another_folder_is_the_same_encoder(before, unbuilt, tmp_path):
    encoder = shutil.copytree(unbuilt.encoder, tmp_path / unbuilt.encoder.name)
    assert renamed(before, unbuilt.plan(text=EncoderSettings(str(encoder)))) == {}


def test_a_rule_of_pseudo_labels_renames_the_ledger_alone(before, unbuilt):
    rule = dataclasses.replace(before.settings.rule, neighbours=3)
    assert set(renamed(before, unbuilt.plan(rule=rule))) == {"pseudo labels clips", "report"}


def test_text_only_corpora_get_no_audio_and_donors_no_token_features(before):
    assert set(before.features) == {("clips", "text"), ("clips", "audio"), ("clips", "sentence"), ("donors", "sentence")}


def test_without_targets_there_are_no_sentence_embeddings_and_no_ledger(unbuilt):
    plan = unbuilt.plan(targets=(), features=())
    assert set(plan.features) == {("clips", "text"), ("clips", "audio"), ("donors", "text")}
    assert plan.ledgers == {}


def test_modalities_that_are_left_out_are_not_planned(unbuilt):
    assert set(unbuilt.plan(modalities=("audio",), targets=()).features) == {("clips", "audio")}


def test_shards_of_a_feature_file_hold_its_rows_once(before):
    for features in before.features.values():
        assert sorted(row for shard in features.shards for row in shard.rows) == list(features.rows)


def test_progress_counts_every_medium(unbuilt):
    from pipeline.plan import make_plan

    seen = []
    make_plan(unbuilt.plan().settings, lambda *event: seen.append(event))
    assert [event for event in seen if event[2]][-1] == ("clips: fingerprints of media", 24, 24)


def test_a_corpus_that_is_not_there_is_named(unbuilt, tmp_path):
    settings = unbuilt.plan().settings
    missing = dataclasses.replace(settings.corpora[0], root=tmp_path / "nowhere")
    with pytest.raises(InputError, match="nowhere: does not exist; expected the folder of a folder corpus"):
        unbuilt.plan(corpora=(missing, settings.corpora[1]))


@pytest.mark.parametrize("modalities", [("text", "audio"), ("audio",)])
def test_media_that_match_no_utterance_stop_a_build_that_wants_audio(project, modalities):
    (project.root / "donors" / "clips").mkdir()
    (project.root / "donors" / "clips" / "donor_0.wav").touch()
    with pytest.raises(InputError, match=r"donors: no media file in the folder \(1 found\) .* expects .*, found clips/donor_0\.wav"):
        project.plan(features=(), modalities=modalities)
    assert ("donors", "text") in project.plan(features=(), modalities=("text",)).features
    assert ("clips", "audio") in project.plan(features=("clips",), modalities=modalities).features


def test_a_corpus_without_media_stops_a_build_of_audio_only_if_nothing_else_is_asked_of_it(project):
    with pytest.raises(
        InputError, match=r'donors: no media file, but modalities = \["audio"\] in luigi\.cfg.* Add the media of donors'
    ):
        project.plan(features=("donors",), modalities=("audio",))
    shutil.rmtree(project.clips / "video0")
    assert [name for name in project.plan(features=(), modalities=("audio",)).features if name[1] == "audio"] == [("clips", "audio")]
    for folder in project.clips.glob("video*"):
        shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"clips: no media file, but modalities"):
        project.plan(features=(), modalities=("audio",))


def test_the_bundled_audio_encoder_says_that_it_is_untrained(before):
    assert not before.features["clips", "audio"].encoder.trained
    assert before.features["clips", "audio"].encoder.folder == SAMPLE / "tiny-data2vec"


@given(videos, limits)
def test_shards_are_a_partition_into_whole_videos_within_the_limit(video_ids, limit):
    shards = cut_shards(video_ids, limit)
    assert sorted(row for rows in shards.values() for row in rows) == list(range(len(video_ids)))
    of_shard = [{video_ids[row] for row in rows} for rows in shards.values()]
    assert sum(map(len, of_shard)) == len(set(video_ids))
    for rows, inside in zip(shards.values(), of_shard, strict=True):
        assert rows == sorted(rows)
        assert len(rows) <= limit or len(inside) == 1


@given(videos, limits)
def test_a_shard_has_the_videos_whose_hashes_begin_with_its_bits_and_no_fewer_bits_would_do(video_ids, limit):
    bits = {video: f"{int.from_bytes(hashlib.sha256(video.encode()).digest()):0256b}" for video in video_ids}
    shards = cut_shards(video_ids, limit)
    assert list(shards) == sorted(shards)
    for name, rows in shards.items():
        assert rows == [row for row, video in enumerate(video_ids) if bits[video].startswith(name)]
        for length in range(len(name)):
            above = [video for video in video_ids if bits[video].startswith(name[:length])]
            assert len(above) > limit
            assert len(set(above)) > 1


@given(videos, limits, st.randoms())
def test_shards_do_not_depend_on_the_order_of_videos(video_ids, limit, chance):
    shuffled = chance.sample(video_ids, len(video_ids))
    one, other = (
        {name: sorted(ids[row] for row in rows) for name, rows in cut_shards(ids, limit).items()} for ids in (video_ids, shuffled)
    )
    assert one == other


@given(videos, limits, st.integers(1, 5))
def test_a_new_video_changes_one_shard_or_splits_one(video_ids, limit, clips):
    old = cut_shards(video_ids, limit)
    new = cut_shards([*video_ids, *["new"] * clips], limit)
    gone = [name for name, rows in old.items() if new.get(name) != rows]
    added = [name for name, rows in new.items() if old.get(name) != rows]
    assert len(gone) <= 1
    if gone:
        assert all(name.startswith(gone[0]) for name in added)
    else:
        assert len(added) == 1


def test_no_rows_make_no_shards():
    assert cut_shards([], 5) == {}


def test_outputs_are_listed_in_the_order_in_which_they_are_made(before):
    listed = list(before.outputs())
    kinds = [output.kind for output in listed]
    assert kinds[:2] == ["manifest", "manifest"]
    assert kinds[-2:] == ["pseudo labels", "report"]
    for features in before.features.values():
        at = next(place for place, output in enumerate(listed) if output.path == features.path)
        shards = [output for output in listed if output.part_of == features.path]
        assert shards == listed[at - len(shards) : at]
        assert [output.path for output in shards] == [shard.path for shard in features.shards]
        assert sum(output.utterances for output in shards) == listed[at].utterances == len(features.rows)
    assert {output.path: output.parts for output in listed if output.parts} == {
        **{corpus.manifest: corpus.parts for corpus in before.corpora.values()},
        **{ledger.path: ledger.parts for ledger in before.ledgers.values()},
    }


def test_names_carry_the_keys_of_their_parts(before):
    assert {corpus.manifest.stem for corpus in before.corpora.values()} == {
        f"{name}-{corpus.key}" for name, corpus in before.corpora.items()
    }
    assert before.ledgers["clips"].path.name == f"clips-{before.ledgers['clips'].key}.parquet"
    assert before.report.name == f"report-{before.report_key}.html"


def test_pseudo_labels_without_a_donor_are_refused_while_planning(project):
    with pytest.raises(
        InputError, match=r"donors are \['clips'\], expected a corpus that gives clips emotion labels. Name one, or set"
    ):
        project.plan(targets=("clips",), donors=("clips",))


def test_further_sets_rename_nothing_and_a_set_has_the_file_that_it_has_as_the_usual_one(before, project):
    text = EncoderSettings(str(project.encoder))
    lower, cut = dataclasses.replace(text, case="lower"), dataclasses.replace(text, max_tokens=5)
    plan = project.plan(sets={"text.lower": lower, "text.cut": cut})
    expected = {
        f"{sort} clips text.{name}": 5 if sort == "shards" else 1 for sort in ("shards", "features") for name in ("lower", "cut")
    }
    assert renamed(before, plan) == {**expected, "report": 1}
    assert list(plan.cached()[0].features) == ["text", "text.lower", "text.cut", "audio", "sentence"]
    swapped = project.plan(text=lower, sets={"text.upper": text})
    assert swapped.features["clips", "text"].path == plan.features["clips", "text.lower"].path
    assert swapped.features["clips", "text.upper"].path == plan.features["clips", "text"].path
    assert {one.identity["modality"] for one in plan.features.values()} == {"text", "audio", "sentence"}


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [
        (("text", "audio"), ["text", "text.lower", "audio", "sentence"]),
        (("text",), ["text", "text.lower", "sentence"]),
        (("text.lower", "audio"), ["text.lower", "audio", "sentence"]),
        (("audio",), ["audio", "sentence"]),
    ],
)
def test_a_modality_stands_for_all_its_sets_and_a_set_for_itself(project, modalities, expected):
    lower = EncoderSettings(str(project.encoder), case="lower")
    plan = project.plan(sets={"text.lower": lower}, modalities=modalities)
    assert list(plan.cached()[0].features) == expected


def test_two_sections_with_the_same_features_are_refused(project):
    same = EncoderSettings(str(project.encoder))
    with pytest.raises(InputError) as error:
        project.plan(sets={"text.same": same})
    assert str(error.value) == (
        "luigi.cfg: sections [text] and [text.same] give the same features. Change one of them, or remove [text.same]."
    )


def test_a_corpus_without_media_gets_no_set_of_audio(project):
    plan = project.plan(features=(), sets={"audio.first": EncoderSettings("tiny-data2vec", layers="0")})
    sets = {corpus.name: list(corpus.features) for corpus in plan.cached()}
    assert sets == {"clips": ["text", "audio", "audio.first", "sentence"], "donors": ["text", "sentence"]}
