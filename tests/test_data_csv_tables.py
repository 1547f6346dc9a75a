"""Tables are read as text, by column name; every error has file, line, value and the expected values."""

import csv
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data import csv_tables
from data.errors import InputError

cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
records = st.tuples(cells, cells, cells).filter(lambda record: any(map(str.strip, record)))


def write(folder, text, encoding="utf-8"):
    path = folder / "label.csv"
    path.write_bytes(text.encode(encoding))
    return path


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(records, min_size=1, max_size=6), bom=st.booleans())
@example(rows=[("a\nb", "0012", "NA"), ('say "so"', "\x85\u2028", "nan")], bom=True)
def test_every_cell_comes_back_as_it_was_written_with_its_line(tmp_path_factory, rows, bom):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    lines, line = [], 2
    with path.open("w", newline="", encoding="utf-8-sig" if bom else "utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["a", "b", "c"])
        for row in rows:
            writer.writerow(row)
            lines.append(line)
            line += 1 + sum(len(re.findall("\r\n|\r|\n", cell)) for cell in row)
    table = csv_tables.read_table(path, ("c", "a"))
    assert list(table.itertuples(index=False, name=None)) == rows
    assert table.index.tolist() == lines


def test_equal_short_cells_are_one_text_in_memory(tmp_path):
    long = "a text of more than sixteen characters"
    table = csv_tables.read_table(write(tmp_path, f"id,mode,text\n1,train,{long}\n2,train,{long}\n3,test,x\n"), ("id",))
    assert table["mode"].tolist() == ["train", "train", "test"]
    assert table["mode"].iloc[0] is table["mode"].iloc[1]
    assert table["text"].tolist() == [long, long, "x"]


def test_columns_in_any_order_and_blank_lines_are_read(tmp_path):
    table = csv_tables.read_table(write(tmp_path, " text ,id\r\n\r\nhello,0012\r\n"), ("id", "text"))
    assert table.to_dict("list") == {"text": ["hello"], "id": ["0012"]}
    assert table.index.tolist() == [3]


def test_what_a_spreadsheet_leaves_is_skipped(tmp_path):
    text = "id,text,,\r\n,,,\r\n1,hello,,\r\n,,,,,\r\n,lost id,,\r\n,,\r\n , ,,\r\n,,,\r\n"
    table = csv_tables.read_table(write(tmp_path, text), ("id", "text"))
    assert table.to_dict("list") == {"id": ["1", ""], "text": ["hello", "lost id"]}
    assert table.index.tolist() == [3, 5]


@pytest.mark.parametrize("line", ["sep=,", "SEP=,", '"sep=,"', "sep=,,,"])
def test_a_line_that_names_the_delimiter_is_skipped(tmp_path, line):
    table = csv_tables.read_table(write(tmp_path, f'{line}\r\nid,text\r\n1,"a\nb"\r\n2,c\r\n', "utf-8-sig"), ("id", "text"))
    assert table.to_dict("list") == {"id": ["1", "2"], "text": ["a\nb", "c"]}
    assert table.index.tolist() == [3, 5]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_delimiter_that_the_file_names_is_used(tmp_path, delimiter):
    rows = [["id", "text"], ["1", "a, b"], ["2", "c"]]
    text = "".join(f"{delimiter.join(row)}\n" for row in rows)
    table = csv_tables.read_table(write(tmp_path, f"sep={delimiter}\n{text}"), ("id", "text"))
    assert table.to_dict("list") == {"id": ["1", "2"], "text": ["a, b", "c"]}


def test_other_delimiters_inside_the_name_of_a_column_are_letters(tmp_path):
    assert list(csv_tables.read_table(write(tmp_path, 'id,text,"a;b"\n1,a,b\n'), ("id",))) == ["id", "text", "a;b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,text\n1,a\n2\n", r"label\.csv:3: 1 fields, expected 2 as in the header"),
        ("id,text\n1,a,b\n", r"label\.csv:2: 3 fields, expected 2"),
        ('id,text\n1,"a\n2,b\n', r"label\.csv:2: not a CSV record"),
        ("id,id,text\n1,2,a\n", r"label\.csv:1: columns \['id'\] appear twice"),
        ("id,txt\n1,a\n", r"label\.csv:1: no column 'text'\. Did you mean 'txt'\? Then rename it\. Columns found: id, txt\."),
        ("id,Text\n1,a\n", r"no column 'text'\. Did you mean 'Text'\?"),
        ("id;text\n1;a\n", r"label\.csv:1: the columns are separated by semicolons, expected commas\. Save it as CSV with commas"),
        ("id\ttext\n1\ta, b\n", r"label\.csv:1: the columns are separated by tabs, expected commas"),
        ("\nid|text|a,b\n1|a|c\n", r"label\.csv:2: the columns are separated by vertical bars, expected commas"),
        ("sep=;\nid,text\n1,a\n", r"label\.csv:2: the columns are separated by commas, expected semicolons"),
        ("sep=,\nid,text\n1,a,b\n", r"label\.csv:3: 3 fields, expected 2"),
        ("id,text,,\n1,a,,x\n2,b,y,\n", r"columns \[''\] appear twice"),
        ("id,text\n,\n,\n", "expected a header line and at least one row"),
        ("id,text\n", "expected a header line and at least one row"),
        ("", "the file is empty"),
        ("\ufeff", "expected a header line and at least one row"),
        ("<!doctype html><html>", "an HTML page"),
        ("version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
    ],
)
def test_a_broken_table_names_the_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        csv_tables.read_table(write(tmp_path, text), ("text",))


def test_bytes_that_are_not_utf8_name_the_line_or_use_the_fallback(tmp_path):
    path = write(tmp_path, "id,text\n1,a\n2,café\n", "latin-1")
    with pytest.raises(InputError, match=r"label\.csv:3: byte 0xe9 is not UTF-8\. Save the file as UTF-8"):
        csv_tables.read_table(path, ("text",))
    assert csv_tables.read_lines(path, fallback="latin-1") == [(1, "id,text"), (2, "1,a"), (3, "2,café")]


def column(*values, name="label"):
    return pd.Series(list(values), index=range(2, 2 + len(values)), name=name, dtype=object)


@pytest.mark.parametrize("bad", ["", "  ", "abc", "nan", "inf", "1,5", "--1"])
def test_what_is_no_number_names_line_and_value(tmp_path, bad):
    with pytest.raises(InputError) as caught:
        csv_tables.numbers(column("1", " -2.5 ", bad), tmp_path / "label.csv")
    assert str(caught.value) == f"{tmp_path / 'label.csv'}:4: label is {bad!r}, expected a number."


def test_what_a_damaged_table_holds_does_not_fill_the_screen(tmp_path):
    with pytest.raises(InputError, match=r":2: label is 'a{78}…, expected a number\.$"):
        csv_tables.numbers(column("a" * 1_000_000), tmp_path)
    with pytest.raises(InputError, match=r":1: no column 'text'\. Columns found: \\x1b, b{390,400}…\.$"):
        csv_tables.require_columns(pd.DataFrame(columns=["\x1b", "b" * 1_000_000]), ["text"], tmp_path)


def test_numbers_are_read_and_empty_cells_are_nan_where_allowed(tmp_path):
    np.testing.assert_array_equal(csv_tables.numbers(column("1", "", " -2.5e0 "), tmp_path, empty=True), [1, np.nan, -2.5])


def test_split_names_become_ours_and_others_are_refused(tmp_path):
    found = csv_tables.splits(column("train", "dev", "Valid", "val", "test", "validation"), tmp_path)
    assert found.tolist() == ["train", "valid", "valid", "valid", "test", "valid"]
    assert csv_tables.splits(column("", "test"), tmp_path, empty=True).tolist() == ["", "test"]
    with pytest.raises(InputError, match=r":3: mode is 'tset', expected one of train, valid, .* \(1 more rows like it\)"):
        csv_tables.splits(column("test", "tset", "trian", name="mode"), tmp_path)


def test_repeated_ids_name_both_lines(tmp_path):
    with pytest.raises(InputError, match=r":4: id 'a' is already on line 2; expected unique ids"):
        csv_tables.unique(column("a", "b", "a"), tmp_path)
    with pytest.raises(InputError, match=r":3: clip is '', expected an id"):
        csv_tables.unique(column("a", "", name="clip"), tmp_path)


@given(value=st.floats(-10, 10))
def test_labels_near_their_scale_are_set_to_its_end_and_reported_farther_ones_refused(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "label.csv"
    series = pd.Series([value, np.nan], name="sentiment")
    if abs(value) > 3.5:
        with pytest.raises(InputError, match=r"v\[1\]: sentiment is .*its scale -3 to 3\. Is the label on another scale"):
            csv_tables.onto_scale(series, (-3, 3), path, ["v[1]", "v[2]"])
        return
    values, findings = csv_tables.onto_scale(series, (-3, 3), path, ["v[1]", "v[2]"])
    assert values[0] == min(3, max(-3, value))
    assert np.isnan(values[1])
    assert [finding.kind for finding in findings] == (["out-of-range"] if abs(value) > 3 else [])


def test_the_report_of_a_label_outside_names_the_old_value(tmp_path):
    _, findings = csv_tables.onto_scale(pd.Series([3.25], name="sentiment"), (-3, 3), tmp_path / "x.csd", ["v[1]"])
    assert findings[0].message == "sentiment is 3.25, its scale -3 to 3: taken as 3 (x.csd)"
    assert findings[0].where == "v[1]"
