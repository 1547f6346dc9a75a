"""Grid files: their configurations in order, and the messages about wrong ones."""

import inspect
import itertools
import textwrap

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import heads.sweeps.grid
from data.errors import InputError
from heads.runs.config import make_config
from heads.sweeps.distributions import Distribution
from heads.sweeps.grid import Grid, read_grid


@pytest.fixture
def read(tmp_path):
    """Reads a grid of some YAML; head, corpus and a short preset are given unless it says otherwise."""
    preset = tmp_path / "short.yaml"
    preset.write_text("train: {lr: 0.5}\nmodel: {dim: 12}\n")

    def of(text: str, given: str | None = None, **defaults: str) -> Grid:
        top = {"head": "ridge", "corpus": "mosi", "preset": str(preset)} | defaults
        path = tmp_path / "grid.yaml"
        path.write_text("".join(f"{name}: {value}\n" for name, value in top.items() if value) + textwrap.dedent(text))
        return read_grid(path, given)

    return of


def trained(grid: Grid, *names: str) -> list[tuple]:
    """Values of the `train` section, in order, and the seed."""
    return [(*(getattr(config.train, name) for name in names), config.seed) for config in grid.configs()]


def test_the_example_of_the_documentation_is_what_it_says(tmp_path):
    example = textwrap.dedent(inspect.getdoc(heads.sweeps.grid).split("\n\n")[1])
    path = tmp_path / "example.yaml"
    path.write_text(example)
    grid = read_grid(path, None)
    assert len(grid.configs()) + grid.dropped == 6 * 2 * 5 * 3 == 180
    assert grid.dropped == 0
    first = grid.configs()[0]
    assert (first.model.mixture.rank, first.loss.sentiment, first.model.mixture.experts, first.train.max_epochs) == (8, "l1", 15, 30)
    assert set(yaml.safe_load(example)) == set(heads.sweeps.grid.KEYS)


def test_an_empty_grid_is_the_preset(read):
    grid = read("")
    assert grid.configs() == [make_config("ridge", "mosi", grid.fixed["preset"])]
    assert (grid.varied, grid.dropped, grid.space) == ([], 0, {})


def test_the_light_preset_is_the_default(read):
    assert read("", preset="").configs() == [make_config("ridge", "mosi", "light")]


def test_the_last_name_varies_fastest_and_seeds_of_a_point_are_together(read):
    grid = read("""
        grid: {train.lr: [1, 2], train.patience: [3, 4]}
        list: [{}, {train.batch_size: 9}]
        seeds: [5, 6]
    """)
    points = itertools.product([1.0, 2.0], [3, 4], [32, 9], [5, 6])
    assert trained(grid, "lr", "patience", "batch_size") == list(points)


VALUES = st.lists(st.integers(1, 3), min_size=1, max_size=3)
POINT = st.dictionaries(st.sampled_from(["train.max_epochs", "train.accumulate"]), st.integers(1, 2))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    grid=st.fixed_dictionaries({}, optional={"train.patience": VALUES, "train.batch_size": VALUES}),
    points=st.lists(POINT, min_size=1, max_size=3),
    seeds=st.lists(st.integers(0, 3), min_size=1, max_size=3),
)
def test_a_grid_is_the_product_of_its_parts_without_repetitions(read, grid, points, seeds):
    found = read(yaml.safe_dump({"grid": grid, "list": points, "seeds": seeds}, sort_keys=False))
    defaults = {"train.patience": 8, "train.batch_size": 32, "train.max_epochs": 50, "train.accumulate": 1}
    every = []
    for values in itertools.product(*grid.values()):
        for point in points:
            for seed in seeds:
                every.append((*(defaults | dict(zip(grid, values, strict=True)) | point).values(), seed))
    once = sorted(set(every), key=every.index)
    assert trained(found, "patience", "batch_size", "max_epochs", "accumulate") == once
    assert found.dropped == len(every) - len(once)
    assert len({(config.key(), config.seed) for config in found.configs()}) == len(once)
    assert found.varied == [
        name
        for name in [*grid, *dict.fromkeys(name for point in points for name in point)]
        if len({run[list(defaults).index(name)] for run in once}) > 1
    ]


def test_fixed_values_are_of_every_configuration(read):
    grid = read("""
        fixed: {train: {lr: 2, clip_norm: null}, train.patience: 4, data.modalities: [text]}
        grid: {train.batch_size: [1, 2]}
    """)
    assert trained(grid, "lr", "clip_norm", "patience", "batch_size") == [(2.0, None, 4, 1, 1), (2.0, None, 4, 2, 1)]
    assert {config.data.modalities for config in grid.configs()} == {("text",)}
    assert grid.varied == ["train.batch_size"]


def test_nested_names_say_the_same_as_dotted_ones(read):
    nested = read("grid: {train: {lr: [1, 2]}}\nlist: [{train: {patience: 3}}, {}]")
    dotted = read("grid: {train.lr: [1, 2]}\nlist: [{train.patience: 3}, {}]")
    assert nested.configs() == dotted.configs()
    assert nested.varied == dotted.varied == ["train.lr", "train.patience"]


def test_values_of_a_grid_may_be_groups_of_names(read):
    grid = read("grid: {model.mixture: [{experts: 3, top_k: 1}, {experts: 4, top_k: 2}, {top_k: 5}]}", head="mmolre")
    found = [(config.model.mixture.experts, config.model.mixture.top_k) for config in grid.configs()]
    assert found == [(3, 1), (4, 2), (15, 5)]
    assert grid.varied == ["model.mixture.experts", "model.mixture.top_k"]


def test_values_may_be_lists(read):
    grid = read("grid: {model.output: [[4], [8, 4]], data.modalities: [[text], [text, audio]]}", head="pre-fusion")
    assert [config.model.output for config in grid.configs()] == [(4,), (4,), (8, 4), (8, 4)]
    assert grid.varied == ["model.output", "data.modalities"]


def test_heads_and_presets_may_vary(read):
    grid = read("grid: {head: [mmolre, pre-fusion], preset: [light, paper-mosi]}", head="", preset="")
    assert [(config.head, config.preset) for config in grid.configs()] == [
        ("mmolre", "light"),
        ("mmolre", "paper-mosi"),
        ("pre-fusion", "light"),
        ("pre-fusion", "paper-mosi"),
    ]
    assert grid.varied == ["head", "preset"], "what follows from head and preset was not varied"
    assert grid.configs()[1] == make_config("mmolre", "mosi", "paper-mosi")


def test_heads_may_be_drawn_and_listed(read):
    drawn = read("random: {count: 30, head: {choice: [ridge, median]}}", head="")
    assert [config.head for config in drawn.configs()] in (["ridge", "median"], ["median", "ridge"])
    assert drawn.dropped == 28
    listed = read("list: [{head: mmolre, model.mixture.top_k: 2}, {head: pre-fusion}]", head="")
    assert [config.head for config in listed.configs()] == ["mmolre", "pre-fusion"]
    assert listed.varied == ["head"], "top_k has one value"


def test_without_seeds_a_point_has_the_presets(read, tmp_path):
    (tmp_path / "seven.yaml").write_text("seed: 7\n")
    assert trained(read("", preset=str(tmp_path / "seven.yaml"))) == [(7,)]
    assert trained(read("seeds: [3, 2, 3]", preset=str(tmp_path / "seven.yaml"))) == [(3,), (2,)]


def test_the_corpus_is_the_files_or_the_command_lines(read):
    assert {config.corpus for config in read("").configs()} == {"mosi"}
    assert {config.corpus for config in read("", given="mosi").configs()} == {"mosi"}
    assert {config.corpus for config in read("", given="meld", corpus="").configs()} == {"meld"}


RANDOM = """
    random:
      count: {count}
      seed: {seed}
      train.lr: {{log_uniform: [1e-5, 1.0e-1]}}
      train.batch_size: {{choice: [4, 8]}}
      train.warmup: {{uniform: [0.1, 0.3]}}
      train.patience: {{int_uniform: [2, 5]}}
"""


def test_draws_are_of_their_kinds(read):
    rows = trained(read(RANDOM.format(count=400, seed=1)), "lr", "batch_size", "warmup", "patience")
    lr, batch_size, warmup, patience, _ = (np.array(column) for column in zip(*rows, strict=True))
    assert len(rows) == 400
    assert 1e-5 <= lr.min() < 2e-5
    assert 0.05 < lr.max() <= 1e-1
    assert abs(np.log10(np.median(lr)) + 3) < 0.4
    assert (set(batch_size), set(patience)) == ({4, 8}, {2, 3, 4, 5})
    assert min(np.bincount(patience)[2:]) > 60
    assert 0.1 <= warmup.min() < 0.11 < 0.29 < warmup.max() <= 0.3
    assert abs(np.corrcoef(np.log(lr), warmup)[0, 1]) < 0.2, "names are drawn independently"


def test_draws_follow_from_the_seed(read):
    assert read(RANDOM.format(count=9, seed=1)).configs() == read(RANDOM.format(count=9, seed=1)).configs()
    assert read(RANDOM.format(count=9, seed=1)).configs() != read(RANDOM.format(count=9, seed=2)).configs()


def test_draws_of_a_name_do_not_depend_on_other_names_or_on_the_count(read):
    rows = trained(read(RANDOM.format(count=9, seed=1)), "lr", "patience")
    alone = read("random: {count: 12, seed: 1, train.patience: {int_uniform: [2, 5]}, train.lr: {log_uniform: [1e-5, 0.1]}}")
    assert trained(alone, "lr", "patience")[:9] == rows
    other = read("random: {count: 9, seed: 1, train.lr: {log_uniform: [1e-5, 0.1]}, train.weight_decay: {uniform: [0, 1]}}")
    assert trained(other, "lr") == [(lr, seed) for lr, _, seed in rows]


def test_every_point_of_the_grid_has_the_same_draws(read):
    grid = read("grid: {train.patience: [1, 2]}\nrandom: {count: 3, train.lr: {uniform: [0, 1]}}\nseeds: [1, 2]")
    rows = trained(grid, "patience", "lr")
    assert len(rows) == 12
    assert [row[1:] for row in rows[:6]] == [row[1:] for row in rows[6:]]
    assert len({row[1] for row in rows}) == 3


def test_what_there_is_to_choose_is_known(read):
    grid = read("grid: {train.lr: [1, 2]}\nlist: [{}, {train.patience: 3}]\nrandom: {count: 2, train.warmup: {uniform: [0, 0.5]}}")
    assert grid.space == {
        "train.lr": Distribution("choice", (1, 2)),
        "list": Distribution("choice", ({}, {"train.patience": 3})),
        "train.warmup": Distribution("uniform", (0.0, 0.5)),
    }
    at = grid.at({"train.lr": 2, "list": {"train.patience": 3}, "train.warmup": 0.25})
    assert (at.train.lr, at.train.patience, at.train.warmup, at.seed) == (2.0, 3, 0.25, 1)


REFUSED = [
    (
        "gird: {}",
        "Unknown key in {path} 'gird'. Did you mean 'grid'? Available: head, corpus, preset, fixed, grid, list, random, seeds.",
    ),
    ("5: 1", "Unknown key in {path} '5'. Available: head, "),
    ("fixed: {train.lrr: 1}", "{path}: head 'ridge': unknown option 'train.lrr'. Did you mean train.lr? Available here: "),
    ("grid: {tarin.lr: [1]}", "{path}: head 'ridge': unknown option 'tarin'. Did you mean train? Available here: "),
    ("list: [{}, {train: {lrr: 1}}]", "{path}: head 'ridge': unknown option 'train.lrr'. Did you mean train.lr?"),
    ("random: {count: 1, train.l: {uniform: [0, 1]}}", "{path}: head 'ridge': unknown option 'train.l'. Did you mean train.lr?"),
    ("grid: {train.lr: [1, high]}", "{path}: head 'ridge': train.lr is 'high', expected a number."),
    ("grid: {train.batch_size: [1.5]}", "{path}: head 'ridge': train.batch_size is 1.5, expected a whole number."),
    ("grid: {train.lr: [1, 0]}", "{path}: head 'ridge': train.lr is 0.0, expected more than 0."),
    ("grid: {train.precision: [float16]}", "{path}: Unknown precision 'float16'. Did you mean 'bfloat16'? Available: "),
    ("random: {count: 2, train.patience: {uniform: [1, 2]}}", "{path}: head 'ridge': train.patience is 1."),
    ("grid: {train.lr: 1}", "{path}: grid: train.lr is 1, expected a list of values."),
    ("grid: {train.lr: []}", "{path}: grid: train.lr is [], expected a list of values."),
    ("grid: [train.lr]", "{path}: grid is ['train.lr'], expected names with values."),
    ("fixed: 3", "{path}: fixed is 3, expected names with values."),
    ("fixed: {train: 3}", "{path}: head 'ridge': train is 3, expected names with values: batch_size, "),
    ("fixed: {train.lr: 1, train: {lr: 2}}", "{path}: fixed: train.lr is given twice. Give it once."),
    ("fixed: {train.lr: 1, train.lr.a: 2}", "{path}: train.lr.a: lr has the value 1 too. Give one of the two."),
    ("list: {train.lr: 1}", "{path}: list is {{'train.lr': 1}}, expected a list of points, each of them names with values."),
    ("list: []", "{path}: list is [], expected a list of points, "),
    ("list: [train.lr]", "{path}: list: a point is 'train.lr', expected names with values."),
    ("random: {train.lr: {uniform: [0, 1]}}", "{path}: random: count is None, expected how many points to draw, 1 or more."),
    ("random: {count: 0, train.lr: {uniform: [0, 1]}}", "{path}: random: count is 0, expected how many "),
    (
        "random: {count: 2147483648, train.lr: {uniform: [0, 1]}}\nseeds: [1, 2]",
        "{path}: asks for 4,294,967,296 runs, expected at most 100,000. Lower the count of random, or split the file.",
    ),
    ("random: {count: some, train.lr: {uniform: [0, 1]}}", "{path}: random: count is 'some', expected a whole number."),
    ("random: {count: 1, seed: -1, train.lr: {uniform: [0, 1]}}", "{path}: random: seed is -1, expected 0 or more."),
    ("random: {count: 1}", "{path}: random draws nothing. Give a name, for example train.lr: {{log_uniform: [1e-5, 1e-3]}}."),
    ("random: {count: 1, train.lr: 5}", "{path}: random: train.lr is 5, expected one of choice, uniform, log_uniform, int_uniform, "),
    ("random: {count: 1, train.lr: {uniform: [0, 1], choice: [1]}}", "{path}: random: train.lr is {{'uniform': [0, 1], "),
    (
        "random: {count: 1, train.lr: {loguniform: [1, 2]}}",
        "Unknown distribution in {path}: random: train.lr: 'loguniform'. Did you mean 'log_uniform'? Available: choice, ",
    ),
    ("random: {count: 1, train.lr: {choice: 1}}", "{path}: random: train.lr: choice is 1, expected a list of values."),
    ("random: {count: 1, train.lr: {choice: []}}", "{path}: random: train.lr: choice is [], expected a list of values."),
    ("random: {count: 1, train.lr: {uniform: [1, 0]}}", "{path}: random: train.lr: uniform is [1, 0], expected [lowest, highest]."),
    ("random: {count: 1, train.lr: {uniform: [1]}}", "{path}: random: train.lr: uniform is [1], expected [lowest, highest]."),
    ("random: {count: 1, train.lr: {uniform: [a, 1]}}", "{path}: random: train.lr: uniform is 'a', expected a number."),
    (
        "random: {count: 1, train.lr: {log_uniform: [0, 1]}}",
        "{path}: random: train.lr: log_uniform is [0, 1], expected [lowest, highest], above 0.",
    ),
    (
        "random: {count: 1, train.patience: {int_uniform: [1, 2.5]}}",
        "{path}: random: train.patience: int_uniform is 2.5, expected a whole number.",
    ),
    ("seeds: 3", "{path}: seeds is 3, expected a list of whole numbers."),
    ("seeds: []", "{path}: seeds is [], expected one whole number or more."),
    ("seeds: [1, -1]", "{path}: seeds: seed is -1, expected 0 to 4294967295."),
    ("seeds: [4294967296]", "{path}: seeds: seed is 4294967296, expected 0 to 4294967295."),
    ("seeds: [a]", "{path}: seeds is 'a', expected a whole number."),
    ("grid: {seed: [1, 2]}", "{path}: seed cannot be set here. Give seeds: [1, 2]."),
    ("grid: {corpus: [mosi, meld]}", "{path}: head 'ridge': corpus cannot be set here. Give --corpus."),
    ("grid: {head: [median]}", "{path}: head is in the fixed values and in grid. Give it in one place."),
    ("fixed: {head: median}", "{path}: fixed: head is given twice. Give it once."),
    ("fixed: {train.lr: 1}\nlist: [{train: {lr: 2}}]", "{path}: train.lr is in the fixed values and in list. Give it in one place."),
    ("grid: {train.lr: [1]}\nlist: [{}, {train.lr: 2}]", "{path}: train.lr is in grid and in list. Give it in one place."),
    (
        "grid: {train.lr: [1]}\nrandom: {count: 1, train.lr: {uniform: [1, 2]}}",
        "{path}: train.lr is in grid and in random. Give it in one place.",
    ),
    ("grid: {", "{path}: cannot be read as YAML ("),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_cannot_be_is_refused_with_what_can(read, tmp_path, text, message):
    with pytest.raises(InputError) as refused:
        read(text)
    assert str(refused.value).startswith(message.format(path=tmp_path / "grid.yaml"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("defaults", "text", "message"),
    [
        ({"head": ""}, "", "{path}: which head? Give head: NAME, or several in grid."),
        ({"head": "3"}, "", "{path}: head is 3, expected text or nothing (null)."),
        ({"head": ""}, "grid: {head: [3]}", "{path}: head is 3, expected text."),
        ({"head": "rigde"}, "", "{path}: Unknown head 'rigde'. Did you mean 'ridge'? Available: mmolre, "),
        ({"head": ""}, "grid: {head: [ridge, rigde]}", "{path}: Unknown head 'rigde'. Did you mean 'ridge'? Available: mmolre, "),
        ({"preset": "lihgt"}, "", "{path}: Unknown preset 'lihgt'. Did you mean 'light'? Available: "),
        ({"preset": ""}, "list: [{preset: [light]}]", "{path}: preset is ['light'], expected text."),
        ({"preset": "none.yaml"}, "", "{path}: none.yaml: no such file."),
        ({"corpus": ""}, "", "{path}: which corpus? Give --corpus, or corpus: NAME in the file."),
        (
            {"head": "baseline-msa"},
            "fixed: {task: mer}",
            "{path}: Head 'baseline-msa' learns the task 'msa' only, asked for 'mer'.",
        ),
    ],
)
def test_heads_presets_and_corpora_that_cannot_be_are_refused(read, tmp_path, defaults, text, message):
    with pytest.raises(InputError) as refused:
        read(text, **defaults)
    assert str(refused.value).startswith(message.format(path=tmp_path / "grid.yaml"))


def test_an_option_that_one_of_the_heads_lacks_is_refused_with_the_head(read):
    with pytest.raises(InputError, match=r"grid\.yaml: head 'pre-fusion': model: unknown option 'mixture'\. Available here: dim, "):
        read("grid: {head: [mmolre, pre-fusion], model.mixture.top_k: [1, 2]}", head="")
    with pytest.raises(InputError, match=r"head 'mmolre': model: unknown option 'mixture\.topk'\. Did you mean mixture\.top_k\?"):
        read("grid: {head: [mmolre, moe], model.mixture.topk: [1, 2]}", head="")


def test_two_corpora_are_refused(read):
    with pytest.raises(InputError, match=r"grid\.yaml: corpus is 'mosi', but --corpus says 'meld'\. Give one of the two\.$"):
        read("", given="meld")


def test_a_grid_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.yaml: no such file\.$"):
        read_grid(tmp_path / "none.yaml", "mosi")
