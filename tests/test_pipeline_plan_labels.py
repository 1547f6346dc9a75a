"""Label sets in a plan: they change the keys of manifests, not of features; corpora with other labels do not mix."""

import dataclasses

import pytest
from projects import read_rows, write_project, write_rows

from data.errors import InputError
from data.label_sets import OPEN, parse
from data.labels import MOSEI_LABELS
from pipeline.settings import SAMPLE, AdaptSettings, CorpusSettings


@pytest.fixture(scope="module")
def project(tmp_path_factory, tiny_bert):
    return write_project(tmp_path_factory.mktemp("labels"), tiny_bert)


def plan(project, *corpora, **changed):
    chosen = [
        CorpusSettings(name, name, SAMPLE / name, parse(labels, "here") if labels else OPEN, session)
        for name, labels, session in corpora
    ]
    return project.plan(corpora=tuple(chosen), features=(), modalities=("text",), targets=(), donors=(), **changed)


def test_a_label_set_and_a_fold_rename_the_manifest_alone(project):
    usual, stated = plan(project, ("meld", "", None)), plan(project, ("meld", "meld7", None))
    assert plan(project, ("meld", "mosei", None)).corpora["meld"].manifest == usual.corpora["meld"].manifest
    assert stated.corpora["meld"].manifest != usual.corpora["meld"].manifest
    assert [one.path for one in stated.features.values()] == [one.path for one in usual.features.values()]
    assert "label_set" not in usual.corpora["meld"].parts
    assert stated.corpora["meld"].corpus.labels.is_exclusive
    folds = [plan(project, ("iemocap", "iemocap4", session)) for session in (None, 5, 1)]
    manifests = [one.corpora["iemocap"].manifest for one in folds]
    assert manifests[0] == manifests[1] != manifests[2]
    assert len({one.path for fold in folds for one in fold.features.values()}) == 1


def test_classes_and_emotions_of_the_same_names_have_keys_of_their_own(project, tmp_path):
    keys = set()
    for spec in ("one of anger, joy", "anger, joy", "one of joy, anger"):
        keys.add(plan(project, ("meld", spec, None)).corpora["meld"].key)
    assert len(keys) == 3


def test_pseudo_labels_are_not_borrowed_between_corpora_with_other_emotions(project):
    corpora = (CorpusSettings("mosi", "mosi", SAMPLE / "mosi"), CorpusSettings("meld", "meld", SAMPLE / "meld", parse("meld7", "here")))
    with pytest.raises(InputError) as refused:
        project.plan(corpora=corpora, features=(), targets=("mosi",), donors=("meld",))
    assert str(refused.value) == (
        "[pseudo_labels] the donor meld has the labels one of neutral, surprise, fear, sadness, joy, disgust, anger; [-3, 3], but"
        f" pseudo-labels are {', '.join(MOSEI_LABELS.emotions)}. Take meld out of donors, or out of labels in section [corpora]."
    )


def test_a_target_may_have_another_scale(project, tmp_path):
    copy = project.copy(tmp_path / "project")
    rows = read_rows(copy.clips / "label.csv")
    write_rows(copy.clips / "label.csv", [{**row, "label": str(float(str(row["label"])) / 3)} for row in rows])
    clips, donors = CorpusSettings("clips", "folder", copy.clips, parse("[-1, 1]", "here")), copy.root / "donors"
    made = copy.plan(corpora=(clips, CorpusSettings("donors", "folder", donors)))
    assert made.corpora["clips"].corpus.labels.scale == (-1, 1)
    assert set(made.ledgers) == {"clips"}


def test_an_encoder_learns_from_corpora_with_the_same_labels(project):
    adapt = AdaptSettings(corpora=("meld", "iemocap"), tasks="mer")
    same = plan(project, ("meld", "iemocap4", None), ("iemocap", "iemocap4", None), adapt=adapt)
    assert next(iter(same.adaptations.values())).labels.emotions == ("happiness", "sadness", "neutral", "anger")
    usual = plan(project, ("meld", "", None), ("iemocap", "", None), adapt=adapt)
    assert "label_set" not in next(iter(usual.adaptations.values())).parts
    with pytest.raises(InputError, match=r"^\[adapt\] corpora: meld has the labels one of neutral, .*, iemocap one of happiness, "):
        plan(project, ("meld", "meld7", None), ("iemocap", "iemocap4", None), adapt=adapt)


def test_settings_are_frozen_values(project):
    settings = CorpusSettings("meld", "meld", SAMPLE / "meld", parse("meld7", "here"))
    assert dataclasses.replace(settings, labels=OPEN) == CorpusSettings("meld", "meld", SAMPLE / "meld")
