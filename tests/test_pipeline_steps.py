"""Each step writes one file of the plan, completely or not at all, and the file says how it was made."""

import json
import os
import re
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from feature_files import damage as damage_values
from projects import features, states
from tones import write_floats

from data.errors import InputError
from data.feature_store import PROVENANCE, FeatureStore
from data.layers import stored_layers
from data.manifest import read_attributes, read_manifest
from data.media import decode
from pipeline import steps
from pipeline.encoding import decoding, encoders, extract
from pipeline.encoding.checkpoints import locate
from pipeline.plan import Plan
from pipeline.settings import EncoderSettings


def damage(path: Path, utterance: int = 0) -> str:
    """Changes one byte of an utterance's values and returns its id."""
    with FeatureStore.open(path) as store:
        values, name = store.read(utterance, utterance + 1).tobytes(), store.ids[utterance]
    content = bytearray(path.read_bytes())
    content[content.index(values) + len(values) // 2] ^= 0x40
    path.write_bytes(content)
    return name


def make_shards(plan: Plan, modality: str) -> list[int]:
    """Computes all shards of the clips and returns what the progress was told."""
    counts: list[int] = []
    for shard in plan.features["clips", modality].shards:
        steps.make_shard(plan, plan.features["clips", modality], shard, "cpu", 1, counts.append)
    return counts


def test_a_manifest_has_measured_durations_and_the_parts_of_its_key(project):
    corpus, counts = project.plan().corpora["clips"], []
    steps.make_manifest(corpus, "stop", 2, counts.append)
    assert sum(counts) == 24
    table = read_manifest(corpus.manifest)
    for row in table.itertuples():
        with wave.open(str(project.clips / str(row.media))) as medium:
            assert row.duration_s == medium.getnframes() / medium.getframerate()
    attributes = read_attributes(corpus.manifest)
    assert attributes["parts"] == corpus.parts
    assert (attributes["corpus"], attributes["layout"], attributes["key"]) == ("clips", corpus.corpus.layout, corpus.key)
    assert attributes["root"] == str(project.clips.resolve())  # where players of reports find the media


def test_decoders_change_neither_keys_nor_features(project):
    plans = [project.plan(targets=(), donors=(), decoders=count) for count in (1, 2)]
    shards = [plan.features["clips", "audio"].shards[0] for plan in plans]
    assert shards[0].path == shards[1].path
    steps.make_manifest(plans[0].corpora["clips"], "stop", 1, lambda count: None)
    values = []
    for plan, shard in zip(plans, shards, strict=True):
        steps.make_shard(plan, plan.features["clips", "audio"], shard, "cpu", 2, lambda count: None)
        with FeatureStore.open(shard.path) as store:
            values.append(store.read_all())
    np.testing.assert_array_equal(*values)
    decoding._kept.pop(2).end()  # the second shard was decoded in processes


def test_layers_and_means_of_frames_are_built_and_stated(project, tiny_bert):
    """The file of the whole build is the encoder's output, and its lengths are those of the durations."""
    audio = EncoderSettings("tiny-data2vec", layers="1,2", frame_rate_hz=12.5)
    plan = project.plan(text=EncoderSettings(str(tiny_bert), layers="all"), audio=audio, targets=(), donors=())
    steps.make_manifest(plan.corpora["clips"], "stop", 1, lambda count: None)
    for modality in ("text", "audio"):
        make_shards(plan, modality)
        steps.merge_shards(plan, plan.features["clips", modality])
    manifest = read_manifest(plan.corpora["clips"].manifest)
    encoder = encoders.make("audio", locate("audio", audio), audio)
    with FeatureStore.open(plan.features["clips", "audio"].path) as store:
        assert {name: store.attrs["identity"][name] for name in ("layers", "frames_averaged", "frame_rate_hz")} == {
            "layers": [1, 2], "frames_averaged": 4, "frame_rate_hz": 12.5
        }  # fmt: skip
        assert (store.dim, stored_layers(store.attrs["identity"])) == (128, (1, 2))
        for row, (_, samples) in zip(manifest.itertuples(), extract.waveforms(project.clips, manifest), strict=True):
            expected = encoder.encode([encoder.prepare(samples)])[0]
            np.testing.assert_allclose(store[row.utterance_id], expected, atol=1e-5)
            assert len(expected) == -(-encoder.frames(round(row.duration_s * 16_000)) // 4)
    with FeatureStore.open(plan.features["clips", "text"].path) as store:
        assert (store.dim, stored_layers(store.attrs["identity"])) == (64, (0, 1))


def test_a_manifest_keeps_notes_about_media(project):
    write_floats(project.medium("video2_1"), 9_000 * np.sin(np.arange(16_000) / 5))
    corpus = project.plan().corpora["clips"]
    steps.make_manifest(corpus, "stop", 1, lambda count: None)
    said = "its peak is 9000 times full scale: probably floats in the range of integers; expected at most 16"
    assert ["too-loud", "video2/1.wav", said] in read_attributes(corpus.manifest)["findings"]


def test_a_corpus_without_media_needs_no_durations(project):
    corpus = project.plan().corpora["donors"]
    steps.make_manifest(corpus, "stop", 1, lambda count: pytest.fail("no medium was to be opened"))
    table = read_manifest(corpus.manifest)
    assert (len(table), table["duration_s"].isna().all(), (table["excluded"] == "").all()) == (12, True, True)


def test_bad_media_are_an_error_that_lists_them_all(built):
    for name in ("video2_1", "video7_2"):
        built.medium(name).write_bytes(b"not a sound")
    with pytest.raises(InputError, match=r"2 of 24 utterances cannot be used:\n  video2_1: .*\n  video7_2: .*\nRepair them"):
        steps.make_manifest(built.plan().corpora["clips"], "stop", 1, lambda count: None)
    assert not built.plan().corpora["clips"].manifest.exists()


def test_bad_media_are_excluded_by_name_where_that_is_asked(built):
    built.medium("video2_1").write_bytes(b"not a sound")
    plan = built.plan(on_bad_media="exclude")
    steps.make_manifest(plan.corpora["clips"], "exclude", 1, lambda count: None)
    table = read_manifest(plan.corpora["clips"].manifest).set_index("utterance_id")
    assert table.index[table["excluded"] != ""].tolist() == ["video2_1"]
    assert [where for _, where, _ in read_attributes(plan.corpora["clips"].manifest)["findings"]] == ["video2_1"]
    audio = make_shards(plan, "audio")
    assert sum(audio) == 23
    steps.merge_shards(plan, plan.features["clips", "audio"])
    with FeatureStore.open(plan.features["clips", "audio"].path) as store:
        assert "video2_1" not in store.ids
        ids = plan.corpora["clips"].corpus.utterances["utterance_id"]
        row = int(ids[ids == "video2_1"].index[0])
        assert store.attrs["excluded"] == {"video2_1": plan.features["clips", "audio"].sources_of([row])[0]}


def test_a_shard_of_audio_reads_what_decoding_found_and_not_the_whole_manifest(built, monkeypatch):
    """A manifest of a million utterances takes seconds to read, and a corpus of that size has thousands of shards."""
    plan = built.plan()
    audio = plan.features["clips", "audio"]
    with FeatureStore.open(audio.shards[0].path) as store:
        before = store.ids, store.read_all().tobytes(), store.sources
    audio.shards[0].path.unlink()
    read, read_table = [], steps.read_table
    monkeypatch.setattr(steps, "read_table", lambda path, columns: read.append((path, columns)) or read_table(path, columns))
    monkeypatch.setattr(steps, "read_manifest", None)
    steps.make_shard(plan, audio, audio.shards[0], "cpu", 1, lambda count: None)
    assert read == [(plan.corpora["clips"].manifest, ("duration_s", "excluded"))]
    with FeatureStore.open(audio.shards[0].path) as store:
        assert (store.ids, store.read_all().tobytes(), store.sources) == before


def test_shards_and_their_merged_file_hold_the_same_values_and_say_how_they_were_made(built, finished):
    plan = built.plan()
    text = plan.features["clips", "text"]
    for path in (text.path, *(shard.path for shard in text.shards)):
        path.unlink()
    assert sum(make_shards(plan, "text")) == 24
    steps.merge_shards(plan, text)
    assert features(built) == features(finished)
    with FeatureStore.open(text.path) as store:
        for shard in text.shards:
            with FeatureStore.open(shard.path) as part:
                assert part.attrs["shard"] == shard.name
                for name in part.ids:
                    np.testing.assert_array_equal(store[name], part[name])
        assert list(store.ids) == plan.corpora["clips"].corpus.utterances["utterance_id"].tolist()
        assert set(PROVENANCE) <= store.attrs.keys()
        assert store.attrs["identity"] == text.identity
        assert store.attrs["encoder"] == {"name": text.encoder.name, "revision": "", "trained": True, "tuning": "tuned elsewhere"}
        assert store.attrs["packages"]["numpy"] == np.__version__
        assert store.attrs["precision_error"] is None


def test_one_shard_is_open_at_a_time(built, finished, monkeypatch):
    plan = built.plan()
    text = plan.features["clips", "text"]
    text.path.unlink()
    opened: list[FeatureStore] = []
    really_open = FeatureStore.open

    def open_alone(path):
        assert not any(store._finalizer.alive for store in opened)
        opened.append(really_open(path))
        return opened[-1]

    monkeypatch.setattr(FeatureStore, "open", open_alone)
    steps.merge_shards(plan, text)
    monkeypatch.undo()
    assert len(opened) == 2 * len(text.shards) > 2
    assert features(built) == features(finished)


def test_texts_that_are_cut_are_named(project):
    from dataclasses import replace

    usual = project.plan().settings.text
    plan = project.plan(text=replace(usual, max_tokens=8))
    make_shards(plan, "text")
    steps.merge_shards(plan, plan.features["clips", "text"])
    with FeatureStore.open(plan.features["clips", "text"].path) as store:
        cut = store.attrs["truncated"]
        assert 0 < len(cut) < 24
        assert all(len(store[name]) == 8 for name in cut)
        assert store.lengths.max() == 8


def test_texts_are_encoded_with_their_context_and_only_what_reads_a_changed_one_again(project):
    project.split_by_video()
    in_context = EncoderSettings(str(project.encoder), context=1)
    plan = project.plan(text=in_context)
    make_shards(plan, "text")
    text = plan.features["clips", "text"]
    steps.merge_shards(plan, text)
    texts = dict(zip(*(plan.corpora["clips"].corpus.utterances[name] for name in ("utterance_id", "text")), strict=True))
    tokenizer = transformers.AutoTokenizer.from_pretrained(project.encoder)
    model = transformers.AutoModel.from_pretrained(project.encoder).eval()
    with FeatureStore.open(text.path) as store:
        assert store.attrs["identity"]["context"] == 1
        assert (store.attrs["truncated"], store.attrs["context_cut"]) == ([], [])
        for previous, name in (("", "video3_0"), ("video3_0", "video3_1"), ("video3_1", "video3_2")):
            read = [one[0] + one[1:].lower() for one in (texts.get(previous), texts[name]) if one]
            with torch.no_grad():
                inputs = tokenizer(*read, return_token_type_ids=True, return_tensors="pt")
                hidden = model(**inputs).last_hidden_state[0].numpy()
            own = len(tokenizer(read[-1])["input_ids"])
            expected = np.concatenate([hidden[:1], hidden[len(hidden) - own + 1 :]])
            np.testing.assert_allclose(store[name], expected, atol=1e-5, rtol=0)
    project.edit("video3_0", text="Nobody cried.")
    after = project.plan(text=in_context)
    new = [shard for shard in after.features["clips", "text"].shards if not shard.path.exists()]
    counts: list[int] = []
    steps.make_shard(after, after.features["clips", "text"], *new, "cpu", 1, counts.append)
    steps.merge_shards(after, after.features["clips", "text"])
    assert (len(new), sum(counts)) == (1, len(new[0].rows))
    with FeatureStore.open(text.path) as old, FeatureStore.open(after.features["clips", "text"].path) as store:
        assert [name for name in store.ids if not np.array_equal(store[name], old[name])] == ["video3_0", "video3_1"]


def test_clips_are_encoded_with_the_usable_speech_before_them(project):
    project.split_by_video()
    project.medium("video5_1").write_bytes(b"not a sound")
    plan = project.plan(audio=EncoderSettings("tiny-data2vec", context_s=0.9), on_bad_media="exclude")
    steps.make_manifest(plan.corpora["clips"], "exclude", 1, lambda count: None)
    assert sum(make_shards(plan, "audio")) == 23
    audio = plan.features["clips", "audio"]
    steps.merge_shards(plan, audio)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(audio.encoder.folder)
    model = transformers.AutoModel.from_pretrained(audio.encoder.folder).eval()
    with FeatureStore.open(audio.path) as store:
        for before, name in (
            ([], "video3_0"),
            (["video3_0"], "video3_1"),
            (["video3_0", "video3_1"], "video3_2"),
            (["video5_0"], "video5_2"),
        ):
            speech = np.concatenate([np.zeros(0, np.float32), *(decode(project.medium(one)) for one in before)])[-14_400:]
            clip = decode(project.medium(name))
            joined = np.concatenate([speech[len(speech) % 320 :], clip])
            with torch.no_grad():
                values = extractor(joined, sampling_rate=16_000, return_tensors="pt")["input_values"]
                hidden = model(values).last_hidden_state[0].numpy()
            own = (len(clip) - 400) // 320 + 1
            np.testing.assert_allclose(store[name], hidden[len(hidden) - own :], atol=1e-5, rtol=0)


def test_contexts_that_are_cut_are_named(project):
    project.split_by_video()
    plan = project.plan(text=EncoderSettings(str(project.encoder), context=1, max_tokens=24))
    make_shards(plan, "text")
    steps.merge_shards(plan, plan.features["clips", "text"])
    with FeatureStore.open(plan.features["clips", "text"].path) as store:
        cut = store.attrs["context_cut"]
        assert 0 < len(cut) < 16
        assert store.attrs["truncated"] == []
        assert not any(name.endswith("_0") for name in cut)


def test_the_error_of_short_arithmetic_is_measured_and_merged(project):
    plan = project.plan(precision="bfloat16")
    make_shards(plan, "text")
    text = plan.features["clips", "text"]
    errors = []
    for shard in text.shards:
        with FeatureStore.open(shard.path) as store:
            errors.append(store.attrs["precision_error"])
    assert all(0 < error["relative_l2"] < 0.1 for error in errors)
    steps.merge_shards(plan, text)
    with FeatureStore.open(text.path) as store:
        assert store.attrs["precision_error"] == {
            "max_abs": max(error["max_abs"] for error in errors),
            "relative_l2": max(error["relative_l2"] for error in errors),
            "utterances": sum(error["utterances"] for error in errors),
        }


def test_a_damaged_shard_is_never_merged(built):
    plan = built.plan()
    audio = plan.features["clips", "audio"]
    audio.path.unlink()
    name = damage(audio.shards[-1].path)
    before = states(built.cache)
    with pytest.raises(InputError, match=rf"{re.escape(str(audio.shards[-1].path))}: the values of '{name}' are damaged \(checksum "):
        steps.merge_shards(plan, audio)
    os.truncate(audio.shards[0].path, audio.shards[0].path.stat().st_size // 2)
    with pytest.raises(InputError, match=rf"{re.escape(str(audio.shards[0].path))}: .*truncated or damaged"):
        steps.merge_shards(plan, audio)
    assert states(built.cache).keys() == before.keys()


def test_a_merge_opens_one_shard_at_a_time(built, finished, monkeypatch):
    plan, opened, most = built.plan(), [], [0]
    open_store = FeatureStore.open

    def counted(path):
        opened.append(store := open_store(path))
        most[0] = max(most[0], sum(one._finalizer.alive for one in opened))
        return store

    monkeypatch.setattr(steps.FeatureStore, "open", counted)
    text = plan.features["clips", "text"]
    before = text.path.read_bytes()
    text.path.unlink()
    steps.merge_shards(plan, text)
    assert len(opened) == 2 * len(text.shards) > 4
    assert most == [1]
    assert features(built) == features(finished)
    assert len(text.path.read_bytes()) == len(before)


@pytest.mark.parametrize("corpus", ["clips", "donors"])
def test_damaged_sentence_embeddings_give_no_ledger(built, corpus):
    plan = built.plan()
    path = plan.features[corpus, "sentence"].path
    (ledger := plan.ledgers["clips"]).path.unlink()
    damage_values(path, 3, 300 * 4 - 3, lambda old: np.where(np.arange(len(old)) % 4 == 0, old ^ 0x80, old))  # 300 signs of float32
    before = states(built.cache)
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}: the values of '\w+' are damaged \(checksum "):
        steps.make_ledger(plan, ledger, "cpu")
    assert states(built.cache) == before


def test_a_ledger_holds_its_audit_and_the_parts_of_its_key(built):
    plan = built.plan()
    ledger = plan.ledgers["clips"]
    before = pd.read_parquet(ledger.path)
    ledger.path.unlink()
    steps.make_ledger(plan, ledger, "cpu")
    pd.testing.assert_frame_equal(pd.read_parquet(ledger.path), before)
    attributes = read_attributes(ledger.path)
    assert (attributes["parts"], attributes["key"], attributes["target"]) == (ledger.parts, ledger.key, "clips")
    assert attributes["audit"]["donors"]["possible"] is False


def test_an_index_of_other_outputs_is_not_current(built):
    plan = built.plan()
    assert steps.index_is_current(plan)
    content = json.loads(plan.index.read_text())
    plan.index.write_text(json.dumps(content | {"report": "other.html"}))
    assert not steps.index_is_current(plan)
    plan.index.write_text("{")
    assert not steps.index_is_current(plan)
    steps.write_index(plan)
    assert steps.index_is_current(plan)
