"""Restores for tests of what stays as it was, and what has to be the same."""

from fractions import Fraction
from pathlib import Path

import av
import media
from engines import Adding

from carfix.restore.one_file import restore_video
from carfix.restore.report import Report
from carfix.video.encoder_settings import EncoderSettings

QUICK = EncoderSettings(preset="ultrafast", options={"bf": "2", "b_strategy": "0"})


def restore(
    source: Path, output: Path, *, add: int = 0, encoder: EncoderSettings = QUICK, **options: object
) -> Report:
    return restore_video(
        source=source, output=output, model=Adding(add), encoder=encoder, segment_seconds=0.2, **options
    )  # type: ignore[arg-type]


def tick(path: Path) -> Fraction:
    with av.open(str(path)) as container:
        time_base = container.streams.video[0].time_base
        assert time_base is not None
        return time_base


def assert_same_times(source: Path, output: Path) -> None:
    wanted, got = media.frame_times(source), media.frame_times(output)
    assert len(wanted) >= 1
    assert len(got) == len(wanted)
    # Exact where the output's clock can be, and to its tick in Matroska and TS.
    allowed = Fraction(0) if output.suffix in (".mp4", ".mov") else tick(output) / 2
    assert max(abs(a - b) for a, b in zip(got, wanted, strict=True)) <= allowed


def assert_same_video(source: Path, output: Path) -> None:
    assert_same_times(source, output)
    assert media.video_properties(output) == media.video_properties(source)
