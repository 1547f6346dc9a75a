"""Which rows the paper's tables have here, in which order, with which presets, and what they say of themselves."""

import pytest

from data.errors import InputError
from heads.evaluation.metrics import SENTIMENT_METRICS
from heads.tables import paper
from heads.tables.rows import preset_for, rows


def test_as_published_means_the_papers_sizes_for_its_family_and_native_for_others():
    wanted = {
        ("native", "mult"): "native",
        ("native", "mmolre"): "paper-mosi",
        ("paper", "moe"): "paper-mosi",
        ("paper", "cogmen"): "native",
        ("native", "mmml"): "native",
        ("paper", "median"): "native",
    }
    wanted |= {("common", "mmolre"): "common", ("light", "mult"): "light", ("own.yaml", "mmolre"): "own.yaml"}
    assert {given: preset_for(*given, "mosi") for given in wanted} == wanted
    with pytest.raises(InputError, match="Unknown preset 'nativ'"):
        preset_for("nativ", "mult", "mosi")


def test_rows_are_in_the_order_of_the_paper_and_others_behind():
    found = rows("table1", "mosi", None, None)
    assert [row.config.head for row in found] == [*paper.TABLE_1["mosi"], "median"]
    assert {row.config.preset for row in found} == {"common"}
    chosen = rows("table1", "mosi", "light", ["tbje", "median", "mmolre", "baseline-mer", "misa"])
    assert [row.method for row in chosen] == ["MISA", "MMoLRE", "TBJE", "median"]
    figure = rows("fig2", "mosei", None, None)
    assert {row.config.preset for row in figure[:-1]} == {"paper-mosei"}
    known = {row.method: row.paper for row in figure if row.paper}
    assert known["n = 15, k = 15"] == paper.TABLE_3[128].values
    assert known["n = 15, k = 8"]["mae"] == 0.505
    assert len(known) == 2
    assert all(set(row.paper) <= set(SENTIMENT_METRICS) for row in figure)


def test_kinds_of_rows():
    kinds = {row.config.head: row.kind for row in rows("table1", "mosei", "native", ["mag-head", "cogmen", "mult", "mmolre", "ridge"])}
    assert {head: kind.short for head, kind in kinds.items()} == {
        "mult": "faithful",
        "mag-head": "variant",
        "mmolre": "faithful",
        "cogmen": "faithful",
        "ridge": "simple baseline",
        "median": "simple baseline",
    }
    assert "leave out a part that makes the method what it is" in kinds["mag-head"].long
    assert kinds["mmolre"].long.endswith("preset paper-mosei: the MMoLRE paper's size and training on CMU-MOSEI")
    others = {row.config.head: row.kind for row in rows("table2", "mosei", "common", ["mult", "ple"])}
    assert (others["mult"].short, others["ple"].short) == ("faithful, extension", "faithful, transferred")
    assert "published on these corpora for sentiment only, what it does for emotions is our extension" in others["mult"].long
    assert "comes from another field" in others["ple"].long
