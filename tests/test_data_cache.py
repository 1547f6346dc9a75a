"""The index of a cache is read, and each error has a helpful message."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from caches import make_cache

from data import cache as index_of_cache
from data.__main__ import main
from data.cache import (
    INDEX,
    CachedCorpus,
    add_corpus,
    expect_not_imported,
    forget_corpus,
    is_indexed,
    merge_corpora,
    open_corpus,
    read_cache,
)
from data.errors import InputError
from pipeline.steps import write_index


@pytest.fixture
def cache(tmp_path):
    make_cache(tmp_path, "mosi", utterances=12, ledger=True)
    return make_cache(tmp_path, "mosei", utterances=12)


def change(cache, **changed):
    path = cache / INDEX
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def test_a_cache_names_the_files_of_each_corpus(cache):
    features = {"text": cache / "features/mosi-text.h5", "audio": cache / "features/mosi-audio.h5"}
    ledger = cache / "pseudo_labels/mosi.parquet"
    assert list(read_cache(cache)) == ["mosi", "mosei"]
    assert read_cache(cache)["mosi"] == CachedCorpus("mosi", cache / "manifests/mosi.parquet", features, ledger)
    assert open_corpus(cache, "mosi") == read_cache(cache)["mosi"]
    assert read_cache(cache)["mosei"].pseudo_labels is None


def test_what_a_build_writes_is_what_is_read(project):
    plan = project.plan()
    project.cache.mkdir(exist_ok=True)
    write_index(plan)
    cache = read_cache(project.cache)
    assert json.loads(plan.index.read_text())["report"] == plan.report.relative_to(project.cache).as_posix()
    clips = cache["clips"]
    assert clips.manifest == plan.corpora["clips"].manifest
    assert clips.features == {modality: one.path for (corpus, modality), one in plan.features.items() if corpus == "clips"}
    assert clips.pseudo_labels == plan.ledgers["clips"].path


def test_corpora_that_are_added_at_the_same_time_are_all_kept(tmp_path):
    names = [f"clips{i}" for i in range(40)]

    def add(name):
        add_corpus(tmp_path, CachedCorpus(name, tmp_path / f"{name}.parquet", {"text": tmp_path / f"{name}.h5"}, None))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, names))
    assert sorted(read_cache(tmp_path)) == sorted(names)


def test_files_of_a_name_that_is_taken_stay_where_they_are(cache, tmp_path_factory):
    staging = tmp_path_factory.mktemp("staging")
    (staging / "new").mkdir()
    (staging / "new" / "m.parquet").write_text("new")
    with pytest.raises(InputError, match="this cache already has a corpus 'mosi'"):
        add_corpus(cache, CachedCorpus("mosi", cache / "new" / "m.parquet", {}, None), staging)
    assert not (cache / "new").exists()
    add_corpus(cache, CachedCorpus("clips", cache / "new" / "m.parquet", {}, None), staging)
    assert open_corpus(cache, "clips").manifest.read_text() == "new"


def test_a_moved_cache_is_still_a_cache(cache, tmp_path_factory):
    moved = cache.rename(tmp_path_factory.mktemp("elsewhere") / "cache")
    assert open_corpus(moved, "mosei").manifest == moved / "manifests/mosei.parquet"


def test_an_unknown_corpus_names_the_nearest_and_what_was_built_when(cache, monkeypatch):
    monkeypatch.setattr(index_of_cache, "_now", lambda: "2026-01-02T03:04:05+00:00")
    merge_corpora(cache, [read_cache(cache)["mosi"]], cache / "report.html")
    add_corpus(cache, CachedCorpus("clips", cache / "m.parquet", {}, None))
    entries = json.loads((cache / INDEX).read_text())["corpora"]
    del entries["mosei"]["origin"]  # as an index has it that is older
    change(cache, corpora=entries)
    with pytest.raises(InputError) as error:
        open_corpus(cache, "mozi")
    assert str(error.value) == (
        "Unknown corpus 'mozi'. Did you mean 'mosi'? Available: mosi (built 2026-01-02T03:04:05+00:00), mosei, "
        "clips (imported 2026-01-02T03:04:05+00:00)."
    )


def files(cache, name, key, *modalities, ledger=False):
    features = {modality: cache / f"{name}-{modality}-{key}.h5" for modality in modalities}
    return CachedCorpus(name, cache / f"{name}-{key}.parquet", features, cache / f"{name}-{key}-ledger.parquet" if ledger else None)


def test_a_second_build_keeps_the_corpora_of_the_first_and_replaces_its_own(tmp_path):
    first = [files(tmp_path, "mosi", 1, "text", "sentence", ledger=True), files(tmp_path, "mosei", 1, "sentence")]
    merge_corpora(tmp_path, first, tmp_path / "a.html")
    second = [files(tmp_path, "mosei", 2, "text"), files(tmp_path, "meld", 1, "text")]
    merge_corpora(tmp_path, second, tmp_path / "b.html")
    assert read_cache(tmp_path) == {"mosi": first[0], "mosei": second[0], "meld": second[1]}
    assert json.loads((tmp_path / INDEX).read_text())["report"] == "b.html"
    assert is_indexed(tmp_path, second, tmp_path / "b.html")
    assert not is_indexed(tmp_path, first, tmp_path / "b.html")
    assert not is_indexed(tmp_path, second, tmp_path / "a.html")


def test_a_donor_keeps_its_features_as_long_as_its_manifest_is_the_same(tmp_path):
    whole = files(tmp_path, "mosi", 1, "text", "audio", ledger=True)
    merge_corpora(tmp_path, [whole], tmp_path / "a.html")
    donor = files(tmp_path, "mosi", 1, "sentence")
    merge_corpora(tmp_path, [donor], tmp_path / "b.html")
    assert read_cache(tmp_path)["mosi"].features == {**whole.features, **donor.features}
    assert read_cache(tmp_path)["mosi"].pseudo_labels == whole.pseudo_labels
    assert is_indexed(tmp_path, [donor], tmp_path / "b.html")
    changed = files(tmp_path, "mosi", 2, "sentence")
    merge_corpora(tmp_path, [changed], tmp_path / "b.html")
    assert read_cache(tmp_path)["mosi"] == changed


def test_builds_and_imports_at_the_same_time_are_all_kept(tmp_path):
    def change_index(number):
        one = files(tmp_path, f"corpus{number}", 1, "text")
        if number % 2:
            add_corpus(tmp_path, one)
        else:
            merge_corpora(tmp_path, [one], tmp_path / "a.html")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(change_index, range(40)))
    assert len(read_cache(tmp_path)) == 40


def test_a_corpus_leaves_by_command_only_and_its_files_stay(cache, capsys):
    known = read_cache(cache)["mosi"]
    assert main(["forget", str(cache), "mosi"]) == 0
    shown = capsys.readouterr().out
    assert all(str(path) in shown and path.is_file() for _, path in known.files())
    assert list(read_cache(cache)) == ["mosei"]
    assert main(["forget", str(cache), "mosi"]) == 2
    assert capsys.readouterr().err.startswith("error: Unknown corpus 'mosi'. Did you mean 'mosei'?")
    forget_corpus(cache, "mosei")
    assert read_cache(cache) == {}
    with pytest.raises(InputError, match=r"Available: none\.$"):
        open_corpus(cache, "mosei")


def test_a_build_does_not_replace_an_imported_corpus(tmp_path):
    imported = files(tmp_path, "mosi", 1, "text")
    expect_not_imported(tmp_path, ["mosi"])
    add_corpus(tmp_path, imported)
    expect_not_imported(tmp_path, ["mosei"])
    for refuse in (
        lambda: expect_not_imported(tmp_path, ["mosi"]),
        lambda: merge_corpora(tmp_path, [files(tmp_path, "meld", 1), files(tmp_path, "mosi", 2)], tmp_path / "a.html"),
    ):
        with pytest.raises(InputError, match=r"this cache has an imported corpus 'mosi' .* python -m data forget \S+ mosi$"):
            refuse()
    assert read_cache(tmp_path) == {"mosi": imported}


def test_a_build_keeps_a_damaged_index_aside(tmp_path):
    (tmp_path / INDEX).write_text("{")
    expect_not_imported(tmp_path, ["mosi"])
    merge_corpora(tmp_path, [files(tmp_path, "mosi", 1)], tmp_path / "a.html")
    assert list(read_cache(tmp_path)) == ["mosi"]
    assert (tmp_path / "index.damaged.json").read_text() == "{"


@pytest.mark.parametrize("path", ["../mosi.parquet", "a/../../mosi.parquet", "/etc/passwd", "", ".", "a\0b", "a\nb", 3, None, []])
@pytest.mark.parametrize("place", ["manifest", "features", "pseudo_labels"])
def test_a_path_outside_the_cache_is_refused(cache, path, place):
    entries = json.loads((cache / INDEX).read_text())["corpora"]
    entries["mosi"][place] = {"text": path} if place == "features" else path
    change(cache, corpora=entries)
    with pytest.raises(InputError) as error:
        open_corpus(cache, "mosei")
    assert str(error.value).startswith(f"{cache / INDEX}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../mosi", "a/b", "", "..", "a b"])
def test_a_name_that_no_command_gives_is_refused(cache, name):
    entries = json.loads((cache / INDEX).read_text())["corpora"]
    change(cache, corpora=entries | {name: entries["mosi"]})
    with pytest.raises(InputError, match=r"has a name that no command gives"):
        read_cache(cache)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("manifests/mosi.parquet", "manifest"),
        ("features/mosi-audio.h5", "audio features"),
        ("pseudo_labels/mosi.parquet", "pseudo labels"),
    ],
)
def test_a_missing_file_is_named_when_its_corpus_is_opened(cache, file, kind):
    (cache / file).unlink()
    with pytest.raises(InputError) as error:
        open_corpus(cache, "mosi")
    assert str(error.value).startswith(f"{cache / file}: no such file, but {cache / INDEX} names it as the {kind} of mosi.")
    assert open_corpus(cache, "mosei").name == "mosei"


def test_a_folder_that_is_no_cache_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder, expected a cache\. Run BuildFeatures"):
        read_cache(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"not a cache: it has no index\.json\. Run BuildFeatures"):
        read_cache(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"version": "1", "corpora": {}}',
        '{"version": 1}',
        '{"version": 1, "corpora": []}',
        '{"version": 1, "corpora": {"mosi": {"features": {}}}}',
        '{"version": 1, "corpora": {"mosi": {"manifest": 3, "features": {}}}}',
        '{"version": 1, "corpora": {"mosi": {"manifest": "x", "features": []}}}',
        '{"version": 1, "corpora": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"version": ' + "9" * 5_000 + ', "corpora": {}}',
    ],
)
def test_a_damaged_index_is_refused(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(InputError) as error:
        read_cache(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / INDEX}: damaged (")
    assert "Run BuildFeatures again" in str(error.value)


def test_an_index_of_a_newer_version_is_refused_whatever_is_in_it(cache):
    change(cache, version=2, corpora="elsewhere")
    with pytest.raises(InputError, match=r"index\.json: index of version 2; this program reads up to 1\. Install a newer one\.$"):
        read_cache(cache)
