"""Sounds of clips for the players of a page: linked to the media, or embedded in the page up to a limit.

A linked sound is the user's own file, of which the player plays the clip's span (a media fragment, `#t=1.5,4`). The page stays small,
and its players work where the media are. An embedded sound is the span alone, as Opus of 24 kbit/s in Ogg, and works wherever the page
is.
"""

import base64
import contextlib
import io
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.errors import UnreadableError
from data.media import SAMPLE_RATE_HZ, MediaError, cut, decode
from data.reporting.numbers import size

LINK, EMBED, NONE = "link", "embed", "none"
SOURCES = {
    LINK: "players read the media where they lie",
    EMBED: "players have their sounds in the page, up to a limit",
    NONE: "no players",
}

LIMIT_BYTES = 20_000_000
"""Default limit of all embedded sounds of a page: 80 minutes."""

PLAYED = frozenset((".aac", ".flac", ".m4a", ".m4v", ".mov", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm"))
"""Suffixes of files that browsers play. Others can be embedded."""

_BITS_PER_S = 24_000
_BYTES_PER_S, _HEADER_BYTES = 3075, 200  # of Ogg with packets of this rate, as measured


class Clip(NamedTuple):
    """A span of a media file in seconds; NaN means its start, or its end. `duration_s` is that of the span, NaN if not known."""

    path: Path
    start_s: float = math.nan
    end_s: float = math.nan
    duration_s: float = math.nan


@dataclass(frozen=True)
class Players:
    """Addresses of sounds by the name of the clip, and a sentence on those that have none."""

    addresses: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def players(clips: Mapping[str, Clip], source: str, folder: Path, limit_bytes: int = LIMIT_BYTES) -> Players:
    """Finds the sounds of clips.

    Args:
        clips: Name → clip; the first ones are embedded where the limit does not allow all.
        source: `LINK`, `EMBED` or `NONE`.
        folder: Folder of the page. Links to files below it are relative, other links absolute.
        limit_bytes: Most bytes that embedded sounds add to the page.

    Returns:
        Addresses of the clips that have a player, in the order of `clips`. Clips whose medium is missing or cannot be played have none,
        and the note counts them.
    """
    if source == NONE or not clips:
        return Players()
    there = {name: clip for name, clip in clips.items() if os.path.isfile(clip.path)}
    found, reasons = _linked(there, folder) if source == LINK else _embedded(there, limit_bytes)
    if len(there) < len(clips):
        reasons.append(f"the media of {len(clips) - len(there):,} are not there")
    return Players(found, f"Players of {len(found):,} of {len(clips):,} clips{': ' if reasons else ''}{'; '.join(reasons)}.")


def link(clip: Clip, folder: Path) -> str:
    """Makes the address of a clip in its file: relative where the file is below `folder`, else absolute, with the span."""
    path, folder = clip.path.resolve(), folder.resolve()
    below = path.as_uri().removeprefix(folder.as_uri()).lstrip("/")
    address = below if path.is_relative_to(folder) else path.as_uri()
    start, end = ("" if math.isnan(value) else f"{value:.3f}".rstrip("0").rstrip(".") for value in (clip.start_s, clip.end_s))
    return f"{address}#t={start or 0}{',' if end else ''}{end}" if start or end else address


def embed(samples: np.ndarray) -> str:
    """Makes an address that holds a sound.

    Args:
        samples: (S,) float32 at 16 kHz, full scale ±1.
    """
    return f"data:audio/ogg;base64,{base64.b64encode(opus(samples)).decode()}"


def opus(samples: np.ndarray) -> bytes:
    """Encodes a sound as Opus of 24 kbit/s in Ogg. The same samples give the same bytes.

    Args:
        samples: (S,) float32 at 16 kHz, full scale ±1; S > 0.
    """
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="ogg", options={"fflags": "bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE_HZ, options={"application": "voip", "vbr": "off"})
        stream.layout, stream.format, stream.bit_rate = "mono", "flt", _BITS_PER_S
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), "flt", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _linked(clips: Mapping[str, Clip], folder: Path) -> tuple[dict[str, str], list[str]]:
    """Links to the files that browsers play, and says which they do not."""
    found = {name: link(clip, folder) for name, clip in clips.items() if clip.path.suffix.lower() in PLAYED}
    suffixes = sorted({clip.path.suffix.lower() or "no suffix" for name, clip in clips.items() if name not in found})
    others = f"browsers do not play the files of {len(clips) - len(found):,} ({', '.join(suffixes)}), which can be embedded"
    return found, [others] if suffixes else []


def _embedded(clips: Mapping[str, Clip], limit_bytes: int) -> tuple[dict[str, str], list[str]]:
    """Embeds the first clips up to the limit, and says why others are not; a file is decoded once."""
    wanted, total = [], 0.0
    for name, clip in clips.items():
        total += _expected_bytes(clip)
        if total > limit_bytes:
            break
        wanted.append(name)
    sounds = dict(_sounds({name: clips[name] for name in wanted}))
    found, left_bytes = {}, limit_bytes
    for name in wanted:
        if name in sounds and (left_bytes := left_bytes - len(sounds[name])) >= 0:
            found[name] = sounds[name]
    beyond, damaged = len(clips) - len(found) - (len(wanted) - len(sounds)), len(wanted) - len(sounds)
    reasons = [f"limit {size(limit_bytes)}"] if beyond else []
    return found, [*reasons, *([f"{damaged:,} cannot be read"] if damaged else [])]


def _sounds(clips: Mapping[str, Clip]) -> Iterator[tuple[str, str]]:
    """Yields name and embedded sound of each clip that can be decoded, file by file."""
    for path, group in itertools.groupby(sorted(clips.items(), key=lambda item: item[1].path), key=lambda item: item[1].path):
        try:
            waveform = decode(path)
        except (MediaError, UnreadableError):
            continue
        for name, clip in group:
            with contextlib.suppress(MediaError):
                yield name, embed(cut(waveform, clip.start_s, clip.end_s, name))


def _expected_bytes(clip: Clip) -> float:
    """Estimates the bytes of an embedded sound; 0 where its length is not known."""
    length_s = clip.duration_s if not math.isnan(clip.duration_s) else clip.end_s - (0.0 if math.isnan(clip.start_s) else clip.start_s)
    return 0.0 if math.isnan(length_s) else (length_s * _BYTES_PER_S + _HEADER_BYTES) * 4 / 3
