"""How much of a correction frames take: the curves that ship, and every engine's arithmetic."""

from collections.abc import Callable
from pathlib import Path

import media
import numpy as np
import pytest
from backends import (
    CAR_CNN,
    FAST,
    cuda_engine,
    fused_engine,
    ncnn_engine,
    picture,
    torch_engine,
    vulkan_engine,
)
from networks import awake_model, save_awake

from carfix.errors import UsageError
from carfix.net.catalog import installed, load_model
from carfix.net.checkpoint import Model, read_description
from carfix.net.config import Config
from carfix.quality.methods import Restored
from carfix.quality.reader import decode
from carfix.restore.engine import Engine
from carfix.restore.models import EngineChoice
from carfix.restore.one_file import restore_video
from carfix.restore.pipe import restore_pipe
from carfix.restore.strength import (
    Curve,
    Level,
    Strength,
    as_strengths,
    curves_from_json,
    curves_to_json,
    installed_curve,
    parse_strength,
    strength_of,
)
from carfix.video.encoder_settings import EncoderSettings
from carfix.video.quantizer import h264_quantizer

FFV1 = EncoderSettings(codec="ffv1")
TILE = 64  # several windows a frame


ENGINES: dict[str, Callable[[Model, int | None], Engine]] = {
    "torch": torch_engine,
    "fused": fused_engine,
    "ncnn": ncnn_engine,
    "vulkan": vulkan_engine,
    "cuda": cuda_engine,
}


def test_a_curve_is_linear_between_its_points_and_constant_outside() -> None:
    curve = Curve("", (10.0, 20.0), (0.5, 1.5))
    assert [curve.at(q) for q in (0, 10, 15, 20, 51)] == [0.5, 0.5, 1.0, 1.5, 1.5]
    assert curves_from_json(curves_to_json({"net": curve})) == {"net": curve}


def test_every_network_that_ships_has_its_curve() -> None:
    """Fine frames take less of a correction than coarse ones; a curve of other weights would not count."""
    for name, path in installed().items():
        curve = installed_curve(read_description(path).sha256)
        assert curve is not None, name
        assert curve.at(12) < curve.at(26) < curve.at(40) <= 2, name
        assert curve.at(12) < 0.8, name


def test_what_a_user_says_counts_more_than_a_curve() -> None:
    fast = load_model("fast").description.sha256
    assert strength_of(fast).curve is not None
    assert strength_of(fast, 0.25) == Strength(fixed=0.25)
    assert strength_of(awake_model(FAST).description.sha256) == Strength()
    assert parse_strength("auto") is None
    assert parse_strength("0.25") == 0.25
    for text in ("", "much", "-0.1", "2.1", "nan", "inf"):
        with pytest.raises(UsageError, match="--strength is auto or a number from 0 to 2"):
            parse_strength(text)


def test_whole_corrections_need_no_numbers() -> None:
    assert as_strengths([1.0, 1.0]) is None
    found = as_strengths([1.0, 0.5])
    assert found is not None and found.dtype == np.float32 and found.tolist() == [1.0, 0.5]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("config", [CAR_CNN, FAST], ids=str)
@pytest.mark.parametrize("bits", [8, 10])
def test_engines_move_each_plane_as_far_as_it_is_told(name: str, config: Config, bits: int) -> None:
    model = awake_model(config)
    codes = picture(97, 141, bits, count=5)
    engine = ENGINES[name](model, TILE)
    shares = np.array([0.0, 0.5, 1.0, 1.5, 0.25], dtype=np.float32)
    moved = engine.restore(codes, bits, shares)
    assert moved.dtype == codes.dtype and moved.shape == codes.shape
    assert np.array_equal(moved[0], codes[0])
    whole = engine.restore(codes, bits)
    assert np.array_equal(moved[2], whole[2])
    # The network's own result is known to half a code at most, which the share may enlarge.
    for plane, result, restored, share in zip(codes, moved, whole, shares, strict=True):
        wanted = plane + share * (restored.astype(float) - plane)
        inside = (restored > 0) & (restored < 2**bits - 1)
        off = np.abs(result - wanted.clip(0, 2**bits - 1))[inside]
        assert off.max() <= 0.5 + 0.5 * share + 0.01
    assert (np.abs(moved[1].astype(int) - codes[1]) > 0).mean() > 0.2  # the network does something


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_strength_0_gives_what_was_decoded_and_1_all(way: str, tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=5)
    weights = save_awake(tmp_path / "awake.safetensors")
    results = {}
    for share in (0.0, 0.5, 1.0, None):
        output = tmp_path / f"{share}.nut"
        if way == "file":
            restore_video(
                source=source, output=output, model=str(weights), device="cpu", strength=share, encoder=FFV1
            )
        else:
            choice = EngineChoice(model=str(weights), device="cpu", strength=share)
            restore_pipe(source=source, output=output, choice=choice, encoder=FFV1)
        results[share] = np.stack(media.planes(output)).astype(int)
    decoded = np.stack(media.planes(source)).astype(int)
    assert np.array_equal(results[0.0], decoded)
    assert np.array_equal(results[None], results[1.0])  # no curve comes with these weights
    half, whole = results[0.5] - decoded, results[1.0] - decoded
    assert np.abs(whole).mean() > 1
    assert np.abs(half - whole / 2).max() <= 1


def test_what_is_measured_is_what_is_restored(tmp_path: Path) -> None:
    """`compare` and `evaluate` read the same shares off the same quantizers."""
    options = {**media.X264, "crf": "14"}
    source = media.write_clip(tmp_path / "in.mp4", frames=6, width=96, height=64, options=options)
    lines: list[str] = []
    restore_video(
        source=source,
        output=tmp_path / "out.mkv",
        model="tiny",
        device="cpu",
        encoder=FFV1,
        say=lines.append,
    )
    assert lines[0].startswith("model tiny: ") and lines[0].endswith(", strength by quantizer")
    restore_video(
        source=source, output=tmp_path / "all.mkv", model="tiny", device="cpu", strength=1.0, encoder=FFV1
    )
    restored = np.stack(media.planes(tmp_path / "out.mkv"))
    for share, file in ((None, "out.mkv"), (1.0, "all.mkv")):
        method = Restored(load_model("tiny"), device="cpu", strength=share)
        measured = np.stack([frame.luma for frame in method.frames(source)])
        method.close()
        assert np.array_equal(measured, np.stack(media.planes(tmp_path / file)))
    assert not np.array_equal(restored, np.stack(media.planes(tmp_path / "all.mkv")))
    assert Restored(load_model("tiny")).identity != Restored(load_model("tiny"), strength=1.0).identity


def test_the_quantizer_is_a_running_mean_that_outlives_frames_which_tell_nothing(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=12, options={**media.X264, "crf": "24"})
    told = [frame for frame in decode(source, quantizers=True)]
    silent = next(decode(source))
    quantizers = [h264_quantizer(frame) for frame in told]
    level = Level()
    assert level(silent) is None
    found = [level(frame) for frame in told]
    assert found[0] == quantizers[0]
    for before, after, own in zip(found, found[1:], quantizers[1:], strict=False):
        assert before is not None and after is not None and own is not None
        assert after - before == pytest.approx((own - before) / 5)
    assert level(silent) == found[-1]
    assert Level()(told[-1]) == quantizers[-1]


def test_frames_that_nobody_asked_for_count_all_the_same(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=12, width=96, options={**media.X264, "crf": "20"})
    method = Restored(load_model("tiny"), device="cpu")
    whole = {frame.index: frame for frame in method.frames(source)}
    some = list(method.frames(source, wanted=(7, 9)))
    method.close()
    assert [frame.index for frame in some] == [7, 9]
    for frame in some:
        assert frame.strength == whole[frame.index].strength < 1
