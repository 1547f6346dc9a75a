"""`python -m heads` when it cannot do what is asked: one line, exit status 2, and nothing written."""

import json
import shutil
from pathlib import Path

import pytest
import small_runs
from caches import make_cache
from command_line import call, content

from data.cache import open_corpus
from data.feature_store import FeatureStore, FeatureWriter
from heads.__main__ import main


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Corpora: mosi, with emotions and a ledger; clips, with no label."""
    folder = make_cache(tmp_path_factory.mktemp("cache"), ledger=True)
    return make_cache(folder, corpus="clips", utterances=9, labelled=False)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory) -> Path:
    """A run of pre-fusion. Not to be changed."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs")).path


@pytest.fixture
def own(complete, tmp_path) -> Path:
    """The same run, to be changed."""
    return shutil.copytree(complete, tmp_path / "own" / complete.name)


COMMANDS = ["evaluate {run} --split=test", "predict {run} --out={tmp}/predictions.parquet"]


def filled(command: str, run: Path, tmp: Path) -> list[str]:
    return command.format(run=run, tmp=tmp).split()


def encode_otherwise(cache: Path) -> None:
    """Writes the text features of mosi again, as if they were of another layer."""
    path = open_corpus(cache, "mosi").features["text"]
    with FeatureStore.open(path) as store:
        facts = store.attrs | {"identity": {"layer": -2}}
        values = [store.read(index, index + 1) for index in range(len(store))]
        with FeatureWriter(path, store.ids, store.lengths.tolist(), store.dim, "float16", facts, store.sources) as writer:
            for index, rows in enumerate(values):
                writer.write(index, rows)


@pytest.mark.parametrize("command", COMMANDS)
def test_features_of_another_encoder_are_refused(refused, own, tmp_path, command):
    other = make_cache(tmp_path / "cache", ledger=True)
    arguments = [*filled(command, own, tmp_path), f"--cache={other}"]
    assert main(arguments) == 0
    (own / "opened.csv").unlink(missing_ok=True)
    (tmp_path / "predictions.parquet").unlink(missing_ok=True)
    encode_otherwise(other)
    expected = (
        f"{other}/features/mosi-text.h5: not made as the text features that {own} was trained on: identity.layer is -2, not None."
        " Build the cache with the same encoder and settings."
    )
    assert refused(*arguments) == expected
    assert not (own / "opened.csv").exists()
    assert not (tmp_path / "predictions.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("list mmolr", "Unknown head 'mmolr'. Did you mean 'mmolre'? "),
        ("evaluate {tmp}/none", "none/config.json: no such file, so {tmp}/none is no run folder."),
        ("predict {tmp}/none --out {tmp}/p.csv", "none/config.json: no such file, so {tmp}/none is no run folder."),
        ("predict {tmp} --out {tmp}/p.csv", "/config.json: no such file, so {tmp} is no run folder."),
        ("evaluate {run} --checkpoint best-corr", "best-corr.safetensors: no such checkpoint. Available: best-mae.safetensors, "),
        ("evaluate {run} --cache {unlabelled} --split test", "mosi: none of 4 utterances of test has sentiment labels, "),
        ("predict {run} --corpus clip --out {tmp}/p.csv", "Unknown corpus 'clip'. Did you mean 'clips'? "),
        ("predict {run} --out {tmp}", "--out is {tmp}, expected a name that ends in .csv or .parquet."),
        ("predict {run} --out {run}/config.json/p.csv", "config.json"),
    ],
)
def test_other_commands_refuse_what_they_cannot_do(refused, complete, tmp_path, arguments, message):
    unlabelled = make_cache(tmp_path / "unlabelled", utterances=24, labelled=False)
    given = [part.format(tmp=tmp_path, run=complete, unlabelled=unlabelled) for part in arguments.split()]
    before = content(complete)
    assert message.format(tmp=tmp_path) in refused(*given)
    assert content(complete) == before
    assert list(tmp_path.iterdir()) == [unlabelled]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["config.json", "metrics.json", "checkpoint.safetensors"])
def test_a_damaged_run_is_refused_and_named(refused, own, tmp_path, name, command):
    path = own / name
    path.write_bytes(path.read_bytes()[:20])
    before = content(own)
    message = refused(*filled(command, own, tmp_path))
    assert message.startswith(f"{path}: damaged (")
    assert message.endswith(f"). Remove the run folder {own} and run the command that made it again.")
    assert content(own) == before
    assert not (tmp_path / "predictions.parquet").exists()


@pytest.mark.parametrize("command", [*COMMANDS, "fit"])
def test_what_is_said_to_help_a_damaged_run_does(refused, capsys, cache, own, tmp_path, command):
    (own / "checkpoint.safetensors").write_bytes(b"")
    (own / "metrics.json").write_text("[]", encoding="utf-8")
    fit = small_runs.command(cache, own.parent)
    arguments = fit if command == "fit" else filled(command, own, tmp_path)
    assert refused(*arguments).endswith(f"Remove the run folder {own} and run the command that made it again.")
    shutil.rmtree(own)
    assert call(capsys, *fit)[0] == 0
    assert call(capsys, *arguments)[0] == 0


@pytest.mark.parametrize("command", [*COMMANDS, "fit"])
def test_a_configuration_that_lacks_a_part_names_it(refused, cache, own, tmp_path, command):
    values = json.loads((own / "config.json").read_text())
    del values["encoders"]["audio"]
    (own / "config.json").write_text(json.dumps(values), encoding="utf-8")
    arguments = small_runs.command(cache, own.parent) if command == "fit" else filled(command, own, tmp_path)
    assert refused(*arguments).startswith(f"{own}/config.json: damaged (encoders.audio is missing). Remove the run folder {own} and ")


def test_values_of_a_configuration_that_cannot_be_are_refused(refused, own):
    values = json.loads((own / "config.json").read_text())
    for section, wrong, shown in (("train", {"lr": "high"}, "'high'"), ("model", [], "[]")):
        changed = values | {"config": values["config"] | {section: wrong}}
        (own / "config.json").write_text(json.dumps(changed), encoding="utf-8")
        message = refused("evaluate", own)
        assert message.startswith(f"{own}/config.json: {section}")
        assert shown in message
    unknown = values | {"config": values["config"] | {"head": "mmolr"}}
    (own / "config.json").write_text(json.dumps(unknown), encoding="utf-8")
    assert refused("evaluate", own).startswith(f"Unknown head in {own}/config.json 'mmolr'. Did you mean 'mmolre'?")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_is_not_complete_has_nothing_to_show(refused, own, tmp_path, command):
    (own / "metrics.json").unlink()
    message = f"{own}: this run is not complete. Run the same fit command again; it goes on where it stopped."
    assert refused(*filled(command, own, tmp_path)) == message
    assert not (own / "opened.csv").exists()
    assert not (tmp_path / "predictions.parquet").exists()
