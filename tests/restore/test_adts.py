"""Transport streams with AAC, as most have it, into Matroska through a pipe."""

import io
from pathlib import Path

import av
import media
import numpy as np
import pytest
from engines import Adding
from media import Sound

from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings


class Pipe(io.BytesIO):
    """Bytes in which nobody can go back."""

    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1"])
def test_aac_of_a_transport_stream_goes_into_a_matroska_pipe(layout: str, tmp_path: Path) -> None:
    """Matroska describes it at the beginning, where FFmpeg's muxer cannot go back to: nothing could be written."""
    sound = Sound(codec="aac", rate=44_100, layout=layout)
    source = media.write_clip(tmp_path / "in.ts", sounds=[sound])
    output = tmp_path / "out.mkv"
    target = Pipe()
    restore_pipe(
        source=Pipe(source.read_bytes()),
        output=target,
        format="matroska",
        encoder=EncoderSettings(codec="ffv1"),
        choice=EngineChoice(model=Adding(0)),
    )
    output.write_bytes(target.getvalue())
    decoded = []
    for path in (source, output):
        with av.open(str(path)) as container:
            frames = list(container.decode(audio=0))
            assert (frames[0].sample_rate, frames[0].layout.name) == (44_100, layout)
            decoded.append(np.concatenate([frame.to_ndarray() for frame in frames], axis=1))
    assert np.array_equal(decoded[0], decoded[1])
