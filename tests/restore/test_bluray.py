"""Camcorders' transport streams (AVCHD), as Blu-ray discs have them: 192 bytes a packet, LPCM, PGS subtitles."""

from pathlib import Path

import av
import media
import pytest
from jobs import restore
from media import Sound

from carfix.errors import CarfixError

PACKET, SYNC = 192, 4


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    clip = media.write_clip(tmp_path / "clip.mkv", sounds=[Sound(codec="pcm_s16le")])
    path = tmp_path / "00001.mts"
    with (
        av.open(str(clip)) as source,
        av.open(str(path), "w", format="mpegts", container_options={"mpegts_m2ts_mode": "1"}) as output,
    ):
        video = output.add_stream_from_template(source.streams.video[0])
        sound = output.add_stream("pcm_bluray", rate=48_000, layout="stereo")
        for packet in source.demux():
            if packet.stream.type == "video" and packet.size:
                packet.stream = video
                output.mux(packet)
            elif packet.stream.type == "audio":
                for frame in packet.decode():
                    output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return path


def is_bluray(path: Path) -> bool:
    data = path.read_bytes()
    return len(data) % PACKET == 0 and set(data[SYNC::PACKET]) == {0x47}


@pytest.mark.parametrize("name", ["out.mts", "out.M2TS"])
def test_a_camcorders_file_stays_one(name: str, recording: Path, tmp_path: Path) -> None:
    restore(recording, tmp_path / name)
    assert is_bluray(tmp_path / name)
    times = [media.frame_times(path) for path in (recording, tmp_path / name)]
    assert times[0] == times[1]
    sound = []
    for path in (recording, tmp_path / name):
        with av.open(str(path)) as container:
            assert container.streams.audio[0].codec_context.name == "pcm_bluray"
            sound.append(b"".join(bytes(packet) for packet in container.demux(audio=0)))
    assert sound[0] == sound[1]


def test_other_transport_streams_have_no_such_packets(recording: Path, tmp_path: Path) -> None:
    restore(recording, tmp_path / "out.mts", audio_codec="aac")
    assert not is_bluray(tmp_path / "out.mts")
    with pytest.raises(CarfixError, match=r"mpegts cannot hold audio stream 1 \(pcm_bluray\)"):
        restore(recording, tmp_path / "out.ts")
    plain = media.write_clip(tmp_path / "plain.ts", sounds=[Sound(codec="mp2")])
    restore(plain, tmp_path / "plain.mts")
    assert not is_bluray(tmp_path / "plain.mts")
