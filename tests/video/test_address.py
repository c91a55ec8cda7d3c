"""Files whose names look like addresses, and addresses where a file is wanted."""

import io
import sys
from pathlib import Path

import media
import pytest
from engines import Adding
from jobs import restore

from carfix.errors import CarfixError
from carfix.quality.compare import compare_videos
from carfix.quality.inspect import inspect_file
from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.restore.place import check_place
from carfix.training.sources import read_video
from carfix.video.address import address_hint
from carfix.video.source import probe


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["12:30:00.mkv", "http:a.mkv", "concat:a|b.mkv", "-i.mkv", "a%03d.mkv"])
def test_a_name_is_never_a_protocol(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    media.write_clip(tmp_path / "in.mkv").rename(name)
    source, output = Path(name), Path(f"out{name}")
    assert restore(source, output, model=Adding(0)).frames == media.FRAMES
    choice = EngineChoice(model=Adding(0))
    assert (
        restore_pipe(source=source, output=io.BytesIO(), format="nut", choice=choice).frames == media.FRAMES
    )
    assert read_video(source, size=None, start=0, frames=3)[0].shape[0] == 3
    comparison = compare_videos(reference=source, candidates=[output])
    assert comparison.results[0].quality.psnr.min() > 30


def test_an_address_gets_a_way_out() -> None:
    with pytest.raises(
        CarfixError, match=r"no such file: rtsp://camera/stream; .*not addresses: ffmpeg -i ADDR"
    ):
        probe(Path("rtsp://camera/stream"))
    with pytest.raises(CarfixError, match=r"no such file: file:a\.mp4; carfix takes paths.*leave file: out"):
        probe(Path("file:a.mp4"))
    with pytest.raises(CarfixError, match=r"no such file: -; carfix restore alone reads from a pipe: write"):
        inspect_file(Path("-"))
    with pytest.raises(CarfixError, match=r"no folder rtmp://host to write to; .*-f FORMAT ADDRESS"):
        check_place(Path("rtmp://host/live"), overwrite=False, parents=False)
    assert not address_hint(Path("C:/video.mp4"))
    assert not address_hint(Path("12:30:00.mp4"))
