"""`python -m heads list`: a line for each head, and the options of one."""

from command_line import call, printed
from projects import finish, python

from heads.models.options import nested, parse_assignments
from heads.models.registry import HEADS
from heads.runs.config import make_config
from pipeline.settings import CHECKOUT

LISTED = {
    "pre-fusion": "both both any no yes faithful 192,190,471",
    "baseline-mer": "mer mer any no yes faithful 96,096,518",
    "mult": "msa both text, audio, more no yes faithful 277,867",
    "self-mm": "msa both text, audio no no faithful 275,573",
    "spectra": "msa both text, audio no yes variant 7,685,383",
    "multilogue-net": "both both text, audio, more yes no faithful 6,288,007",
    "cogmen": "both both any yes no faithful 31,723,931",
    "ple": "– both any no yes faithful 209,068,073",
    "ridge": "– both any no no simple baseline –",
}
"""published, learns, reads, context, packable, reproduction, parameters; a head that reads whole videos is not packable."""


def test_list_has_a_line_for_each_head(capsys):
    status, out, err = call(capsys, "list")
    assert (status, err) == (0, "")
    found = printed(out, "head")
    assert list(found) == list(HEADS)
    for name, entry in HEADS.items():
        assert (found[name]["paper"], found[name]["what it is"]) == (entry.source, entry.summary)
        assert (found[name]["learns"], found[name]["reproduction"] == "simple baseline") == (entry.task or "both", entry.head is None)
    columns = ("published", "learns", "reads", "context", "packable", "reproduction", "parameters")
    assert {name: " ".join(found[name][column] for column in columns) for name in LISTED} == LISTED


def test_the_table_is_printed_without_torch_and_without_a_head():
    code = (
        "import sys; from heads.__main__ import main; main(['list']);"
        " print('imported:', *sorted({'torch', 'pandas', 'heads.models.mmolre', 'heads.models.base'} & set(sys.modules)))"
    )
    result = finish(python("-c", code, cwd=CHECKOUT))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "imported:"


def test_list_of_a_head_has_its_options_as_set_takes_them(capsys):
    status, out, _ = call(capsys, "list", "mmolre", "--preset", "light")
    assert status == 0
    values = parse_assignments(out.replace(" = ", "=").splitlines())
    assert values["model.mixture.rank"] == 16
    expected = make_config("mmolre", "CORPUS", "light").as_dict() | {"preset": "paper-mosi"}
    assert make_config("mmolre", "CORPUS", "paper-mosi", nested(values)).as_dict() == expected


def test_a_preset_for_no_head_is_refused(capsys):
    status, out, err = call(capsys, "list", "--preset", "light")
    assert (status, out, err) == (2, "", "error: --preset is for the options of one head. Name a HEAD, or leave --preset out.\n")
