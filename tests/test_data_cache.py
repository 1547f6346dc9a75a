"""The index of a cache is read, and each error has a helpful message."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from caches import make_cache

from data.cache import INDEX, CachedCorpus, add_corpus, index_content, open_corpus, read_cache
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
    assert json.loads(plan.index.read_text()) == index_content(project.cache, cache.values(), plan.report)
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


def test_an_unknown_corpus_names_the_nearest(cache):
    with pytest.raises(InputError, match=r"^Unknown corpus 'mozi'\. Did you mean 'mosi'\? Available: mosi, mosei\.$"):
        open_corpus(cache, "mozi")


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
