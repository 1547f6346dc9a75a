"""`python -m data`: its output, and the exit status that scripts rely on."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from manifests import manifest

from data.__main__ import main
from data.feature_store import PROVENANCE, FeatureStore, FeatureWriter
from data.manifest import write_manifest, write_table

ATTRIBUTES = dict.fromkeys(PROVENANCE, "x") | {"corpus": "mosi", "encoder": {"name": "roberta-base", "trained": True}}


def write(path, attributes=ATTRIBUTES):
    lengths = [2, 3, 4]
    with FeatureWriter(path, ["v_1", "v_2", "v_3"], lengths, 8, "float16", attributes, ["s"] * 3) as writer:
        for index, length in enumerate(lengths):
            writer.write(index, np.full((length, 8), index + 1.0))
    return path


def damage_last_value(path):
    value = np.full((1, 8), 3.0, np.float16).tobytes()
    content = path.read_bytes()
    at = content.rindex(value)
    path.write_bytes(content[:at] + b"\x01" + content[at + 1 :])


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "features" / "mosi-text.h5")


def python_m_data(*arguments):
    return subprocess.run([sys.executable, "-m", "data", *map(str, arguments)], capture_output=True, text=True)


def test_info_says_what_a_feature_file_holds(path, capsys):
    assert main(["info", str(path)]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    facts = {name: rest[0] if rest else "" for name, *rest in lines}
    assert facts["kind:"] == "features"
    assert (facts["utterances:"], facts["rows:"], facts["dim:"], facts["dtype:"]) == ("3", "9", "8", "float16")
    assert (facts["min:"], facts["median:"], facts["max:"]) == ("2", "3", "4")
    assert facts["size_bytes:"] == f"{path.stat().st_size:,}"
    assert (facts["corpus:"], facts["name:"], facts["trained:"]) == ("mosi", "roberta-base", "true")


def test_info_as_json_holds_all_of_it(path, capsys):
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "kind": "features",
        "path": str(path),
        "utterances": 3,
        "rows": 9,
        "dim": 8,
        "dtype": "float16",
        "size_bytes": path.stat().st_size,
        "rows_per_utterance": {"min": 2, "median": 3, "max": 4},
        "attributes": ATTRIBUTES,
    }


def test_info_understands_manifests_and_ledgers(tmp_path, capsys):
    write_manifest(tmp_path / "m.parquet", manifest("mosi", [{}, {}]), {"layout": "MMSA label.csv"})
    assert main(["info", str(tmp_path / "m.parquet")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:1] == ["kind:                table"]
    assert "rows:                2" in out
    assert "  layout:              MMSA label.csv" in out

    write_table(tmp_path / "ledger.parquet", pd.DataFrame({"donor": ["a"], "similarity": [0.5]}), {"rule": {"neighbours": 3}})
    assert main(["info", str(tmp_path / "ledger.parquet"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["rows"], facts["columns"], facts["attributes"]) == (1, ["donor", "similarity"], {"rule": {"neighbours": 3}})


def test_info_of_a_file_without_utterances(tmp_path, capsys):
    with FeatureWriter(tmp_path / "x.h5", [], [], 8, "float32", {}, []):
        pass
    assert main(["info", str(tmp_path / "x.h5"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["utterances"] == 0


def test_verify_of_a_sound_file(path, capsys):
    assert main(["verify", str(path)]) == 0
    assert capsys.readouterr().out == f"ok       {path}\n"


def test_verify_names_the_damaged_utterances(path, capsys):
    damage_last_value(path)
    with FeatureStore.open(path) as store:
        (problem,) = [damage.problem for damage in store.verify()]
    assert main(["verify", str(path)]) == 1
    assert capsys.readouterr().out == f"damaged  {path}\n         v_3: {problem}\n"


def test_verify_of_a_cut_file_is_damage(path, capsys):
    path.write_bytes(path.read_bytes()[:-100])
    assert main(["verify", str(path)]) == 1
    assert "         truncated or damaged (" in capsys.readouterr().out


def test_verify_misses_what_made_the_file(tmp_path, capsys):
    path = write(tmp_path / "x.h5", {name: "x" for name in PROVENANCE if name not in ("identity", "when")})
    assert main(["verify", str(path)]) == 1
    assert "does not say what made it: no attribute identity, when" in capsys.readouterr().out


def test_verify_of_a_cache_reads_every_feature_file(path, tmp_path, capsys):
    damaged = write(tmp_path / "shards" / "mosi" / "all.h5")
    damage_last_value(damaged)
    (tmp_path / "features" / "foreign.h5").write_text("no HDF5")
    (tmp_path / "features" / ".mosi-audio.h5.tmp~host~1.h5").write_text("half written")
    (tmp_path / ".trash").mkdir()
    (tmp_path / ".trash" / "old.h5").write_text("nobody's")
    assert main(["verify", str(tmp_path)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"damaged  {tmp_path / 'features' / 'foreign.h5'}"
    assert out[1].startswith("         not an HDF5 file")
    assert out[2] == f"ok       {path}"
    assert out[3] == f"damaged  {damaged}"
    assert out[4].startswith("         v_3: checksum")
    assert out[5:] == ["feature files: 3, damaged: 2"]


def test_verify_of_a_sound_cache(path, tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"ok       {path}\nfeature files: 1, damaged: 0\n"


@pytest.mark.parametrize(
    ("command", "content", "message"),
    [
        ("info", None, "cannot be read (No such file or directory)"),
        ("verify", None, "cannot be read (No such file or directory)"),
        ("info", "text", "not an HDF5 file, and so not a feature file"),
        ("verify", "version https://git-lfs.github.com/spec/v1", "a git-lfs pointer, not the file itself"),
        ("info", "PAR1 and no more", "truncated or damaged ("),
    ],
)
def test_unusable_input_is_one_line_and_status_2(tmp_path, capsys, command, content, message):
    path = tmp_path / "x.h5"
    if content is not None:
        path.write_text(content)
    assert main([command, str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {path}: {message}")
    assert printed.err.count("\n") == 1


def test_a_folder_without_feature_files_is_unusable(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: no feature file (.h5) in this folder or below it.\n"


def test_doctor_is_a_command(tmp_path, capsys):
    assert main(["doctor", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_help_shows_a_newcomer_the_way():
    run = python_m_data("--help")
    assert run.returncode == 0
    for line in ("python -m data doctor ~/corpora/MOSI", "python -m data info", "python -m data verify cache", "exit status: 0"):
        assert line in run.stdout
    assert python_m_data().returncode == 2


def test_a_reader_that_has_seen_enough_is_no_error(path):
    for i in range(3000):
        os.link(path, path.with_name(f"{i:04}.h5"))
    run = subprocess.run(
        f"{sys.executable} -m data verify {path.parent} | head -1", shell=True, capture_output=True, text=True, check=True
    )
    assert run.stdout == f"ok       {path.with_name('0000.h5')}\n"
    assert run.stderr == ""
