"""The configuration of a run: presets, what may be changed, and what a run is known by."""

import json

import pytest

from data.errors import InputError
from heads.models import options
from heads.models.registry import HEADS
from heads.runs.config import (
    PRESETS,
    RunConfig,
    change,
    default_precision,
    from_mapping,
    make_config,
    read_yaml,
    with_precision,
)

TRAINED = [name for name, entry in HEADS.items() if entry.head]


@pytest.fixture
def preset(tmp_path):
    """Makes a preset of some YAML."""

    def write(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("head", HEADS)
def test_every_preset_serves_every_head(head, preset):
    made = make_config(head, "mosi", preset)
    assert (made.head, made.corpus, made.preset, made.seed) == (head, "mosi", preset, 1)
    assert made.task == (HEADS[head].task or "both")
    assert type(made.model) is HEADS[head].options


@pytest.mark.parametrize(("preset", "rank", "top_k"), [("paper-mosi", 64, 11), ("paper-mosei", 128, 8)])
def test_the_papers_presets_have_the_papers_mixture(preset, rank, top_k):
    mixture = make_config("mmolre", "mosi", preset).model.mixture
    assert (mixture.experts, mixture.rank, mixture.task_rank, mixture.top_k, mixture.blocks) == (15, rank, 128, top_k, 2)
    assert make_config("moe", "mosi", preset).model.mixture.top_k == top_k


def test_the_emotions_of_mosi_are_pseudo_labels():
    assert make_config("mmolre", "mosi", "paper-mosi").data.emotions == "pseudo"
    assert make_config("mmolre", "mosei", "paper-mosei").data.emotions == "annotated"


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("head", HEADS)
def test_a_configuration_survives_json(head, preset):
    made = make_config(head, "mosi", preset)
    assert from_mapping(json.loads(json.dumps(made.as_dict())), "config.json") == made


def test_lists_of_json_come_back_as_tuples():
    made = make_config("mmolre", "mosi", changes={"model": {"mixture": {"experts": 2, "rank": [3, 4], "top_k": 1}}})
    again = from_mapping(json.loads(json.dumps(made.as_dict())), "config.json")
    assert (made.model.mixture.rank, again.model.mixture.rank, again.data.modalities) == ((3, 4), (3, 4), ("text", "audio"))
    assert again.key() == made.key()


NAMED = {
    "task": "msa",
    "corpus": "mosei",
    "preset": "paper-mosi",
    "data.emotions": "pseudo",
    "data.modalities": ("text",),
    "data.layers.text": (8,),
    "data.layers.audio": (3, 6),
    "data.text": "roberta",
    "data.audio": ("default", "hubert"),
    "loss.sentiment": "mse",
    "loss.emotion": "literal",
    "loss.emotion_reduction": "sum",
    "train.select": "mae",
    "train.keep": (),
    "train.optimizer": "adam",
    "train.precision": "bfloat16",
    "train.step": "graphed",
    "train.schedule": "linear",
}
"""Another value of the options that are words."""


def other(name: str, value: object) -> object:
    """Another value that an option may have."""
    if name in NAMED:
        return NAMED[name]
    if isinstance(value, bool):
        return not value
    return (value / 2 or 0.25) if isinstance(value, float) else (value or 0) + 1


def test_the_key_names_everything_but_the_seed():
    made = make_config("pre-fusion", "mosi")
    of_run = [
        (name, value)
        for name, value in options.flat(made)
        if name not in ("head", "head_source", "seed") and not name.startswith("model.")
    ]
    of_model = {"dim": 24, "adapter": "linear", "output": (5,), "fusion.layers": 7}
    others = {name: other(name, value) for name, value in of_run} | {f"model.{name}": value for name, value in of_model.items()}
    keys = {change(made, options.nested({name: value}), "test").key() for name, value in others.items()}
    assert len(keys - {made.key()}) == len(others) > 25
    assert change(made, {"seed": 7}, "test").key() == made.key()
    assert make_config("post-fusion", "mosi").key() not in {made.key(), *keys}


def test_runs_of_before_there_were_layers_keep_their_keys():
    """Keys of version 1 of the program. Options that are declared as omitted are in the key and in config.json only if they are set."""
    known = {
        "mmolre": "4adbda28",
        "mult": "4e75d288",
        "tbje": "c29ccc25",
        "mmim": "fd6fcb0f",
        "ridge": "28ed3984",
        "median": "32c9fe58",
    }
    assert {head: with_precision(make_config(head, "mosi"), "float32").key() for head in known} == known
    plain, picked = make_config("mult", "mosi").as_dict(), make_config("mult", "mosi", changes={"data": {"layers": {"text": [8]}}})
    assert "layers" not in plain["data"]
    assert "adapter" not in plain["model"]
    assert picked.as_dict()["data"]["layers"] == {"text": (8,)}
    assert from_mapping(picked.as_dict(), "test") == picked
    assert make_config("mult", "mosi", changes={"model": {"adapter": "mix"}}).as_dict()["model"]["adapter"] == "mix"
    assert make_config("median", "mosi").as_dict()["model"] == {}


@pytest.mark.parametrize(
    ("given", "kept"),
    [("default", None), (["default"], None), (["roberta"], "roberta"), (["roberta", "default"], ("roberta", "default"))],
)
def test_a_choice_of_feature_sets_has_one_form_and_the_usual_set_changes_no_key(given, kept):
    usual = make_config("pre-fusion", "mosi")
    made = make_config("pre-fusion", "mosi", changes={"data": {"text": given}})
    assert made.data.text == kept
    assert (made.key() == usual.key()) is (kept is None)
    assert usual.as_dict()["data"].keys() & {"text", "audio"} == set()
    again = from_mapping(json.loads(json.dumps(made.as_dict())), "config.json")
    assert (again.data.text, again.key()) == (kept, made.key())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": []}, r"^--set: data\.text is empty, expected names of feature sets, or nothing \(null\) for the usual one\.$"),
        ({"text": ["a", "a"]}, r"^--set: data\.text names one twice: a, a\.$"),
        ({"text": "a.b"}, r"^--set: data\.text: 'a\.b' cannot name a set of features: expected letters, digits and '-'\.$"),
        ({"audio": "a", "modalities": ["text"]}, r"^--set: data\.audio is 'a', but data\.modalities has no audio\.$"),
        ({"text": 3}, r"^--set: data\.text is 3, expected a list of texts or text or nothing \(null\)\.$"),
        (
            {"modalities": ["text.a", "audio"]},
            r"^--set: data\.modalities has 'text\.a', a set of text\. Name text there: data\.text=a\.$",
        ),
    ],
)
def test_a_choice_of_feature_sets_that_cannot_be_is_refused(data, message):
    with pytest.raises(InputError, match=message):
        make_config("pre-fusion", "mosi", changes={"data": data})


def test_the_key_is_the_same_in_every_process():
    assert RunConfig(head="median", corpus="mosi", model=None).key() == RunConfig(corpus="mosi", head="median", seed=3).key()
    assert len(make_config("median", "mosi").key()) == 8


def test_what_a_preset_says_for_a_head_is_for_that_head(preset):
    path = preset("model: {dim: 12}\ntrain: {lr: 1}\nheads:\n  post-fusion: {model: {dim: 24}, train: {lr: 2}, loss: {sentiment: mse}}")
    general, own = make_config("pre-fusion", "mosi", path), make_config("post-fusion", "mosi", path)
    assert (general.model.dim, general.train.lr, general.loss.sentiment) == (12, 1.0, "l1")
    assert (own.model.dim, own.train.lr, own.loss.sentiment) == (24, 2.0, "mse")


def test_a_preset_may_say_what_only_some_heads_know(preset):
    path = preset("model: {dim: 12, mixture: {top_k: 2}}")
    assert make_config("mmolre", "mosi", path).model.mixture.top_k == 2
    assert make_config("pre-fusion", "mosi", path).model.dim == 12
    make_config("ridge", "mosi", path)


def test_the_model_section_of_a_preset_is_for_the_family_alone(preset):
    path = preset("model: {dim: 12}\nheads:\n  hycon: {model: {layers: 2}}")
    assert [make_config(name, "mosi", path).model.dim for name in ("mmolre", "pre-fusion", "mmml")] == [12, 12, 12]
    hycon, spectra = (make_config(name, "mosi", path).model for name in ("hycon", "spectra"))
    assert (hycon.dim, hycon.layers, spectra.dim) == (128, 2, None)


def test_changes_come_after_the_preset(preset):
    path = preset("train: {lr: 1, weight_decay: 2}")
    made = make_config("pre-fusion", "mosi", path, {"train": {"lr": 3}})
    assert (made.train.lr, made.train.weight_decay) == (3.0, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {lrr: 1}", "{path}: unknown option 'train.lrr'. Did you mean train.lr? Available here: batch_size, "),
        ("tarin: {lr: 1}", "{path}: unknown option 'tarin'. Did you mean train? Available here: head, corpus, preset, task, "),
        ("model: {dimm: 1}", "{path}: model: no head of MMoLRE's family has an option 'dimm'."),
        ("model: {temperature: 1}", "{path}: model: no head of MMoLRE's family has an option 'temperature'. Options of "),
        ("model: 5", "{path}: model is 5, expected names with values."),
        ("heads: [mmolre]", "{path}: heads is ['mmolre'], expected names with values."),
        ("heads: {mmolrf: {}}", "Unknown head in {path} 'mmolrf'. Did you mean 'mmolre'? Available: mmolre, "),
        ("heads: {3: {}}", "Unknown head in {path} '3'. Available: mmolre, "),
        ("heads: {pre-fusion: 5}", "{path}: heads.pre-fusion is 5, expected names with values."),
        ("heads: {pre-fusion: {model: {mixture: {top_k: 1}}}}", "{path}: model: unknown option 'mixture'."),
        ("train: 5", "{path}: train is 5, expected names with values: batch_size, "),
        ("train:", "{path}: train is None, expected names with values: batch_size, "),
        ("head: ridge", "{path}: head cannot be set here. Give --head."),
        ("corpus: mosei", "{path}: corpus cannot be set here. Give --corpus."),
        ("- lr", "{path}: expected a mapping of names to values, found list."),
        ("", "{path}: expected a mapping of names to values, found NoneType."),
        ("train: {lr: [", "{path}: cannot be read as YAML (while parsing a flow node "),
        ("a: b: c", "{path}: cannot be read as YAML (mapping values are not allowed "),
    ],
)
def test_a_preset_with_a_mistake_is_refused(preset, text, message):
    path = preset(text)
    with pytest.raises(InputError) as refused:
        make_config("pre-fusion", "mosi", path)
    assert str(refused.value).startswith(message.format(path=path))
    assert "\n" not in str(refused.value)


def test_presets_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"^Unknown preset 'paper-mosy'\. Did you mean 'paper-mosi'\? Available: "):
        make_config("mmolre", "mosi", "paper-mosy")
    with pytest.raises(InputError, match=r"none\.yaml: no such file\.$"):
        make_config("mmolre", "mosi", str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="cannot be read as YAML"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"lr": 0}}, "--set: train.lr is 0.0, expected more than 0."),
        ({"train": {"batch_size": 0}}, "--set: train.batch_size is 0, expected more than 0."),
        ({"train": {"accumulate": -1}}, "--set: train.accumulate is -1, expected more than 0."),
        ({"train": {"max_epochs": 0}}, "--set: train.max_epochs is 0, expected more than 0."),
        ({"train": {"patience": 0}}, "--set: train.patience is 0, expected more than 0."),
        ({"train": {"clip_norm": -1}}, "--set: train.clip_norm is -1.0, expected more than 0."),
        ({"train": {"weight_decay": -0.1}}, "--set: train.weight_decay is -0.1, expected 0 or more."),
        ({"train": {"warmup": 1}}, "--set: train.warmup is 1.0, expected 0 to below 1."),
        ({"train": {"precision": "float16"}}, "Unknown precision 'float16'. Did you mean 'bfloat16'? Available: "),
        ({"train": {"select": "maee"}}, "Unknown metric 'maee'. Did you mean 'mae'? Available: loss, "),
        ({"train": {"keep": ["mae", "wf2"]}}, "Unknown metric 'wf2'. "),
        ({"task": "msa", "train": {"select": "mean_wf1"}}, "--set: train.select is mean_wf1, which task 'msa' does not have."),
        ({"task": "mer", "train": {"select": "corr"}}, "--set: train.select is corr, which task 'mer' does not have."),
        ({"task": "all"}, "Unknown task 'all'. "),
        ({"data": {"emotions": "annotatd"}}, "Unknown source of emotions 'annotatd'. Did you mean 'annotated'? "),
        ({"data": {"modalities": []}}, "--set: data.modalities is empty, expected text, audio or both."),
        ({"data": {"modalities": ["text", "text"]}}, "--set: data.modalities names one twice: text, text."),
        ({"loss": {"sentiment": "l2"}}, "Unknown sentiment loss 'l2'. Available: l1, mse."),
        ({"loss": {"emotion": "bcee"}}, "Unknown emotion loss 'bcee'. Did you mean 'bce'? "),
        ({"loss": {"emotion_reduction": "max"}}, "Unknown reduction 'max'. "),
        ({"seed": -1}, "--set: seed is -1, expected 0 to 4294967295."),
        ({"seed": 2**32}, "--set: seed is 4294967296, expected 0 to 4294967295."),
        ({"head": "ridge"}, "--set: head cannot be set here. Give --head."),
        ({"preset": "light"}, "--set: preset cannot be set here. Give --preset."),
        ({"model": {"mixture": {"top_k": 3}}}, "--set: model: unknown option 'mixture'. Available here: dim, "),
        ({"model": 3}, "--set: model: the whole is 3, expected names with values: dim, "),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError) as refused:
        make_config("pre-fusion", "mosi", changes=changes)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("head", TRAINED)
def test_no_size_of_a_model_is_less_than_one(head):
    flat = options.flat(make_config(head, "mosi").model)
    counts = [name for name, value in flat if type(value) is int and name not in ("past", "future", "memory")]
    assert counts
    for name in [*counts, *(name for name, value in flat if name == "dim" and value is None)]:
        for value in (0, -1):
            with pytest.raises(InputError, match=rf"^--set: model\.{name} is {value}, expected 1 or more\.$"):
                make_config(head, "mosi", changes={"model": options.nested({name: value})})


@pytest.mark.parametrize("value", [0, -1])
def test_a_factor_of_the_learning_rate_is_above_zero(value):
    with pytest.raises(InputError, match=rf"^--set: model\.audio_lr_factor is {value}\.0, expected more than 0\.$"):
        make_config("self-mm", "mosi", changes={"model": {"audio_lr_factor": value}})


TWICE = {
    "in one line": "train: {lr: 0.001, lr: 0.1}",
    "at the top": "train: {lr: 0.1}\nseed: 1\ntrain: {warmup: 0}",
    "with quotes": "train: {lr: 0.001, 'lr': 0.1}",
}


@pytest.mark.parametrize("text", TWICE.values(), ids=TWICE)
def test_a_name_that_is_given_twice_is_refused(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(
        InputError, match=r"mine\.yaml: cannot be read as YAML \((lr|train) is given twice .* line \d, column \d+.*\)\.$"
    ):
        read_yaml(path)


def test_names_of_other_mappings_may_be_the_same_and_mappings_be_merged(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\n")
    assert read_yaml(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": {"x": 3, "y": 4}}


def test_every_size_of_a_list_counts():
    with pytest.raises(InputError, match=r"^--set: model\.output is \(8, 0\), expected 1 or more\.$"):
        make_config("pre-fusion", "mosi", changes={"model": {"output": [8, 0]}})
    assert make_config("pre-fusion", "mosi", changes={"model": {"output": []}}).model.output == ()


def test_a_window_and_a_memory_may_be_empty():
    assert make_config("cogmen", "mosi", changes={"model": {"past": 0, "future": 0}}).model.past == 0
    assert make_config("mmim", "mosi", changes={"model": {"memory": 0}}).model.memory == 0


def test_gradients_need_not_be_clipped():
    assert make_config("pre-fusion", "mosi", changes={"train": {"clip_norm": None}}).train.clip_norm is None


@pytest.mark.parametrize("head", [name for name in TRAINED if HEADS[name].task])
def test_a_head_of_one_task_is_not_given_another(head):
    task = HEADS[head].task
    assert make_config(head, "mosi", changes={"task": task}).task == task
    with pytest.raises(InputError, match=f"^Head '{head}' learns the task '{task}' only, asked for 'both'\\.$"):
        make_config(head, "mosi", changes={"task": "both"})


def test_a_metric_of_the_other_task_may_be_kept_beside():
    made = make_config("baseline-msa", "mosi", changes={"train": {"select": "mae", "keep": ["mean_wf1"]}})
    assert (made.train.select, made.train.keep) == ("mae", ("mean_wf1",))


def test_a_head_that_is_not_in_the_table_is_refused():
    with pytest.raises(InputError, match=r"^Unknown head 'mmolrs'\. Did you mean 'mmolre'\? Available: mmolre, pre-fusion, "):
        make_config("mmolrs", "mosi")


def test_a_configuration_of_another_version_is_refused_by_name():
    stored = make_config("pre-fusion", "mosi").as_dict()
    with pytest.raises(InputError, match=r"^run/config\.json: unknown option 'train\.cosine'\."):
        from_mapping({**stored, "train": {**stored["train"], "cosine": 1}}, "run/config.json")


@pytest.mark.parametrize(
    ("device", "head", "settled"), [("cuda", "mult", "tf32"), ("cpu", "mult", "float32"), ("cuda", "ridge", "float32")]
)
def test_a_run_has_the_precision_of_its_device_unless_it_asks_for_one(device, head, settled):
    """A run in tf32 has a key of its own, and a run on a CPU the key that it always had."""
    made = with_precision(make_config(head, "mosi"), default_precision(device))
    assert made.train.precision == settled
    asked = [make_config(head, "mosi", changes={"train": {"precision": name}}) for name in ("float32", "tf32", "bfloat16")]
    assert [one.key() for one in asked].index(made.key()) == ["float32", "tf32"].index(settled)
    assert [with_precision(one, "tf32") for one in asked] == asked
