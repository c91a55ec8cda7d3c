"""Damaged files are compared as restore reads them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from av.codec.codec import codecs_available
from media import X264
from media import write_clip as write_media
from quality.clips import FRAMES, damage_packets, moving_picture, write_clip, write_model

from carfix.errors import CarfixError
from carfix.net.checkpoint import load_checkpoint
from carfix.quality import damage as damage_module
from carfix.quality.compare import compare_videos
from carfix.quality.compare_tables import (
    comparison_json,
    notes,
)
from carfix.quality.damage import Damage
from carfix.quality.methods import Filtered, Restored
from carfix.quality.reader import read_frames
from carfix.quality.spp import PostFilter
from carfix.restore.one_file import restore_video
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.scheduling import kept_scheduling


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Path, Path]:
    """A clip of short GOPs with a GOP that cannot be decoded, and one that ends in the middle of a packet."""
    whole = write_media(tmp_path / "whole.mp4", frames=24, muxer={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    return damage_packets(tmp_path / "hurt.mp4", whole, range(3, 8)), cut


@pytest.mark.parametrize("number", [0, 1], ids=["hurt", "cut"])
def test_damaged_files_are_compared_with_what_restore_makes_of_them(
    damaged: tuple[Path, Path], number: int, tmp_path: Path
) -> None:
    camera, restored = damaged[number], tmp_path / "restored.mkv"
    weights = str(write_model(tmp_path / "still.safetensors"))  # changes nothing
    restore_video(
        source=camera, output=restored, model=weights, device="cpu", encoder=EncoderSettings(codec="ffv1")
    )
    for reference, candidate in ((restored, camera), (camera, restored), (camera, camera)):
        comparison = compare_videos(reference=reference, candidates=[candidate])
        (result,) = comparison.results
        assert result.quality.identical == len(result.quality) == len(list(read_frames(restored)))
        told = [line for line in notes(comparison) if "could not be decoded" in line]
        assert len(told) == 1 and told[0].startswith(f"{camera.name}: ")  # once, not a candidate each
        document = comparison_json(comparison)
        assert document["reference"]["damaged_packets"] == result_damage(camera, reference)
        assert document["candidates"][0]["damaged_packets"] == result_damage(camera, candidate)


@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", {"crf": "10", "bf": "0"}), ("ffv1", {"level": "3", "slicecrc": "1"})]
)
def test_what_a_decoder_conceals_is_told(codec: str, options: dict[str, str], tmp_path: Path) -> None:
    """It costs decibels, and says nothing of the encoder that is to be measured."""
    whole = write_media(tmp_path / "whole.mkv", codec=codec, frames=8, options=options)
    hurt = damage_packets(tmp_path / "hurt.mkv", whole, [3], whole=False)
    comparison = compare_videos(reference=whole, candidates=[hurt])
    assert len(comparison.results[0].quality) == 8
    assert [
        line
        for line in notes(comparison)
        if line == f"{hurt.name}: something was concealed in 1 damaged frame"
    ]
    document = comparison_json(comparison)
    assert document["reference"]["concealed_frames"] == 0
    assert document["candidates"][0]["concealed_frames"] == 1


def test_damage_takes_the_same_frames_whoever_asks(tmp_path: Path) -> None:
    """AV1's decoder gave up others where no quantizers were asked for: `--no-reference --html` missed a frame."""
    if "libsvtav1" not in codecs_available:
        pytest.skip("this FFmpeg has no libsvtav1")
    options = {"crf": "40", "preset": "10", "svtav1-params": "keyint=8"}
    with kept_scheduling():  # as root it makes the thread that opens it a realtime one
        whole = write_clip(tmp_path / "whole.mkv", moving_picture(24), codec="libsvtav1", options=options)
    hurt = damage_packets(tmp_path / "hurt.mkv", whole, [9])
    found = []
    for quantizers in (False, True):
        damage = Damage()
        times = [frame.time for frame in read_frames(hurt, quantizers=quantizers, damage=damage)]
        found.append((times, damage.packets))
    assert found[0] == found[1] and found[0][1]


def result_damage(camera: Path, file: Path) -> int:
    return 0 if file != camera else {"hurt.mp4": 5, "cut.mp4": 1}[camera.name]


def test_methods_pass_over_damage_too(damaged: tuple[Path, Path], tmp_path: Path) -> None:
    network = Restored(load_checkpoint(write_model(tmp_path / "m.safetensors")), device="cpu")
    comparison = compare_videos(
        reference=damaged[0],
        candidates=[damaged[0]],
        methods=[network, Filtered(PostFilter(quantizer=20))],
        shortest=True,  # ffmpeg leaves out frames that come in the wrong order
    )
    counts = [len(result.quality) for result in comparison.results]
    assert counts[:2] == [18, 18] and counts[2] > 12
    assert sum("5 damaged packets" in line for line in notes(comparison)) == 1


def test_what_the_decoder_held_when_reading_failed_is_compared(
    reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressed = reference.with_name("held.mp4")
    write_clip(compressed, moving_picture(FRAMES), options={"bf": "3", "threads": "1"})

    def failing(container: av.container.InputContainer, *streams: av.stream.Stream) -> Iterator[av.Packet]:
        yield from itertools.islice(container.demux(*streams), FRAMES - 1)
        if container.name.endswith("held.mp4"):
            raise OSError(5, "Input/output error")
        yield from container.demux(*streams)

    monkeypatch.setattr(damage_module, "demux", failing)
    comparison = compare_videos(reference=reference, candidates=[compressed], shortest=True)
    assert len(comparison.results[0].quality) == FRAMES - 1
    assert any(
        "held.mp4: it could not be read to its end (Input/output error)" in n for n in notes(comparison)
    )


def test_a_file_of_which_no_frame_decodes_is_an_error(reference: Path, tmp_path: Path) -> None:
    whole = write_media(tmp_path / "whole.mp4", frames=4, options={**X264, "bf": "0"})
    broken = damage_packets(tmp_path / "broken.mp4", whole, range(4))
    with pytest.raises(CarfixError, match=r"broken\.mp4: not a single frame of its video could be decoded"):
        compare_videos(reference=reference, candidates=[broken])
