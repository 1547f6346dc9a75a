"""BuildFeatures with an encoder that learns first: the task, the files that name it, what explain says, and heads on its features."""

import json
import re
from pathlib import Path

import pytest
from adaptations import plan_adaptation, record, run
from command_line import call
from projects import Project, executed, write_project

from data.errors import InputError
from data.feature_store import FeatureStore
from pipeline import outputs, steps
from pipeline.explain import explain
from pipeline.plan import Plan
from pipeline.settings import AdaptSettings, CorpusSettings

ADAPT = {"corpora": ("clips",), "epochs": 2, "lr": 0.001, "batch_size": 8}


def planned(project: Project, **adapt: object) -> Plan:
    """The plan of the project's luigi.cfg, some settings of [adapt] changed; without any, encoders are frozen."""
    clips = CorpusSettings("clips", "folder", project.clips)
    settings = AdaptSettings(**ADAPT | adapt) if adapt.get("corpora", True) else AdaptSettings()
    return project.plan(
        corpora=(clips,), features=(), modalities=("text",), shard_clips=100, targets=(), donors=(), adapt=settings
    )  # fmt: skip


@pytest.fixture(scope="module")
def first(tmp_path_factory, tiny_bert):
    """A project whose text encoder learns before it makes features, and the result of its build."""
    project = write_project(tmp_path_factory.mktemp("adapted"), tiny_bert)
    project.configure(
        corpora={"folders": '{"clips": "clips"}', "features": "[]", "modalities": '["text"]'},
        pseudo_labels={"targets": "[]", "donors": "[]"},
        build={"shard_clips": 100},
        adapt={name: json.dumps(list(value)) if isinstance(value, tuple) else value for name, value in ADAPT.items()},
    )
    return project, project.build()


@pytest.fixture
def learned(first, tmp_path) -> Project:
    """A copy of the project, which a test may change."""
    project, result = first
    assert result.returncode == 0, result.stderr
    return project.copy(tmp_path / "copy")


def folder(project: Project) -> Path:
    (found,) = (project.cache / "encoders").iterdir()
    return found


def feature_file(project: Project) -> Path:
    named = json.loads((project.cache / "index.json").read_text(encoding="utf-8"))
    return project.cache / named["corpora"]["clips"]["features"]["text"]


def test_the_encoder_learns_before_its_shards_and_everything_names_it(first):
    project, result = first
    ran = [line.strip() for line in executed(result.stderr)]
    order = ["AdaptedEncoder clips text", "FeatureShard clips text", "Features clips text", "Report", "BuildFeatures"]
    assert [task for task in ran if task != "Manifest clips"] == order
    line = r"^AdaptedEncoder clips text: epoch 2 of at most 2, training loss \d\.\d{4}, validation MAE \d\.\d{4}$"
    assert re.search(line, result.stderr, re.MULTILINE)
    assert "computed 1 manifest, 1 encoder, 1 shard, 1 features, 1 report; reused nothing" in result.stdout
    name = folder(project).name
    assert f"{name} (tuned elsewhere, then adapted on clips)" in result.stdout
    assert feature_file(project).name.startswith(f"clips-text-{name}-")
    with FeatureStore.open(feature_file(project)) as store:
        assert store.attrs["encoder"] == {
            "name": name,
            "revision": "",
            "trained": True,
            "tuning": "tuned elsewhere, then adapted on clips",
        }
        assert store.attrs["identity"]["adapted"]["lr"] == 0.001
    assert record(folder(project))["selected"] in (1, 2)


def test_the_report_shows_the_course_of_the_training_and_the_word_for_the_features(first):
    project, _ = first
    page = next((project.cache / "reports").iterdir()).read_text(encoding="utf-8")
    assert page.count('data-chart="learning curve"') == 1
    assert "Adapted encoder: clips text" in page
    assert "<dt>reads.case</dt><dd>sentence</dd><dt>reads.max_tokens</dt><dd>0</dd></dl>" in page
    assert re.search(r"clips text: training and validation loss of 2 epochs, epoch \d chosen", page)
    assert "The features are tuned elsewhere, then adapted on clips: the weights were in a folder of the user." in page
    assert "frozen" not in page
    assert '<span class="badge">tuned elsewhere, then adapted on clips</span>' in page


def test_nothing_is_missing_then_and_explain_names_the_setting_that_changes(first):
    project, _ = first
    assert outputs.missing(planned(project)) == []
    lines = [line.strip() for line in explain(planned(project, lr=0.002))]
    assert "encoder       clips text, 16 utterances: recipe lr 0.001 → 0.002" in lines
    assert "features      clips text, 24 utterances: encoder: adapted lr 0.001 → 0.002" in lines
    assert [line for line in lines if (line.startswith("encoder") and "'lr': 0.001" in line) or "lr 0.001 → 0.002" in line]
    lines = [line.strip() for line in explain(planned(project, corpora=()))]
    assert not [line for line in lines if line.startswith("encoder")]
    assert any(line.startswith("features      clips text, 24 utterances: encoder: adapted ") for line in lines)


def test_heads_name_the_encoder_of_their_features_and_refuse_those_of_its_base(learned, tmp_path, capsys):
    arguments = [
        "fit",
        "--no-report",
        "--cache",
        learned.cache,
        "--corpus",
        "clips",
        "--head",
        "ridge",
        "--task",
        "msa",
        "--modalities",
        "text",
    ]
    status, _, err = call(capsys, *arguments, "--out", tmp_path / "runs")
    assert status == 0, err
    (trained,) = (tmp_path / "runs").iterdir()
    made = json.loads((trained / "config.json").read_text(encoding="utf-8"))["encoders"]["text"]
    assert (made["encoder"]["name"], made["encoder"]["tuning"]) == (folder(learned).name, "tuned elsewhere, then adapted on clips")
    frozen = planned(learned, corpora=())
    features = frozen.features["clips", "text"]
    steps.make_shard(frozen, features, features.shards[0], "cpu", 1, lambda count: None)
    steps.merge_shards(frozen, features)
    steps.write_index(frozen)
    status, _, err = call(capsys, "evaluate", trained, "--cache", learned.cache, "--split", "valid")
    assert status == 2
    assert f"{features.path}: not made as the text features that {trained} was trained on: " in err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"corpora": ("clip",)}, r"Unknown corpus in \[adapt\] corpora: 'clip'. Did you mean 'clips'\? Available: clips."),
        ({"modalities": ("audio",)}, r"Unknown modality in \[adapt\] modalities, which has to be in \[corpora\] modalities: 'audio'."),
        ({"tasks": "mer", "emotions": "pseudo"}, r"\[adapt\] emotions = pseudo, but clips gets no pseudo-labels. Name it in luigi.cfg"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(project, changed, message):
    with pytest.raises(InputError, match=message):
        planned(project, **changed)


def test_a_corpus_without_a_validation_split_cannot_teach(project):
    rows = (project.clips / "label.csv").read_text(encoding="utf-8")
    (project.clips / "label.csv").write_text(rows.replace(",valid", ",train"), encoding="utf-8")
    with pytest.raises(InputError, match=r"\[adapt\] corpora clips: no utterance with text in the valid split. An"):
        planned(project)


def test_several_corpora_teach_one_encoder(project):
    donors = (project.root / "donors" / "label.csv").read_text(encoding="utf-8")
    lines = donors.splitlines()
    lines[-3:] = [line.replace(",train", ",valid") for line in lines[-3:]]
    (project.root / "donors" / "label.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plan, adaptation = plan_adaptation(project, corpora=("clips", "donors"), epochs=1)
    made = record(run(plan, adaptation))
    assert made["corpora"] == ["clips", "donors"]
    assert (made["train"]["clips"], made["valid"]["clips"]) == (8 + 9, 8 + 3)
    assert adaptation.source.tuning == "tuned elsewhere, then adapted on clips+donors"
