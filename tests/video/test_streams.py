"""What is said where a container cannot hold a stream."""

from pathlib import Path

import av
from av.packet import Packet

from carfix.video.streams import try_copy


def test_options_that_carfix_has_not_are_no_cure(tmp_path: Path) -> None:
    """FFmpeg advises -strict -2 for TrueHD in MP4, which few players know."""
    with av.open(str(tmp_path / "in.mkv"), "w") as output:
        sound = output.add_mux_stream("truehd", rate=48_000)
        packet = Packet(bytes(64))
        packet.pts, packet.dts, packet.stream = 0, 0, sound
        output.mux(packet)
    with av.open(str(tmp_path / "in.mkv")) as container:
        assert try_copy(container.streams[0], None, "mp4") == "truehd in MP4 support is experimental"
