"""Where the sound of a recording lies on its own clock. `data.media` decodes, and puts silence where the clock runs on without sound.

Recorders of calls and streams leave out packets that were lost, and begin to record sound after the picture. What follows is then later
than its position among the samples says, and the times of transcripts are those of the clock. Containers are of three kinds:

| container | its clock |
|---|---|
| wav, flac, mp3 and others without timestamps | none: a sample follows the one before it |
| mp4, mkv, flv, asf | begins with the recording, so a late first frame is a late start |
| avi | the same, but only the start is known: other times are counted from bytes, which is wrong for a variable bit rate |
| mpeg-ts, ogg | begins anywhere (both may be cut out of an endless stream): the first frame, of sound or picture, is its start |

Sources: ISO/IEC 14496-12 8.6.6, RFC 9559 11.2, RFC 7845 4.3 (Ogg Opus may begin at any position).
"""

from typing import Any, NamedTuple

JITTER_S = 0.1
"""Seconds by which a frame may be later than the samples before it without a gap: Matroska rounds times to milliseconds, and mp3, aac
and wma begin with up to 0.1 s of encoder delay. ffmpeg's `aresample=async=1` has the same limit (`min_hard_comp`). Shorter gaps add up
until they reach it, so no sample is further from its time."""

_RESTART_S = 0.5
"""A clock that is so many seconds behind the samples has been set back, as where two recordings were joined. Samples are never left
out: a frame that comes too early follows the one before it."""

_FROM_ZERO = ("mov", "matroska", "avi", "flv", "asf")
_FROM_FIRST = ("mpegts", "ogg")


class Gap(NamedTuple):
    """A stretch of the clock without sound; a negative length means that the clock was set back."""

    at_s: float
    length_s: float


class Timeline:
    """Compares the timestamps of frames with the samples so far.

    Attributes:
        start_s: The time on the clock at which the recording begins.
        gaps: The gaps so far, in order. Each begins a new run of frames.
        set_back: The places where the clock was set back.
    """

    def __init__(self, demuxer: str, codec: str, start_s: float) -> None:
        """Prepare for the frames of one stream.

        Args:
            demuxer: ffmpeg's name of the container.
            codec: ffmpeg's name of the codec. In Ogg, ffmpeg counts the first page of FLAC from 0 wherever the stream begins.
            start_s: First timestamp of any stream of the container.
        """
        name = demuxer.partition(",")[0]
        self._only_start = name == "avi"
        self._timed = name in _FROM_ZERO or (name in _FROM_FIRST and (name, codec) != ("ogg", "flac"))
        self.start_s = self._origin_s = start_s if name in _FROM_FIRST else 0.0
        self._end_s = 0.0
        self.gaps: list[Gap] = []
        self.set_back: list[Gap] = []

    def place(self, frame: Any) -> int:
        """Take the next frame, and return the number of its run: the gaps before it."""
        if self._timed and frame.pts is not None and not (self._only_start and self._end_s):
            early_s = self._end_s - (float(frame.pts * frame.time_base) - self._origin_s)
            if early_s < -JITTER_S:
                self.gaps.append(Gap(self._end_s, -early_s))
                self._end_s -= early_s
            elif early_s > _RESTART_S:
                self.set_back.append(Gap(self._end_s, -early_s))
                self._origin_s -= early_s
        self._end_s += frame.samples / frame.sample_rate
        return len(self.gaps)

    def filled_s(self) -> float:
        """Return the length of all gaps in seconds."""
        return sum(gap.length_s for gap in self.gaps)

    def describe(self) -> str:
        """Describe in a sentence what was filled and where the clock was set back; empty if neither happened."""
        late = [gap for gap in self.gaps if gap.at_s == 0]
        gaps = [gap for gap in self.gaps if gap.at_s > 0]
        parts = [f"{gap.length_s:.2f} s of silence before its first sample" for gap in late]
        if gaps:
            length_s = sum(gap.length_s for gap in gaps)
            parts.append(f"{length_s:.2f} s of silence in gaps of its timestamps ({len(gaps)}), the first at {gaps[0].at_s:.2f} s")
        if self.set_back:
            first_s = self.set_back[0].at_s
            parts.append(f"its timestamps are set back ({len(self.set_back)}), first at {first_s:.2f} s; the sound goes on there")
        return "; ".join(parts)
