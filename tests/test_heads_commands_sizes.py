"""The parameter table: the numbers of the specification, from the real modules."""

import pandas as pd
import pytest

from heads.commands._sizes import block_table, head_table, render


@pytest.fixture(scope="module")
def blocks():
    return block_table()


@pytest.fixture(scope="module")
def heads():
    return head_table()


def test_a_block_has_the_parameters_that_the_paper_claims(blocks):
    unitse, standard = blocks.loc["UniTSE block, r = 128"], blocks.loc["standard MoE block, r = 768"]
    assert (unitse["parameters"], standard["parameters"]) == (7_075_102, 40_509_342)
    assert round(unitse["times_fewer"], 3) == 5.726
    assert round(unitse["times_fewer_macs"], 3) == 5.858
    assert round(100 * unitse["saved"], 1) == 82.5


@pytest.mark.parametrize(
    ("row", "parameters", "times_fewer", "saved", "gmac", "times_fewer_macs"),
    [
        ("UniTSE block, r = 128", 7_075_102, 5.73, 82.5, 1.243, 5.86),
        ("UniTSE block, r = 64", 4_125_022, 9.82, 89.8, 0.677, 10.76),
        ("UniTSE block, ranks 16 to 128", 4_493_782, 9.01, 88.9, 0.748, 9.74),
        ("UniTSE block, r = 16", 1_912_462, 21.18, 95.3, 0.252, 28.85),
        ("standard MoE block, r = 768", 40_509_342, 1, 0, 7.283, 1),
        ("whole UniTSE, r = 128", 28_300_408, 5.73, 82.5, 10.232, 5.86),
        ("whole standard MoE, r = 768", 162_037_368, 1, 0, 59.934, 1),
    ],
)
def test_the_absolute_table(blocks, row, parameters, times_fewer, saved, gmac, times_fewer_macs):
    found = blocks.loc[row]
    assert found["parameters"] == parameters
    assert found["macs"] / 1e9 == pytest.approx(gmac, abs=0.0005)
    assert 100 * found["saved"] == pytest.approx(saved, abs=0.05)
    assert (found["times_fewer"], found["times_fewer_macs"]) == pytest.approx((times_fewer, times_fewer_macs), abs=0.005)


def test_sharing_the_first_block_saves_one_first_convolution_of_the_shared_experts(blocks):
    saved = blocks["macs"] - blocks["macs_shared"]
    assert saved["UniTSE block, r = 128"] == 96 * 3 * 768 * 15 * 128
    assert saved["UniTSE block, ranks 16 to 128"] == 96 * 3 * 768 * sum(range(16, 129, 8))
    assert saved["whole standard MoE, r = 768"] == (96 + 299) * 3 * 768 * 15 * 768


def test_heads_differ_by_their_mixtures_and_by_how_many_fusions_they_have(heads):
    assert heads.loc["one layer of a fusion", "parameters"] == 18_903_552
    assert heads.loc["pre-fusion", "fusions"] == 2 * heads.loc["post-fusion", "fusions"] == 2 * (5 * 18_903_552 + 2 * 768)
    assert heads.loc["mmolre, r = 128", "parameters"] - heads.loc["pre-fusion", "parameters"] == 28_300_408
    assert heads.loc["mmolre, r = 64", "mixtures"] == 4 * 4_125_022
    baselines = heads.loc[["baseline-msa", "baseline-mer"], "parameters"].sum()
    assert heads.loc["pre-fusion", "parameters"] == baselines == 192_190_471


def test_output_layers_are_those_of_mmml(heads):
    hidden = (1536 * 768 + 768) + (768 * 512 + 512)
    assert heads.loc["baseline-msa", "outputs"] == hidden + 513
    assert heads.loc["baseline-mer", "outputs"] == hidden + 6 * 513


def test_a_table_is_written_in_aligned_columns():
    table = pd.DataFrame({"parameters": [7_075_102, 9], "saved": [0.8253, None], "macs": [1.2434e9, None]}, index=["a block", "b"])
    assert render(table).splitlines() == [
        "         parameters  saved   GMAC",
        "a block   7,075,102  82.5%  1.243",
        "b                 9",
    ]


def test_the_tables_are_written_with_the_numbers_that_are_claimed(blocks, heads):
    assert render(blocks).splitlines()[1].split()[-7:] == ["7,075,102", "5.726", "82.5%", "1.243", "5.858", "0.819", "5.784"]
    assert render(heads).splitlines()[-1].split() == ["one", "layer", "of", "a", "fusion", "18,903,552"]
