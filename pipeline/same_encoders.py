"""Encoders on this machine that make the same features as those that a run was trained on, found by identity and not by name.

The identity of features (`pipeline.encoding.checkpoints.identity`) has the SHA-256 of every file of their encoder and all settings that
determine a value. config.json of a run holds it for each feature set (`encoders`).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import InputError, reason, shown
from data.feature_sets import modality_of
from data.fingerprint import FileDigests
from data.lookup import expect
from pipeline.adaptation.checkpoint import RECORD
from pipeline.encoding.checkpoints import ENCODERS, expect_whole, files, identity, locate
from pipeline.plan.adaptations import finished_adaptation
from pipeline.settings import EncoderSettings


@dataclass(frozen=True)
class Places:
    """Where encoders are looked for."""

    caches: tuple[Path, ...] = ()  # whose builds have used or adapted encoders
    given: Mapping[str, Path] | None = None  # feature set → folder, which alone counts then


def read_encoders(config: Path, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Reads feature set → name, identity and width of its encoder from config.json of a run, of some sets or of all.

    Raises:
        InputError: The file cannot be read or is none of a run, it has no such set, or a set was not made by an encoder of ours.
    """
    try:
        encoders = json.loads(config.read_text(encoding="utf-8"))["encoders"]
        for name in only:
            expect(encoders, name, f"feature set of {config.parent.name}")
        encoders = {name: made for name, made in encoders.items() if name in (only or encoders)}
        for name, made in encoders.items():
            if not isinstance(made["identity"], dict) or "files" not in made["identity"]:
                raise InputError(
                    f"{config}: the {name} features come from another tool, which has to make those of the clips, too."
                    " Import them (python -m data import) and use predict --cache."
                )
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{config}: not the config.json of a run ({reason(error)}).") from error
    return encoders


def find(wanted: Mapping[str, Mapping[str, Any]], places: Places, digests: FileDigests) -> dict[str, EncoderSettings]:
    """Finds the encoder of each feature set.

    Args:
        wanted: As `read_encoders` returns it.
        places: Where to look.
        digests: Of files that were read before.

    Returns:
        Feature set → settings that give features of the wanted identity.

    Raises:
        InputError: An encoder is not at hand, or a folder that is given holds another one.
    """
    for name in places.given or {}:
        if name not in wanted:
            raise InputError(f"--encoder {shown(name)}: the run has no such features. It has: {', '.join(wanted)}.")
    return {name: _find(name, made, places, digests) for name, made in wanted.items()}


def _find(feature_set: str, made: Mapping[str, Any], places: Places, digests: FileDigests) -> EncoderSettings:
    wanted, given = made["identity"], (places.given or {}).get(feature_set)
    if given is not None:
        settings = _like(wanted, str(given.expanduser().absolute()))
        if unlike := _difference(_identity(feature_set, settings, wanted, digests), wanted):
            raise InputError(f"--encoder {feature_set}={given}: not the encoder of the run: {unlike}.")
        return settings
    nearly = ""
    for settings in _candidates(made, places.caches, digests):
        with contextlib.suppress(InputError):
            unlike = _difference(_identity(feature_set, settings, wanted, digests), wanted)
            if not unlike:
                return settings
            nearly = nearly or ("" if "SHA-256" in unlike else f" {settings.model} is at hand, but {unlike}.")
    advice = nearly or f" Give its folder: --encoder {feature_set}=FOLDER."
    raise InputError(f"The {feature_set} features of the run come from {_described(made)}, which is not at hand.{advice}")


def _described(made: Mapping[str, Any]) -> str:
    wanted, facts = made["identity"], made["encoder"] if isinstance(made["encoder"], Mapping) else {}
    name = f"{facts.get('name')}" + (f" (revision {facts['revision']})" if facts.get("revision") else "")
    if "adapted" in wanted:
        return f"the adapted encoder {name} (encoders/{name} in the cache of its build)"
    weights = {file: value for file, value in wanted["files"].items() if file.endswith((".safetensors", ".bin"))}
    file, value = next(iter(weights.items()), ("", ""))
    return f"the encoder {name}, {file} with the SHA-256 {value}"


def _candidates(made: Mapping[str, Any], caches: Sequence[Path], digests: FileDigests) -> Iterator[EncoderSettings]:
    """Yields settings whose model may be the encoder: folders that caches know first, then what its name says."""
    wanted, facts = made["identity"], made["encoder"] if isinstance(made["encoder"], Mapping) else {}
    if "adapted" in wanted:
        for cache in caches:
            yield from (_like(wanted, str(path.parent)) for path in sorted((cache / "encoders").glob(f"*/{RECORD}")))
        return
    name = str(facts.get("name", ""))
    if name in ENCODERS and ENCODERS[name].find is not None:
        yield _like(wanted, name)  # bundled
    values = set(wanted["files"].values())
    for cache in caches:
        known = FileDigests(cache / "fingerprints.json").remembered()
        folders = dict.fromkeys(str(Path(path).parent) for path, value in known.items() if value in values)
        yield from (_like(wanted, folder) for folder in folders if Path(folder).is_dir())
    if name in ENCODERS or "/" in name:
        yield _like(wanted, name, str(facts.get("revision", "")))


def _like(wanted: Mapping[str, Any], model: str, revision: str = "") -> EncoderSettings:
    """Returns the settings that an identity states, for a model."""
    names = ("case", "max_tokens", "context", "context_s", "frame_rate_hz")
    given = {name: wanted[name] for name in names if name in wanted}
    return EncoderSettings(model, revision, _layers(wanted), adapted="adapted" in wanted, **given)


def _layers(wanted: Mapping[str, Any]) -> str:
    if mean := wanted.get("mean_of_layers"):
        return f"mean({','.join(map(str, mean))})"
    return ",".join(map(str, wanted.get("layers", [wanted.get("layer", -1)])))


def _identity(feature_set: str, settings: EncoderSettings, wanted: Mapping[str, Any], digests: FileDigests) -> Mapping[str, Any]:
    modality, dtype, precision = modality_of(feature_set), wanted["dtype"], wanted["precision"]
    if settings.adapted:
        return finished_adaptation(settings, modality, dtype, precision)[1]
    source = locate(modality, settings)
    paths = files(modality, source)
    expect_whole(paths)
    hashes = {path.name: value for path, value in zip(paths, digests.digests(paths), strict=True)}
    return identity(modality, settings, source, hashes, dtype, precision)


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Describes the first fact that is not as wanted; "" if all are."""
    found = json.loads(json.dumps(found))
    for name, value in wanted["files"].items():
        if found["files"].get(name) != value:
            return f"the SHA-256 of its {name} is {found['files'].get(name)}, not {value}"
    for name in sorted(found.keys() | wanted.keys()):
        if found.get(name) != wanted.get(name):
            return f"its features have {name} {shown(found.get(name))}, not {shown(wanted.get(name))}"
    return ""
