"""Heads of one's own: how they are named, found, loaded and refused. The contract is in test_heads_models_contract."""

import hashlib
import pickle
import re

import pytest
from command_line import call
from own_heads import example, write
from projects import finish, forked

from data.errors import InputError
from heads.models import own
from heads.models.registry import HEADS, find
from heads.runs.config import make_config


def test_a_file_is_a_head_whose_name_is_the_file_s_and_whose_key_does_not_depend_on_its_folder(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    write(tmp_path), write(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    here, there = (make_config(f"{folder}gated.py:Gated", "mosi") for folder in ("", "other/"))
    assert here.head == f"{tmp_path / 'gated.py'}:Gated"
    assert own.short_name(here.head) == "gated.Gated"
    assert here.head_source == hashlib.sha256(example().encode()).hexdigest()[:16]
    assert here.key() == there.key() != make_config(write(tmp_path, {"(64,": "(65,"}), "mosi").key()


def test_the_recipe_of_the_class_is_that_of_the_preset_native_which_is_then_the_default(tmp_path):
    head = write(tmp_path)
    config = make_config(head, "mosi")
    assert (config.preset, config.train.lr, config.train.max_epochs, config.data.like_lengths) == ("native", 1e-3, 30, False)
    assert make_config(head, "mosi", "light").train == make_config("mult", "mosi", "light").train
    without = write(tmp_path, {'    RECIPE = {"train": {"lr": 1e-3, "max_epochs": 30}}\n': ""}, "plain.py")
    assert make_config(without, "mosi").preset == "light"
    (tmp_path / "own.yaml").write_text(f"train: {{lr: 0.5}}\nheads: {{'{head}': {{model: {{width: 8}}}}}}\n")
    config = make_config(head, "mosi", str(tmp_path / "own.yaml"))
    assert (config.train.lr, config.model.width) == (0.5, 8)


def test_a_module_and_an_entry_point_of_an_installed_package_are_heads(tmp_path, monkeypatch, capsys):
    (tmp_path / "gates").mkdir()
    write(tmp_path / "gates", name="gated.py")
    facts = tmp_path / "gates-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: gates\nVersion: 1.0\n")
    points = "gate = gates.gated:Gated\nmult = gates.gated:Gated\nlost = gates.missing:Gated\n"
    (facts / "entry_points.txt").write_text(f"[{own.GROUP}]\n{points}")
    monkeypatch.syspath_prepend(tmp_path)
    by_module, by_name = (make_config(name, "mosi") for name in ("gates.gated:Gated", "gate"))
    assert by_module.head_source == by_name.head_source == hashlib.sha256(example().encode()).hexdigest()[:16]
    assert own.short_name(by_module.head) == "gates.gated.Gated"
    status, out, _ = call(capsys, "list")
    assert status == 0
    assert re.search(r"^gate +/\S+/gated.py +both +both +text, audio +no +yes +own head +A gate between .* +107,143$", out, re.M)
    assert (
        "gates.gated:Gated, of gates, offered as head mult: this program has a head of that name. Use it as gates.gated:Gated." in out
    )
    assert "gates.missing:Gated, of gates, offered as head lost: There is no module 'gates.missing' for the head." in out
    with pytest.raises(InputError, match=r"Unknown head 'gat'\. Did you mean 'gate'"):
        find("gat")


def test_a_configuration_brings_its_head_to_another_process_whatever_has_become_of_the_file(tmp_path):
    config = make_config(write(tmp_path), "mosi", changes={"model": {"width": 8}})
    (tmp_path / "sent").write_bytes(pickle.dumps(config))
    (tmp_path / "gated.py").unlink()
    code = (
        "import pickle, sys; from pathlib import Path; from heads.models.registry import HEADS;"
        " config = pickle.loads(Path('sent').read_bytes());"
        " print(config.model, config.key(), HEADS[config.head].head(config.model, {'text': 3, 'audio': 2}, 'msa').gate);"
        f" print({str(tmp_path)!r} in sys.path)"
    )
    result = finish(forked("-c", code, cwd=tmp_path))
    gate = "Linear(in_features=16, out_features=8, bias=True)"
    assert result.stdout == f"GatedOptions(width=8, dropout=0.1) {config.key()} {gate}\nFalse\n", result.stderr


_CLASS = "class Gated(Head):"
REFUSED = {
    "no file": ({}, "none.py:Gated", r"none\.py: the file of head Gated cannot be read \(No such file or directory\)\.$"),
    "no class": ({}, "gated.py:Gate", r"gated\.py: there is no class 'Gate'\. Did you mean Gated\? Heads there: Gated\.$"),
    "no head": (
        {},
        "gated.py:GatedOptions",
        r"gated\.py: GatedOptions is no head: a head is a subclass of heads\.models\.base\.Head\.",
    ),
    "no module": ({}, "nowhere.none:Gated", r"^There is no module 'nowhere' for the head\. Name the file"),
    "a mistake of syntax": ({_CLASS: "class Gated(Head:"}, "gated.py:Gated", r"^\S+/gated\.py:21: SyntaxError: invalid syntax$"),
    "a mistake in its imports": (
        {"import masked_mean": "import masked_men"},
        "gated.py:Gated",
        r"^\S+/gated\.py:11: ImportError: cannot import name 'masked_men' from",
    ),
    "an import from beside it": (
        {"import torch\nfrom": "import torch\nimport helper\nfrom"},
        "gated.py:Gated",
        r"^\S+/gated\.py:6: ModuleNotFoundError: No module named 'helper'$",
    ),
    "an exit": ({_CLASS: f"raise SystemExit(3)\n\n\n{_CLASS}"}, "gated.py:Gated", r"^\S+/gated\.py:21: SystemExit: 3$"),
    "no options": ({"    Options = GatedOptions\n": ""}, "gated.py:Gated", r"Gated\.Options is None, expected a frozen dataclass"),
    "options that can change": (
        {"frozen=True, ": ""},
        "gated.py:Gated",
        r"Gated\.Options is <class .*GatedOptions'>, expected a frozen",
    ),
    "an option without a default": (
        {"width: int = option(64, most=4096)": "width: int"},
        "gated.py:Gated",
        r"gated\.py: Gated\.Options: width has no default\. Every option needs one\.$",
    ),
    "a task that does not exist": (
        {"    Options = ": '    only_task = "sentiment"\n    Options = '},
        "gated.py:Gated",
        r"Gated\.only_task is 'sentiment', expected one of msa, mer, both, or None\.$",
    ),
    "a recipe for what is chosen elsewhere": (
        {'"max_epochs": 30}}': '"max_epochs": 30}, "seed": 3}'},
        "gated.py:Gated",
        r"gated\.py: RECIPE: 'seed' cannot be set here, only options of train, loss, data, model\.$",
    ),
    "a recipe with a mistyped name": ({'"lr"': '"rate"'}, "gated.py:Gated", r"unknown option 'train\.rate'"),
}


@pytest.mark.parametrize(("changes", "name", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_head_is_refused_in_a_line(tmp_path, monkeypatch, capsys, changes, name, message):
    write(tmp_path, changes)
    (tmp_path / "helper.py").write_text("")
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, "list", name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.search(message, err.removeprefix("error: ").rstrip("\n"))


def test_a_head_that_learns_one_task_says_so_and_one_that_reads_text_alone_too(tmp_path):
    text = {
        "    Options = GatedOptions": '    only_task, needs = "msa", ("text",)\n    Options = GatedOptions',
        "text, audio = (": "(text,) = (",
        "torch.cat([text, audio], -1)": "torch.cat([text, text], -1)",
        "(1 - gate) * audio": "(1 - gate) * text.flip(-1)",
    }
    name = write(tmp_path, text)
    assert make_config(name, "mosi").task == "msa"
    with pytest.raises(InputError, match="learns the task 'msa' only, asked for 'mer'"):
        make_config(name, "mosi", changes={"task": "mer"})


def test_check_and_params_are_commands(tmp_path, capsys):
    head = write(tmp_path)
    status, out, _ = call(capsys, "check", head, "--set", "model.width=8")
    assert (status, out.splitlines()[-1]) == (0, "The head keeps the contract.")
    assert {line.rpartition(": ")[2] for line in out.splitlines()[:-1]} == {"ok"}
    status, out, _ = call(capsys, "check", write(tmp_path, {"Dropout(options.dropout)": "nn.Dropout(options.dropout)"}, "other.py"))
    assert (status, out.count(": FAILED: "), out.splitlines()[-1].partition(".")[0]) == (1, 2, "2 checks failed")
    _, out, _ = call(capsys, "params", "--head", head, "--set", "model.width=8")
    counts = {"project": 2 * (768 * 8 + 8), "gate": 16 * 8 + 8, "outputs": 7 * 8 + 7}
    wanted = counts | {"gated.Gated": sum(counts.values())}
    assert [line.split() for line in out.splitlines()[1:]] == [[name, f"{count:,}"] for name, count in wanted.items()]
    assert call(capsys, "check", "ridge")[2].startswith("error: ridge is a simple baseline of scikit-learn")


def test_the_example_is_short():
    assert len([line for line in example().splitlines() if line.strip()]) <= 32


def test_an_error_of_the_program_stays_one(tmp_path):
    write(tmp_path)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), own.errors_in_short():
            _ = 1 / 0
        make_config(f"{tmp_path}/gated.py:Gated", "mosi")  # in the second round, there is a head that might have raised it


def test_an_unknown_head_is_still_unknown():
    with pytest.raises(KeyError):
        HEADS["nothing"]
