from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import media
import pytest
from media import Sound

from carfix.video.demux import decoded, demux


class WithAnotherStream:
    """A container in whose damaged end PyAV comes upon a stream that was not there at the start."""

    def __init__(self, container: Any) -> None:  # noqa: ANN401
        self._container = container
        self.format = container.format

    def demux(self, *streams: Any) -> Iterator[Any]:  # noqa: ANN401
        yield from self._container.demux(*streams)
        raise IndexError("list index out of range")


def test_a_stream_that_turns_up_at_the_end_costs_no_frame(tmp_path: Path) -> None:
    clip = media.write_clip(tmp_path / "in.ts", frames=12, sounds=[Sound(codec="mp2")])
    with av.open(str(clip)) as container:
        expected = [bytes(packet) for packet in container.demux()]
    with av.open(str(clip)) as container:
        assert [bytes(packet) for packet in demux(WithAnotherStream(container))] == expected  # type: ignore[arg-type]
    with av.open(str(clip)) as container:
        video = container.streams.video[0]
        frames = list(decoded(WithAnotherStream(container), video))  # type: ignore[arg-type]
    assert len(frames) == 12


@pytest.mark.parametrize("place", ["middle", "end"])
def test_a_hole_in_a_transport_stream_hides_nothing(place: str, tmp_path: Path) -> None:
    """A disk that had no power, or what a recorder has set aside and not filled: all behind 64 kB of it was lost."""
    clip = media.write_clip(tmp_path / "in.ts", frames=12, sounds=[Sound(codec="mp2")])
    data = clip.read_bytes()
    at = len(data) // 188 // 2 * 188 if place == "middle" else len(data)
    holed = tmp_path / "holed.ts"
    holed.write_bytes(data[:at] + bytes(400_000) + data[at:])
    found = []
    for path in (clip, holed):
        with av.open(str(path)) as container:
            found.append([packet.pts for packet in demux(container, container.streams.video[0])])
    assert found[0] == found[1]
