"""Run folders: the files that a run leaves, written and read. Nothing is pickled.

config.json            everything that determined the result, resolved, and the feature files that were read
failed.json            why a trial of a sweep failed, and if for lack of memory; instead of metrics.json
metrics.json           validation metrics of the chosen epoch; test metrics once the test split was opened
history.csv            one row an epoch
predictions.parquet    of the validation split; predictions-test.parquet once the test split was opened
checkpoint.safetensors parameters of the chosen epoch; best-<criterion>.safetensors of the others that are kept
xray.json, xray.svg    routing of the validation split, for heads that route
report.html            the page of the run (`heads.reports`); report-test.html once the test split was opened
opened.csv             one row for each evaluation of a split after training: when, split, checkpoint
state.safetensors      the state of an unfinished run; removed when it is finished

The shape of the JSON files is in `heads.runs.contents`; finished runs are evaluated in `heads.runs.evaluate`.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from data.atomic import atomic_path, remove_strays
from data.errors import InputError, reason
from data.files import unreadable
from data.labels import EMOTIONS
from data.manifest import read_table, write_table
from data.targets import Targets
from heads.evaluation.predictions import Predictions
from heads.evaluation.routing import xray
from heads.runs import tensor_file
from heads.runs.config import RunConfig
from heads.runs.contents import (
    CONFIG,
    ENCODER,
    differences,
    fault_of,
    fault_of_history,
    fault_of_metrics,
    fault_of_predictions,
    fault_of_routing,
    identity_of,
    parse_json,
    without_nan,
)
from heads.runs.streams import sets_of

_LONGEST_LINE = 20_000
"""Characters of a line of a table. pandas needs minutes for a header of a million commas."""

VERSION = 1
"""Format of config.json; a run that a newer program wrote is refused."""


class RunFolder:
    """One run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def is_complete(self) -> bool:
        """True if the run is finished and its results are in the folder."""
        return (self.path / "metrics.json").is_file()

    def begin(self, content: Mapping[str, Any]) -> None:
        """Writes config.json, or checks that the folder holds the same run.

        Raises:
            InputError: The folder holds another run, or something else.
        """
        path = self.path / "config.json"
        if self.path.is_dir():
            remove_strays(self.path)
        if path.is_file():
            found, wanted = _identity(self.config()), _identity(json.loads(json.dumps(content)))
            if found != wanted:
                unlike = differences(found, wanted)
                raise InputError(f"{self.path}: holds a run of another configuration: {unlike}. Choose another folder or remove it.")
            return
        if self.path.is_dir() and any(self.path.iterdir()):
            raise InputError(f"{self.path}: is not empty and holds no run (no config.json). Choose another folder.")
        self.write_json("config.json", content)

    def config(self) -> dict[str, Any]:
        """Reads config.json, the content that `begin` was given.

        Raises:
            InputError: There is no run, it is of a newer version, or its config.json is damaged.
        """
        content, path = self._read_json("config.json"), self.path / "config.json"
        if not isinstance(content, dict) or not CONFIG.keys() & content.keys():
            raise InputError(f"{path}: not the configuration of a run, so {self.path} is no run folder.")
        if isinstance(version := content.get("version"), int) and version > VERSION:
            known = f"format {version}, this one reads up to {VERSION}"
            raise InputError(f"{path}: written by a newer version of this program ({known}). Install that one.")
        fault = fault_of(content, CONFIG)
        if fault is None:
            sets = sets_of(content["config"]["data"])
            fault = fault_of(content["encoders"], {name: ENCODER for names in sets.values() for name in names}, "encoders.")
        if fault is not None:
            raise self._damaged("config.json", fault)
        return content

    def metrics(self) -> dict[str, Any]:
        """Reads metrics.json: split → metrics, and facts about the run.

        Raises:
            InputError: There is no run, it is not finished, or its metrics.json is damaged.
        """
        if not self.is_complete:
            self.config()
            raise InputError(f"{self.path}: this run is not complete. Run the same fit command again; it goes on where it stopped.")
        content = self._read_json("metrics.json")
        if (fault := fault_of_metrics(content)) is not None:
            raise self._damaged("metrics.json", fault)
        return content

    def write_metrics(self, content: Mapping[str, Any]) -> None:
        """Writes metrics.json; NaN becomes null."""
        self.write_json("metrics.json", without_nan(content))

    def routing(self, name: str) -> dict[str, Any] | None:
        """Reads the routing report of this name; None if there is none, as for heads that do not route.

        Raises:
            InputError: The file is damaged.
        """
        if not (self.path / f"{name}.json").is_file():
            return None
        content = self._read_json(f"{name}.json")
        if (fault := fault_of_routing(content)) is not None:
            raise self._damaged(f"{name}.json", fault)
        return content

    def write_routing(self, name: str, predictions: Predictions, targets: Targets) -> None:
        """Writes the routing report of predictions as JSON, for heads that route."""
        if predictions.routing:
            self.write_json(f"{name}.json", xray(predictions.routing, targets.emotions[predictions.rows]))

    def draw_routing(self, name: str) -> None:
        """Draws a routing report as SVG, if there is one. It takes seconds; the trials of a sweep go without."""
        if (report := self.routing(name)) is not None:
            from heads.evaluation.routing_chart import draw  # imports matplotlib

            draw(report, self.path / f"{name}.svg")

    @property
    def failure(self) -> str | None:
        """The reason why the run failed as a trial of a sweep; None if it did not.

        Raises:
            InputError: failed.json is damaged.
        """
        return self._failed.get("error")

    @property
    def lacked_memory(self) -> bool:
        """True if the run failed because memory ran out; another try may succeed.

        Raises:
            InputError: failed.json is damaged.
        """
        return self._failed.get("lacked_memory", False)

    @property
    def _failed(self) -> dict[str, Any]:
        """The content of failed.json; empty if there is no such file."""
        if not (self.path / "failed.json").is_file():
            return {}
        content = self._read_json("failed.json")
        if not isinstance(content, dict) or not isinstance(content.get("error"), str):
            raise self._damaged("failed.json", "no error is in it")
        if not isinstance(content.get("lacked_memory", False), bool):
            raise self._damaged("failed.json", "lacked_memory is not true or false")
        return content

    def write_failure(self, error: str, lacked_memory: bool = False) -> None:
        """Writes failed.json."""
        self.write_json("failed.json", {"error": error, "lacked_memory": lacked_memory})
        self.remove_state()

    def forget_failure(self) -> None:
        """Removes failed.json, before the run is tried again."""
        (self.path / "failed.json").unlink(missing_ok=True)

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Writes history.csv."""
        with atomic_path(self.path / "history.csv") as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False)

    def history(self) -> pd.DataFrame | None:
        """Reads history.csv; None if there is none, as for simple baselines.

        Raises:
            InputError: The file is damaged.
        """
        return self._read_table("history.csv", _read_csv, fault_of_history)

    def predictions(self, split: str = "valid") -> pd.DataFrame | None:
        """Reads predictions.parquet, the table of `predictions_table`, or that of the test split; None if there is none.

        Raises:
            InputError: The file is damaged.
        """
        name = "predictions.parquet" if split == "valid" else f"predictions-{split}.parquet"
        return self._read_table(name, read_table, fault_of_predictions)

    def openings(self) -> pd.DataFrame | None:
        """Reads opened.csv with the columns when, split and checkpoint; None if there is none.

        Raises:
            InputError: The file is damaged.
        """
        columns = ["when", "split", "checkpoint"]
        return self._read_table(
            "opened.csv",
            lambda path: _read_csv(path, dtype=str),
            lambda table: None if [*table] == columns and table.notna().all(axis=None) else f"its columns are not {', '.join(columns)}",
        )

    def write_predictions(self, name: str, table: pd.DataFrame, attributes: Mapping[str, Any]) -> None:
        """Writes a table of `predictions_table` as Parquet."""
        write_table(self.path / name, table, dict(attributes))

    def record_opening(self, split: str, checkpoint: str) -> None:
        """Adds a row to opened.csv: a split is evaluated."""
        path = self.path / "opened.csv"
        is_new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["when", "split", "checkpoint"])
            writer.writerow([datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), split, checkpoint])

    def save_checkpoint(self, name: str, parameters: Mapping[str, Tensor]) -> None:
        """Writes parameters as safetensors."""
        self._save(name, parameters, {})

    def load_checkpoint(self, name: str) -> dict[str, Tensor]:
        """Reads parameters by name, on the host.

        Raises:
            InputError: There is no such checkpoint, or it is damaged or cannot be read.
        """
        return self._load(name)[0]

    def save_state(self, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
        """Writes the state of an unfinished run, in one file."""
        self._save("state.safetensors", tensors, {"progress": json.dumps(progress)})

    def load_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Reads the state that `save_state` was given; None if the run is at its start.

        Raises:
            InputError: The file is damaged.
        """
        if not (self.path / "state.safetensors").exists():
            return None
        tensors, facts = self._load("state.safetensors")
        return tensors, self._progress(facts)

    @property
    def saved_epochs(self) -> int:
        """The number of epochs that were complete when the run was last saved.

        Raises:
            InputError: The file is damaged.
        """
        if not (self.path / "state.safetensors").exists():
            return 0
        return len(self._progress(self._load("state.safetensors")[1])["history"])

    def _progress(self, facts: Mapping[str, str] | None) -> dict[str, Any]:
        """Reads the progress of a run from the facts of its state."""
        progress = json.loads((facts or {}).get("progress", "null"))
        if (fault := fault_of(progress, {"history": list, "selection": dict})) is not None:
            raise self._damaged("state.safetensors", fault)
        return progress

    def remove_state(self) -> None:
        """Removes the state, after the run is finished."""
        (self.path / "state.safetensors").unlink(missing_ok=True)

    def _save(self, name: str, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
        # cloned: a module that a head uses twice has two names, and safetensors refuses memory that has two
        content = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
        with atomic_path(self.path / name) as temporary:
            temporary.write_bytes(tensor_file.pack(content, facts))

    def _load(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        path = self.path / name
        try:
            return tensor_file.unpack(path.read_bytes())
        except FileNotFoundError as error:
            have = ", ".join(sorted(found.name for found in self.path.glob("*.safetensors"))) or "none"
            raise InputError(f"{path}: no such checkpoint. Available: {have}.") from error
        except (ValueError, OSError) as error:
            raise unreadable(path, error) or self._damaged(name, reason(error)) from error

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a JSON file of the folder."""
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def _read_json(self, name: str) -> Any:
        path = self.path / name
        try:
            return parse_json(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InputError(f"{path}: no such file, so {self.path} is no run folder.") from error
        except (ValueError, OSError) as error:  # ValueError: no JSON, or no text
            raise unreadable(path, error) or self._damaged(name, reason(error)) from error

    def _read_table(
        self, name: str, read: Callable[[Path], pd.DataFrame], fault_of_table: Callable[[pd.DataFrame], str | None]
    ) -> pd.DataFrame | None:
        if not (self.path / name).is_file():
            return None
        try:
            table = read(self.path / name)
        except (ValueError, OverflowError) as error:  # no CSV, or no text
            raise self._damaged(name, reason(error)) from error
        if (fault := fault_of_table(table)) is not None:
            raise self._damaged(name, fault)
        return table

    def _damaged(self, name: str, why: str) -> InputError:
        what_helps = f"Remove the run folder {self.path} and run the command that made it again."
        return InputError(f"{self.path / name}: damaged ({why}). {what_helps}")


def run_folder(config: RunConfig, out: Path) -> RunFolder:
    """Returns the folder of a run of this configuration below `out`, whether it exists or not."""
    preset = Path(config.preset).stem
    return RunFolder(out / f"{config.corpus}-{config.head}-{preset}-{config.key()}-seed{config.seed}")


def predictions_table(predictions: Predictions, targets: Any) -> pd.DataFrame:
    """Makes a table with one row an utterance: id, predicted and true sentiment, probability and true intensity of each emotion."""
    columns: dict[str, Any] = {"utterance_id": [targets.ids[row] for row in predictions.rows]}
    if predictions.sentiment is not None:
        columns |= {"sentiment": predictions.sentiment, "sentiment_true": targets.sentiment[predictions.rows]}
    if (probability := predictions.emotion_probability) is not None:
        truth = targets.emotions[predictions.rows]
        columns |= {emotion: probability[:, number] for number, emotion in enumerate(EMOTIONS)}
        columns |= {f"{emotion}_true": truth[:, number] for number, emotion in enumerate(EMOTIONS)}
    return pd.DataFrame(columns)


def _read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """Reads a table; ValueError if a line of it has more characters than any that was written."""
    text = path.read_text(encoding="utf-8")
    if max(map(len, text.split("\n"))) > _LONGEST_LINE:
        raise ValueError(f"a line of more than {_LONGEST_LINE:,} characters")
    return pd.read_csv(io.StringIO(text), **options)


def _identity(content: Mapping[str, Any]) -> dict[str, Any]:
    encoders = {modality: identity_of(encoder) for modality, encoder in content["encoders"].items()}
    return {name: value for name, value in content.items() if name != "made"} | {"encoders": encoders}
