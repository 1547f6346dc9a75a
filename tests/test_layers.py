"""What may import what: design rules that every module of the program keeps."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import finish, python

from pipeline.settings import CHECKOUT

NEVER = {
    "data": {"pipeline", "heads", "luigi", "transformers", "peft"},
    "pipeline": {"heads"},
    "heads": {"pipeline", "luigi", "transformers", "peft"},
}
ONLY_IN = {
    "luigi": {
        "pipeline/tasks.py",
        "pipeline/config.py",
        "pipeline/command_line.py",
        "pipeline/luigi_setup.py",
        "pipeline/luigi_command.py",
        "pipeline/luigi_worker.py",
    },
    "peft": {"pipeline/adaptation/model.py"},
    "h5py": {"data/hdf5.py", "data/feature_store.py", "data/feature_index.py", "data/csd.py"},
    "av": {"data/media.py", "data/reporting/audio.py", "data/sample/make.py"},
    "soxr": {"data/media.py", "data/sample/make.py"},
    "jinja2": {"data/reporting/page.py"},
    "wandb": {"heads/runs/logs.py"},
    "mlflow": {"heads/runs/logs.py"},
    "matplotlib": {
        "data/reporting/charts.py",
        "heads/evaluation/layer_chart.py",
        "heads/evaluation/routing_chart.py",
        "heads/reports/plots.py",
        "heads/sweeps/results/plots.py",
        "heads/tables/plots.py",
    },
}
TORCH_IN_DATA = {"data/tensors.py", "data/dataset.py"}
DATA_ROOMS = ("reporting", "corpora", "interchange", "sample", "doctor", "__main__")
"""Rooms of data/ in import order. All other modules of data/ come before them."""
ROOMS = {
    "pipeline": (
        "config_file", "pseudo_labels", "settings", "encoding", "transcription", "adaptation", "plan", "same_encoders", "encode",
        "outputs", "explain", "steps", "report", "console", "config", "command_line", "one_maker", "this_build", "interruption",
        "worker_processes", "luigi_worker", "tasks", "luigi_setup", "luigi_command", "build_process", "__main__",
    ),
    "heads": ("models", "evaluation", "runs", "reports", "training", "sweeps", "tables", "api", "commands", "__main__"),
}  # fmt: skip
"""Layer → its rooms in import order: a room imports only itself and those before it."""


def modules(layer: str) -> dict[str, set[str]]:
    """Path below the checkout → top-level packages that it imports, wherever in the module."""
    paths = sorted((CHECKOUT / layer).rglob("*.py"))
    return {path.relative_to(CHECKOUT).as_posix(): set(imports(path)) for path in paths}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield path.relative_to(CHECKOUT).parts[0] if node.level else node.module.partition(".")[0]


def modules_imported(path: Path) -> Iterator[str]:
    """Modules and packages of the checkout that a module imports, by dotted names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [name if is_module(name := f"{node.module}.{alias.name}") else node.module for alias in node.names]
        yield from (name for name in names if is_module(name))


def is_module(name: str) -> bool:
    path = CHECKOUT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def rooms(layer: str) -> set[str]:
    """What stands directly below a layer, but for its __init__ and folders without modules."""
    found = {path.relative_to(CHECKOUT / layer).parts[0].removesuffix(".py") for path in (CHECKOUT / layer).rglob("*.py")}
    return found - {"__init__"}


def interpret(code: str) -> subprocess.CompletedProcess[str]:
    return finish(python("-c", code, cwd=CHECKOUT))


def test_imports_are_found_where_they_are():
    assert {"data", "pipeline", "torch", "transformers"} <= modules("pipeline")["pipeline/encoding/pretrained.py"]
    assert "luigi" in modules("pipeline")["pipeline/tasks.py"]
    assert {"av", "soxr"} <= modules("data")["data/media.py"]


@pytest.mark.parametrize("layer", NEVER)
def test_a_layer_never_imports_what_is_above_it(layer):
    assert {path: found & NEVER[layer] for path, found in modules(layer).items() if found & NEVER[layer]} == {}


@pytest.mark.parametrize("layer", ROOMS)
def test_rooms_import_only_the_rooms_before_them(layer):
    order = ROOMS[layer]
    assert rooms(layer) == set(order)
    upward = []
    for path in sorted((CHECKOUT / layer).rglob("*.py")):
        room = path.relative_to(CHECKOUT / layer).parts[0].removesuffix(".py")
        for name in modules_imported(path):
            if name.startswith(f"{layer}.") and room != "__init__" and order.index(name.split(".")[1]) > order.index(room):
                upward.append(f"{path.relative_to(CHECKOUT)} imports {name}")
    assert not upward, f"{'; '.join(upward)}. The order of {layer}/: {' < '.join(order)}."


def test_rooms_of_data_import_only_the_rooms_before_them():
    assert set(DATA_ROOMS) < rooms("data")
    place = {room: number for number, room in enumerate(DATA_ROOMS, start=1)}  # 0 for all other modules
    upward = [
        f"{path.relative_to(CHECKOUT)} imports {name}"
        for room in rooms("data")
        for path in (CHECKOUT / "data").rglob("*.py")
        if path.relative_to(CHECKOUT / "data").parts[0].removesuffix(".py") == room
        for name in modules_imported(path)
        if name.startswith("data.") and place.get(name.split(".")[1], 0) > place.get(room, 0)
    ]
    assert not upward, f"{'; '.join(upward)}. The order of data/: other modules < {' < '.join(DATA_ROOMS)}."


def test_importing_data_is_light():
    heavy = "numpy pandas pyarrow h5py torch av soxr luigi transformers"
    result = interpret(f"import sys, data; print(*sorted(set('{heavy}'.split()) & set(sys.modules)))")
    assert (result.returncode, result.stdout) == (0, "\n"), result.stderr


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_only_where_it_belongs(package):
    users = {path for layer in NEVER for path, found in modules(layer).items() if package in found}
    assert users
    assert users <= ONLY_IN[package]


def test_only_the_report_kit_itself_and_what_stands_above_data_imports_the_report_kit():
    """Reading data loads neither Jinja nor matplotlib. The formats of numbers need neither."""
    paths = [path for path in sorted((CHECKOUT / "data").rglob("*.py")) if "reporting" not in path.parts]
    found = {(path.name, name) for path in paths for name in modules_imported(path) if name.startswith("data.reporting")}
    assert found == {("__main__.py", "data.reporting.numbers")}
    assert set(imports(CHECKOUT / "data/reporting/numbers.py")) == {"math"}


def test_printing_a_table_loads_neither_jinja_nor_matplotlib_and_planning_a_build_neither():
    used = "data.reporting.tables, data.reporting.numbers, heads.evaluation.console, pipeline.tasks, pipeline.report.page"
    result = interpret(f"import sys, {used}; print(*sorted({{'jinja2', 'matplotlib'}} & set(sys.modules)))")
    assert (result.returncode, result.stdout) == (0, "\n"), result.stderr


def test_data_imports_torch_only_for_tensors():
    assert {path for path, found in modules("data").items() if "torch" in found} <= TORCH_IN_DATA


def test_data_is_usable_where_neither_media_libraries_nor_luigi_nor_torch_are_installed():
    blocked = ("av", "soxr", "luigi", "transformers", "torch", "pydantic")
    used = "data.feature_store, data.manifest, data.corpora, data.media, data.doctor, data.cache, data.targets, data.batching"
    result = interpret(f"import sys; sys.modules.update(dict.fromkeys({blocked})); import {used}; print('usable')")
    assert (result.returncode, result.stdout) == (0, "usable\n"), result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--help"], "Train heads on cached features."), (["fit", "--cache", "c", "--corpus", "mosi", "--head", "mmorle"], "'mmolre'?")],
    ids=["help", "a mistyped head"],
)
def test_heads_answers_without_torch(arguments, said):
    code = (
        "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules));"
        f" from heads.__main__ import main; sys.exit(main({arguments}))"
    )
    result = interpret(code)
    assert said in result.stdout + result.stderr
    assert result.stdout.endswith("False\n")


@pytest.mark.parametrize("room", ["models", "evaluation", "runs", "commands"])
def test_these_rooms_are_imported_without_torch(room):
    result = interpret(f"import sys, heads.{room}; print(sorted({{'torch', 'luigi', 'transformers'}} & set(sys.modules)))")
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


def test_planning_imports_no_torch_so_that_workers_may_be_forked():
    result = interpret("import sys, pipeline.tasks; print(*sorted({'luigi', 'torch', 'transformers', 'av'} & set(sys.modules)))")
    assert (result.returncode, result.stdout) == (0, "luigi\n"), result.stderr
