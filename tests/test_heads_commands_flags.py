"""Flags that several commands share: lists are given alike everywhere."""

from pathlib import Path

import pytest

from heads.__main__ import main, parser

LISTS = [
    ("fit --corpus mosi --seed 1 11", "seed", [1, 11]),
    ("fit --corpus mosi --seeds 1,11", "seed", [1, 11]),
    ("fit --corpus mosi --modalities text,audio", "modalities", ["text", "audio"]),
    ("fit --corpus mosi --modalities text audio", "modalities", ["text", "audio"]),
    ("sweep g.yaml --out o --devices cpu,cpu", "devices", ["cpu", "cpu"]),
    ("sweep g.yaml --device cpu", "devices", ["cpu"]),
    ("tables --device cuda:0 cuda:1", "devices", ["cuda:0", "cuda:1"]),
    ("tables --out o --seeds 1, 11 , 111", "seeds", [1, 11, 111]),
    ("tables --out o --heads mult,misa mmim", "heads", ["mult", "misa", "mmim"]),
    ("tables --out o --only table1 table2", "only", ["table1", "table2"]),
    ("tables --out o --corpora mosi,mosei", "corpora", ["mosi", "mosei"]),
]


@pytest.mark.parametrize(("line", "name", "expected"), LISTS, ids=[line for line, *_ in LISTS])
def test_lists_are_given_alike_everywhere(line, name, expected):
    assert getattr(parser().parse_args(line.split()), name) == expected


DEFAULTS = [("fit --corpus mosi", "runs"), ("tables", "tables"), ("layers --corpus mosi", "layers")]


@pytest.mark.parametrize(("line", "folder"), DEFAULTS)
def test_results_have_a_folder_without_out(line, folder):
    assert parser().parse_args(line.split()).out == Path(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fit --corpus mosi --seed 1,x", "argument --seed/--seeds: '1,x', expected whole numbers, for example 1,11,111"),
        ("tables --out o --seeds ,", "argument --seeds: ',' names nothing"),
        ("tables --out o --heads ,", "argument --heads: ',' names nothing"),
    ],
)
def test_a_list_that_is_none_is_refused(line, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
