"""Interlaced video: which outputs say that a frame is two fields, and which first; what is told where they do not."""

import io
from pathlib import Path

import av
import media
import pytest
from engines import Adding, Failing
from jobs import LOSSLESS, QUICK, restore

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings

#: Interlaced, the top field first.
TFF = {"x264-params": "tff=1:repeat-headers=1"}


def through(source: Path, output: Path, **options: object) -> list[str]:
    """What is said on the way through a pipe."""
    said: list[str] = []
    restore_pipe(
        source=io.BytesIO(source.read_bytes()),
        output=output,
        choice=EngineChoice(model=Adding(0)),
        say=said.append,
        **options,  # type: ignore[arg-type]
    )
    return said


@pytest.mark.parametrize(("first", "letter", "order"), [("tff", b"It", 2), ("bff", b"Ib", 3)])
def test_y4m_says_the_fields(first: str, letter: bytes, order: int, tmp_path: Path) -> None:
    """As FFmpeg's program has it. It said progressive, and whoever read that did not deinterlace."""
    options = {**media.X264, "x264-params": f"{first}=1"}
    source = media.write_clip(tmp_path / "in.mkv", options=options, interlaced=True)
    said = restore(source, tmp_path / "file.y4m", encoder=None).warnings
    said = (*said, *through(source, tmp_path / "piped.y4m"))
    assert not any("interlaced" in line for line in said)
    for name in ("file.y4m", "piped.y4m"):
        assert letter in (tmp_path / name).read_bytes().split(b"\n")[0].split()
        with av.open(str(tmp_path / name)) as container:
            assert all(frame.interlaced_frame for frame in container.decode(video=0))
            assert container.streams.video[0].codec_context.field_order == order
    raw = restore(source, tmp_path / "out.nut", encoder=EncoderSettings(codec="rawvideo"))
    assert raw.warnings == ("rawvideo cannot flag interlaced frames; -f y4m can",)


@pytest.mark.parametrize(
    ("encoder", "told"),
    [(QUICK, True), (LOSSLESS, False), (EncoderSettings(codec="libx264", options=TFF), False)],
)
def test_frames_that_are_interlaced_later_are_told(
    encoder: EncoderSettings, told: bool, tmp_path: Path
) -> None:
    """The encoder is opened for what the first frame is."""
    options = {**media.X264, "x264-params": "repeat-headers=1"}
    parts = [
        media.write_clip(tmp_path / "film.264", format="h264", options=options),
        media.write_clip(tmp_path / "news.264", format="h264", options={**options, **TFF}, interlaced=True),
    ]
    (tmp_path / "in.264").write_bytes(b"".join(part.read_bytes() for part in parts))
    report = restore(tmp_path / "in.264", tmp_path / "out.mkv", encoder=encoder)
    line = f"{media.FRAMES} frames are interlaced, which the first is not: the output does not flag them; "
    assert [warning.startswith(line) for warning in report.warnings] == [True] * told
    said = through(tmp_path / "in.264", tmp_path / "piped.mkv", encoder=encoder)
    assert [warning for warning in said if "interlaced" in warning] == list(report.warnings)
    for name in ("out.mkv", "piped.mkv"):
        with av.open(str(tmp_path / name)) as container:
            flags = [frame.interlaced_frame for frame in container.decode(video=0)]
        assert flags[-media.FRAMES :] == [not told] * media.FRAMES


def test_a_continued_run_tells_of_the_frames_before(tmp_path: Path) -> None:
    options = {**media.X264, "x264-params": "repeat-headers=1"}
    film = media.write_clip(tmp_path / "film.264", frames=6, format="h264", options=options)
    news = media.write_clip(
        tmp_path / "news.264", frames=18, format="h264", options={**options, **TFF}, interlaced=True
    )
    (tmp_path / "in.264").write_bytes(film.read_bytes() + news.read_bytes())
    whole = restore(tmp_path / "in.264", tmp_path / "whole.mkv")
    with pytest.raises(KeyboardInterrupt):
        # Fields: two planes to an interlaced frame.
        restore(tmp_path / "in.264", tmp_path / "out.mkv", model=Failing(40, KeyboardInterrupt()))
    continued = restore(tmp_path / "in.264", tmp_path / "out.mkv")
    assert continued.resumed > 6
    assert continued.warnings == whole.warnings
    assert whole.warnings[0].startswith("18 frames are interlaced")
