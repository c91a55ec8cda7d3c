"""Sound that is encoded anew, changes, or is hidden, and what is named to those whose sound a container cannot hold."""

import io
from fractions import Fraction
from pathlib import Path

import av
import media
import numpy as np
import pytest
from engines import Adding
from jobs import restore
from media import Sound

from carfix.errors import CarfixError, UsageError
from carfix.restore.models import EngineChoice
from carfix.restore.pipe import restore_pipe
from carfix.video.encoder_settings import EncoderSettings


def samples(path: Path) -> tuple[np.ndarray, int, float]:
    """Decoded samples, their rate, and when the first one sounds, in seconds."""
    with av.open(str(path)) as container:
        sound = container.streams.audio[0]
        frames = list(container.decode(sound))
        start = float(frames[0].pts * sound.time_base)  # type: ignore[operator]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames]), sound.sample_rate, start


@pytest.mark.parametrize(
    ("rate", "codec", "taken", "name"),
    [
        (44_100, "libopus", 48_000, "out.mkv"),
        (8_000, "mp2", 16_000, "out.mkv"),
        (8_000, "ac3", 32_000, "out.mpg"),
        (22_050, "libopus", 24_000, "out.webm"),
    ],
)
def test_sound_gets_the_nearest_rate_that_its_encoder_takes(
    rate: int, codec: str, taken: int, name: str, tmp_path: Path
) -> None:
    source = media.write_clip(
        tmp_path / "in.mov", frames=30, sounds=[Sound(codec="pcm_s16le", rate=rate, seconds=1.2)]
    )
    video = EncoderSettings(codec="libvpx-vp9" if name.endswith("webm") else "libx264")
    said: list[str] = []
    restore(source, tmp_path / name, audio_codec=codec, encoder=video, say=said.append)
    assert f"audio stream 1 is resampled from {rate} to {taken} Hz: {codec} does not take {rate}" in said
    heard, got_rate, start = samples(tmp_path / name)
    assert got_rate in (taken, 48_000)  # Opus is always decoded at 48 kHz
    with av.open(str(tmp_path / name)) as container:
        shown = container.streams.video[0]
        # Program streams have no times below 0, where its delay lies: all is moved there.
        moved = float((shown.start_time or 0) * (shown.time_base or 0))
    assert len(heard) / got_rate + start - moved == pytest.approx(1.2, abs=0.1)
    spectrum = np.abs(np.fft.rfft(heard[: got_rate // 2]))
    wanted, *_ = samples(source)
    tone = np.argmax(np.abs(np.fft.rfft(wanted[: rate // 2])))
    assert abs(int(np.argmax(spectrum)) - int(tone)) <= 2  # both in steps of 2 Hz


@pytest.mark.parametrize(
    ("given", "encoder", "format"),
    [
        ("pcm_s16le", "wavpack", "s16p"),
        ("pcm_s16le", "alac", "s16p"),
        ("pcm_s24le", "flac", "s32"),
        ("aac", "flac", "s32"),
        ("aac", "wavpack", "fltp"),
    ],
)
def test_sound_keeps_its_depth_where_the_encoder_has_it(
    given: str, encoder: str, format: str, tmp_path: Path
) -> None:
    """The first format of the encoder's was taken: 8 bits for WavPack, 16 for FLAC."""
    source = media.write_clip(tmp_path / "in.mkv", sounds=[Sound(codec=given)])
    restore(source, tmp_path / "out.mkv", audio_codec=encoder)
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert container.streams.audio[0].codec_context.format.name == format
    if given != "aac":
        wanted, got = samples(source)[0], samples(tmp_path / "out.mkv")[0]
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize(
    "second",
    [
        Sound(codec="mp2", start=1.16, seconds=1.24),
        Sound(codec="mp2", start=1.2, seconds=1.2, layout="stereo"),
        Sound(codec="mp2", start=1.2, seconds=1.2, rate=44_100),
    ],
    ids=["a step back", "other channels", "another rate"],
)
def test_sound_that_changes_on_the_way(second: Sound, tmp_path: Path) -> None:
    """As broadcasts change, and recordings that were put together; found out when all frames were computed."""
    first = media.write_clip(tmp_path / "1.ts", frames=30, sounds=[Sound(codec="mp2", seconds=1.2)])
    later = [512 * (30 + i) for i in range(30)]
    media.write_clip(tmp_path / "2.ts", frames=30, times=later, sounds=[second])
    source = tmp_path / "in.ts"
    source.write_bytes(first.read_bytes() + (tmp_path / "2.ts").read_bytes())
    restore(source, tmp_path / "out.mkv", audio_codec="aac")
    heard, rate, _ = samples(tmp_path / "out.mkv")
    assert rate == 48_000
    assert len(heard) / rate == pytest.approx(2.4, abs=0.15)
    assert np.abs(heard[-rate // 2 : -rate // 10]).max() > 0.1  # of the second


@pytest.mark.parametrize(
    ("codec", "name", "cure"),
    [
        ("aac", "out.webm", "libopus"),
        ("aac", "out.mpg", "ac3"),
        ("aac", "out.vob", "ac3"),
        ("flac", "out.ts", "aac"),
    ],
)
def test_the_cure_is_an_encoder_that_the_container_holds(
    codec: str, name: str, cure: str, tmp_path: Path
) -> None:
    source = media.write_clip(tmp_path / "in.mkv", sounds=[Sound(codec=codec)])
    with pytest.raises(CarfixError, match=rf"audio stream 1 \({codec}\): .* encode it with -c:a {cure}$"):
        restore(source, tmp_path / name)
    webm = name.endswith("webm")
    video = EncoderSettings(codec="libvpx-vp9") if webm else EncoderSettings(preset="ultrafast")
    restore(source, tmp_path / name, audio_codec=cure, encoder=video)
    assert samples(tmp_path / name)[0].size


def test_a_container_without_such_sound_says_so_itself(tmp_path: Path) -> None:
    """In a log line that FFmpeg's error brings along."""
    source = media.write_clip(tmp_path / "in.mp4", sounds=[Sound()])
    words = "dv muxer supports only codec pcm_s16le for type audio"
    with pytest.raises(CarfixError, match=rf"dv cannot hold audio stream 1 \(aac\): {words}; write \.mkv"):
        restore(source, tmp_path / "out.dv")


@pytest.mark.parametrize(
    ("rate", "codec", "name", "why"),
    [
        (
            8_000,
            "libmp3lame",
            "out.flv",
            r"FLV does not support sample rate 8000.*\.mkv instead, or use -c:a aac",
        ),
        (44_100, "pcm_mulaw", "out.flv", r"it takes it at 8000 Hz.* use -c:a aac"),
        (48_000, "aac", "out.webm", r"'webm'.*\.mkv instead, or use -c:a libopus"),
        (48_000, "flac", "out.ts", r"may not be recognized.*\.mkv instead, or use -c:a aac"),
    ],
)
def test_encoded_sound_without_a_place_is_refused_before_work(
    rate: int, codec: str, name: str, why: str, tmp_path: Path
) -> None:
    """And called so, not taken for a fault of the video."""
    source = media.write_clip(tmp_path / "in.mov", sounds=[Sound(codec="pcm_s16le", rate=rate)])
    engine = Adding(0)
    with pytest.raises(CarfixError, match=rf"audio stream 1 cannot be encoded by {codec} for \w+: .*{why}"):
        restore(source, tmp_path / name, audio_codec=codec, model=engine)
    assert engine.planes == 0


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mp4"])
@pytest.mark.parametrize("piped", [False, True])
def test_sound_that_an_edit_list_hides_stays_hidden(suffix: str, piped: bool, tmp_path: Path) -> None:
    """A trimmed recording holds half a second of it: heard before the picture in Matroska, all else late in AVI."""
    source = media.write_clip(
        tmp_path / "in.mp4",
        codec="mpeg4",
        muxer={"avoid_negative_ts": "disabled", "movflags": "faststart"},
        sounds=[Sound(start=-0.5, seconds=1)],
    )
    output = tmp_path / f"out{suffix}"
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    shown = [bytes(packet) for packet in packets if not packet.is_discard]
    assert len(shown) < len(packets) - 20
    if piped:
        restore_pipe(
            source=io.BytesIO(source.read_bytes()), output=output, choice=EngineChoice(model=Adding(0))
        )
    else:
        restore(source, output)
    with av.open(str(output)) as container:
        got = [packet for packet in container.demux(audio=0) if packet.size]
    if suffix == ".mp4":
        assert [packet.is_discard for packet in got] == [packet.is_discard for packet in packets]
    else:  # the one of which the decoder has to know
        assert [bytes(packet) for packet in got][1:] == shown


@pytest.mark.parametrize("rate", [48_000, 44_100])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_sound_that_changes_or_overlaps_on_the_way_is_encoded(suffix: str, rate: int, tmp_path: Path) -> None:
    """A broadcast between two programmes, a recording joined of parts: it failed when all frames were computed."""
    parts = [
        media.write_clip(
            tmp_path / f"part{begin}.ts",
            times=[90_000 * begin + 3600 * i for i in range(12)],
            time_base=Fraction(1, 90_000),
            sounds=[Sound(codec="mp2", rate=rate, start=begin, seconds=1.1)],
            muxer={"mpegts_copyts": "1"},
        )
        for begin, rate in ((1, 48_000), (2, rate))
    ]
    (tmp_path / "in.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    output = tmp_path / f"out{suffix}"
    restore(tmp_path / "in.ts", output, audio_codec="aac")
    with av.open(str(output)) as container:
        frames = list(container.decode(audio=0))
        heard = [frame.pts * frame.time_base for frame in frames]  # type: ignore[operator]
    assert heard == sorted(heard)
    assert heard[0] < 1.01 and 3.03 < heard[-1] < 3.11
    assert all(np.abs(frame.to_ndarray()).max() > 0.1 for frame in frames[10:-10])


def test_dolby_sound_that_begins_within_a_packet(tmp_path: Path) -> None:
    """As in the second file of a DVD's title: MP4's muxer drops it without a word, and the check missed it."""
    clip = media.write_clip(
        tmp_path / "in.vob",
        codec="mpeg2video",
        frames=40,
        time_base=Fraction(1, 25),
        sounds=[Sound(codec="ac3", seconds=1.6)],
    ).read_bytes()
    source = tmp_path / "cut.vob"
    for cut in range(2048, len(clip) // 2, 2048):
        source.write_bytes(clip[cut:])
        with av.open(str(source)) as container:
            packets = [bytes(packet) for packet in container.demux(audio=0) if packet.size]
        if not packets[0].startswith(b"\x0b\x77"):
            break
    report = restore(source, tmp_path / "out.mp4")
    assert "1 damaged packets of sound and other streams were left out" in report.warnings
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [bytes(packet) for packet in container.demux(audio=0) if packet.size] == packets[1:]


def test_the_last_packet_of_nuts_sound_is_heard_in_mp4(tmp_path: Path) -> None:
    """NUT says of none how long it is. What had been restored was refused at the end, for its lack."""
    source = media.write_clip(tmp_path / "in.nut", sounds=[Sound(codec="libopus", seconds=0.5)])
    packets = []
    for path in (source, tmp_path / "out.mp4"):
        if path != source:
            restore(source, path)
        with av.open(str(path)) as container:
            packets.append([bytes(packet) for packet in container.demux(audio=0) if packet.size])
    assert packets[0] == packets[1]


def test_g722_is_kept_out_of_mov(tmp_path: Path) -> None:
    """MOV's muxer takes it and no one reads a byte of it back: a pipe lost it, a file failed when all was computed."""
    source = media.write_clip(tmp_path / "in.avi", sounds=[Sound(codec="g722", rate=16_000)])
    with pytest.raises(
        CarfixError, match=r"mov cannot hold audio stream 1 \(adpcm_g722\): .*\.mkv.*-c:a aac"
    ):
        restore(source, tmp_path / "out.mov", model="there is no such network")
    restore(source, tmp_path / "out.mkv")
    assert media.packets_digest(tmp_path / "out.mkv", 1) == media.packets_digest(source, 1)


@pytest.mark.parametrize("suffix", [".mov", ".nut"])
def test_windows_media_sound_is_kept_out_where_nobody_could_decode_it(suffix: str, tmp_path: Path) -> None:
    """It lay in the file, without the size of its blocks: all was silent."""
    source = tmp_path / "in.avi"
    restore(
        media.write_clip(tmp_path / "whole.mkv", sounds=[Sound()]),
        source,
        audio_codec="wmav2",
        audio_bitrate="64k",
    )
    with pytest.raises(
        CarfixError, match=r"nobody could decode it again; write \.mkv instead, or encode it with"
    ):
        restore(source, tmp_path / f"out{suffix}", model="there is no such network")
    restore(source, tmp_path / f"out{suffix}", audio_codec="aac")
    assert samples(tmp_path / f"out{suffix}")[0].size


def test_sound_that_begins_late_in_a_transport_stream_goes_along(tmp_path: Path) -> None:
    """FFmpeg looks seven seconds ahead for what sound it is, and it was left out."""
    sound = Sound(codec="mp2", start=10, seconds=1)
    source = media.write_clip(tmp_path / "in.ts", frames=275, sounds=[sound])
    report = restore(source, tmp_path / "out.mkv", segment_seconds=20)
    assert report.copied == (1,) and report.warnings == ()
    (one, rate_of_one, begin), (other, *_) = samples(tmp_path / "out.mkv"), samples(source)
    assert np.array_equal(one, other) and rate_of_one == 48_000
    assert begin - float(media.frame_times(tmp_path / "out.mkv")[0]) == pytest.approx(10, abs=0.1)


def test_encoded_sound_has_the_wanted_bit_rate(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mkv", sounds=[Sound(codec="pcm_s16le", seconds=1)])
    sizes = []
    for rate in ("32k", "160k"):
        output = tmp_path / f"{rate}.mp4"
        restore(source, output, audio_codec="aac", audio_bitrate=rate)
        with av.open(str(output)) as container:
            sizes.append(sum(packet.size for packet in container.demux(audio=0)))
    assert 2 * sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"audio_bitrate": "128k"}, "-b:a is for sound that is encoded"),
        ({"audio_codec": "none", "audio_bitrate": "128k"}, "-b:a is for sound that is encoded"),
        (
            {"audio_codec": "aac", "audio_bitrate": "fast"},
            "-b:a takes bits a second, such as 128k, not 'fast'",
        ),
    ],
)
def test_bit_rates_of_sound_that_cannot_be(options: dict[str, str], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=reason):
        restore(tmp_path / "in.mkv", tmp_path / "out.mkv", **options)


@pytest.mark.parametrize(
    ("suffix", "recorded", "encoder", "early"),
    [
        (".avi", "mp2", "copy", "3.0"),
        (".mov", "pcm_s16le", "copy", "3.0"),
        (".mov", "mp2", "pcm_s16le", "3.0"),
        (".mov", "aac", "copy", None),
        (".mkv", "pcm_s16le", "copy", None),
    ],
)
def test_pauses_that_a_container_cannot_say_of_sound_are_told(
    suffix: str, recorded: str, encoder: str, early: str | None, tmp_path: Path
) -> None:
    whole = media.write_clip(tmp_path / "whole.mkv", frames=120, sounds=[Sound(codec=recorded, seconds=1.5)])
    source = media.with_silence(whole, tmp_path / "in.mkv", after=700, ticks=3000)
    report = restore(source, tmp_path / f"out{suffix}", audio_codec=encoder)
    told = [line for line in report.warnings if "no pauses in such sound" in line]
    wanted = f"{suffix[1:]} has no pauses in such sound: behind them it comes up to {early} s early"
    assert [line.partition(";")[0] for line in told] == ([wanted] if early else [])


def test_pcm_in_a_program_stream_is_cut_anew(tmp_path: Path) -> None:
    """And gets three bytes before each packet. All frames were computed, and it failed, as DVDs' own did."""
    sound = Sound(codec="pcm_s16be", layout="stereo", seconds=1.11)
    source = media.write_clip(tmp_path / "in.mov", frames=28, sounds=[sound])
    encoder = EncoderSettings(codec="mpeg2video")
    restore(source, tmp_path / "out.vob", encoder=encoder)
    restore(tmp_path / "out.vob", tmp_path / "again.mpg", encoder=encoder)
    for name in ("out.vob", "again.mpg"):
        assert np.array_equal(samples(tmp_path / name)[0], samples(source)[0])


@pytest.mark.parametrize("encoder", ["ac3", "mp2"])
def test_sound_that_begins_before_0_leaves_a_transport_stream_its_length(
    encoder: str, tmp_path: Path
) -> None:
    """Two small frames were written before it, and readers took its beginning for the end of a clock of 26 hours."""
    source = media.write_clip(
        tmp_path / "in.avi",
        frames=50,
        time_base=1 / media.RATE,
        options={**media.X264, "bf": "0"},
        sounds=[Sound(codec="pcm_alaw", rate=8_000, seconds=2)],
        pictures=lambda index: media.picture(0),
    )
    output = tmp_path / "out.ts"
    quick = EncoderSettings(preset="ultrafast")
    report = restore(source, output, audio_codec=encoder, encoder=quick, segment_seconds=20)
    assert report.warnings == ()
    with av.open(str(output)) as container:
        assert container.duration < 3 * av.time_base
