"""What readers would not know is refused on the way into a pipe, too, where nothing is read back."""

import io
from pathlib import Path

import media
import pytest
from engines import Adding

from carfix.errors import CarfixError
from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "name", "cure"),
    [
        ("ffv1", "yuv420p", "out.ts", "use a name in .mkv"),
        ("libvpx-vp9", "yuv420p", "out.ts", "use a name in .mkv"),
        ("mpeg4", "yuv420p", "out.ts", "use a name in .mkv"),
        ("rawvideo", "yuv444p", "out.avi", "use a name in .nut"),
        ("libx264", "yuv420p", "out.ts", None),
        ("mpeg2video", "yuv420p", "out.ts", None),
        ("rawvideo", "yuv420p", "out.avi", None),
        ("rawvideo", "yuv444p", "out.nut", None),
    ],
)
def test_video_that_no_reader_would_know(
    codec: str, pix_fmt: str, name: str, cure: str | None, tmp_path: Path
) -> None:
    """It ended with exit code 0 and a file that nothing opens, or shows in other colours."""
    source = media.write_clip(tmp_path / "in.nut", pix_fmt=pix_fmt)
    engine = Adding(0)

    def restored() -> None:
        restore_pipe(
            source=io.BytesIO(source.read_bytes()),
            output=tmp_path / name,
            encoder=EncoderSettings(codec=codec),
            choice=EngineChoice(model=engine),
        )

    if cure is None:
        restored()
        assert len(media.frame_times(tmp_path / name)) == media.FRAMES
    else:
        with pytest.raises(CarfixError, match=f"cannot hold {codec} video: .*; {cure}"):
            restored()
        assert engine.planes == 0
