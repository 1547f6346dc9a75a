"""The report and the summary get the facts of the files themselves."""

import json
from importlib.metadata import version

import numpy as np
import pandas as pd

from data.feature_store import FeatureStore
from pipeline import outputs
from pipeline.report import gather


def test_the_page_gets_what_the_files_hold(built, monkeypatch):
    shown = []
    monkeypatch.setattr(gather, "render_report", lambda report: shown.append(report) or "the page")
    plan = built.plan()
    plan.report.unlink()
    gather.make_report(plan, *outputs.survey(plan), 12.5)
    (report,) = shown
    assert plan.report.read_text(encoding="utf-8") == "the page"
    assert (report.title, report.seconds, report.cache_dir) == ("Features of clips, donors", 12.5, str(built.cache))
    assert report.version == version("mmolre")
    assert report.computed == []  # the report itself is not listed
    assert report.reused[:2] == ["manifest clips", "manifest donors"]
    assert [len(corpus.manifest) for corpus in report.corpora] == [24, 12]
    audio = next(one for one in report.features if one.modality == "audio")
    with FeatureStore.open(plan.features["clips", "audio"].path) as store:
        assert (audio.num_utterances, audio.num_rows, audio.dim, audio.dtype) == (24, int(store.offsets[-1]), 64, "float32")
        np.testing.assert_array_equal(audio.lengths, store.lengths)
        assert audio.provenance["identity"] == store.attrs["identity"]
    assert (audio.encoder, audio.trained, audio.truncated, audio.precision_error) == ("tiny-data2vec", False, [], None)
    assert audio.size_bytes == plan.features["clips", "audio"].path.stat().st_size
    (ledger,) = report.ledgers
    pd.testing.assert_frame_equal(ledger.ledger, pd.read_parquet(plan.ledgers["clips"].path))
    assert (ledger.target, list(ledger.audit)) == ("clips", ["donors"])
    assert set(ledger.players.addresses) == {f"clips/{name}" for name in report.corpora[0].manifest["utterance_id"]}
    assert ledger.players.note == "Players of 24 of 24 clips."  # the donors have no media
    address, _, span = ledger.players.addresses[f"clips/{report.corpora[0].manifest['utterance_id'][5]}"].partition("#t=")
    row = report.corpora[0].manifest.loc[5]
    assert (address, span) == ((built.clips / row["media"]).as_uri(), f"{row['start_s']:g},{row['end_s']:g}".replace("nan,nan", ""))
    paths = [one.manifest_path for one in report.corpora] + [one.path for one in [*report.features, *report.ledgers]]
    for path in paths:
        assert (built.cache / path).is_file()


def test_settings_are_shown_as_json(finished):
    plan = finished.plan()
    shown = gather.settings_shown(plan)
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["cache"], shown["dtype"], shown["targets"]) == (str(finished.cache), "float32", ["clips"])


def test_the_summary_counts_outputs_by_kind(finished):
    plan = finished.plan()
    every = list(plan.outputs())
    summary = gather.summary(plan, [output for output in every if output.kind == "shard"], every[:1], 2.04)
    first, *lines = summary.strip().splitlines()
    assert first == "BuildFeatures: computed 18 shards; reused 1 manifest; 2.0 s"
    assert lines[-3].split() == ["clips", "pseudo", "labels", "24", "of", "24", "utterances"]
    assert gather.summary(plan, [], [], 0).strip().startswith("BuildFeatures: computed nothing; reused nothing; 0.0 s")
