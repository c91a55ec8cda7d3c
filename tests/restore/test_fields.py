"""Interlaced video: which outputs say that a frame is two fields, and which first; what is told where they do not."""

import io
from pathlib import Path

import av
import media
import pytest
from engines import Adding
from jobs import restore

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings


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
