"""Jobs as tests want them: quick, in several segments, with an engine whose results are known."""

import io
from pathlib import Path

import pytest
from engines import Adding, Failing

from carfix.restore.models import EngineChoice
from carfix.restore.one_file import restore_video
from carfix.restore.pipe import restore_pipe
from carfix.restore.report import Report
from carfix.video.encoder_settings import EncoderSettings

QUICK = EncoderSettings(preset="ultrafast", options={"bf": "2", "b_strategy": "0"})
LOSSLESS = EncoderSettings(codec="ffv1")


def restore(source: Path, output: Path, **options: object) -> Report:
    options = {"model": Adding(0), "encoder": QUICK, "segment_seconds": 0.2, **options}
    return restore_video(source=source, output=output, **options)  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def interrupted(clip: Path, output: Path, **options: object) -> None:
    """A run that was stopped behind some of its segments."""
    with pytest.raises(KeyboardInterrupt):
        restore(clip, output, model=Failing(13, KeyboardInterrupt()), **options)
    assert not output.exists()


class Unseekable(io.BytesIO):
    """Bytes that can be read or written once, as a pipe's."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation("seek")


def through(data: bytes, path: Path, format: str, *, add: int = 0, **options: object) -> Report:
    """Restore `data` from a pipe into a pipe, what comes out of which is written to `path`."""
    target = Unseekable()
    report = restore_pipe(
        source=Unseekable(data),
        output=target,
        format=format,
        choice=EngineChoice(model=Adding(add)),
        **options,  # type: ignore[arg-type]
    )
    path.write_bytes(target.getvalue())
    return report
