"""Text is written into clips of their own: pristine and encoded alike, beside the clips without."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scenes import write_scene

from carfix.errors import UsageError
from carfix.training.burn_in import Drawing, screen
from carfix.training.dataset import build_dataset
from carfix.training.encoding import Encoding, draw
from carfix.training.naming import split_of
from carfix.training.recipe import BuildReport, Recipe
from carfix.training.sources import read_video
from carfix.video.manifest import Clip, read_manifest

PLAIN = Recipe(encodings=[Encoding(crf=20)])
TEXT = Recipe(encodings=[Encoding(crf=20), Encoding(crf=20, over=48)], burn_in=True)


def build(folder: Path, *names: str, recipe: Recipe) -> BuildReport:
    return build_dataset(sources=[folder / name for name in names], output=folder / "data", recipe=recipe)


def clips(folder: Path) -> dict[str, Clip]:
    return dict(read_manifest(folder / "data").clips)


def frames_of(folder: Path, file: str) -> np.ndarray:
    return read_video(folder / "data" / file, size=None, start=0, frames=100)[0].astype(int)


def psnr(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((one - other) ** 2)[where].mean()))


def test_a_clip_with_text_stands_beside_the_one_without(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv", height=128, width=192, seed=1)
    build(tmp_path, "street.mkv", recipe=PLAIN)
    plain = clips(tmp_path)["street"]
    assert build(tmp_path, "street.mkv", recipe=TEXT).built == ["street-burn-in"]
    assert clips(tmp_path)["street"] == plain
    text = clips(tmp_path)["street-burn-in"]
    assert text.split == plain.split == split_of("street")
    assert text.settings["burn_in"] == 1
    assert "burn_in" not in plain.settings
    assert list(text.variants) == ["crf20", "crf20-over48"]
    without, pristine = frames_of(tmp_path, plain.pristine), frames_of(tmp_path, text.pristine)
    written = without != pristine
    assert 0.02 < written.mean() < 0.9
    # The text is what the encoder was given, and what the network is to leave: it is in both.
    encoded = frames_of(tmp_path, text.variants["crf20"].file)
    assert psnr(encoded, pristine, written) > psnr(encoded, without, written) + 10
    for recipe in (PLAIN, TEXT):
        assert build(tmp_path, "street.mkv", recipe=recipe).built == []


def test_text_over_a_coarse_picture_is_crisp(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv", height=128, width=192, seed=1)
    build(tmp_path, "street.mkv", recipe=PLAIN)
    build(tmp_path, "street.mkv", recipe=TEXT)
    text = clips(tmp_path)["street-burn-in"]
    pristine = frames_of(tmp_path, text.pristine)
    below = frames_of(tmp_path, clips(tmp_path)["street"].pristine) == pristine
    once, twice = (frames_of(tmp_path, text.variants[name].file) for name in ("crf20", "crf20-over48"))
    assert psnr(twice, pristine, below) < psnr(once, pristine, below) - 5
    assert psnr(twice, pristine, ~below) > psnr(twice, pristine, below) + 3
    assert text.variants["crf20-over48"].psnr < text.variants["crf20"].psnr
    assert text.variants["crf20-over48"].encoder["over"] == 48


def test_a_drawing_is_the_same_over_every_frame_but_for_the_clock() -> None:
    grounds = np.stack([np.full((240, 320), tone, np.uint8) for tone in (60, 60, 60, 61)])
    for seed in range(12):
        drawing = Drawing(np.random.default_rng(seed), 4)
        over = drawing.over(grounds)
        assert (over[0] != 60).mean() > 0.01
        assert np.array_equal(over, Drawing(np.random.default_rng(seed), 4).over(grounds))
        ink = [(plane != tone) for plane, tone in zip(over, (60, 60, 60, 61), strict=True)]
        changes = [float((one != other).mean()) for one, other in itertools.pairwise(ink)]
        assert sum(change > 0.002 for change in changes) <= 1, "at one frame, when a second is over"
    assert not np.array_equal(over, Drawing(np.random.default_rng(99), 4).over(grounds))


def test_a_screen_has_flat_parts() -> None:
    shown = [screen(np.random.default_rng(seed), 120, 200) for seed in range(8)]
    assert all(one.shape == (120, 200) and one.dtype == np.uint8 for one in shown)
    assert all((np.diff(one.astype(int), axis=0) == 0).mean() > 0.5 for one in shown)


def test_draws_for_clips_with_text_are_milder_and_some_exports() -> None:
    drawn = draw(90, "street-burn-in", burn_in=True)
    assert drawn[:3] == draw(3, "street-burn-in", burn_in=True)
    exports = [encoding for encoding in drawn if encoding.over is not None]
    assert 15 <= len(exports) <= 45
    assert all(encoding.crf < encoding.over for encoding in exports)
    h264 = [encoding.crf for encoding in drawn if encoding.codec == "libx264" and encoding.over is None]
    assert min(h264) < 23
    assert max(h264) > 40
    assert all(encoding.over is None for encoding in draw(60, "street"))


def test_names_of_the_two_kinds_do_not_meet(tmp_path: Path) -> None:
    """A file may be called what a clip with text is called."""
    write_scene(tmp_path / "street.mkv", seed=1)
    write_scene(tmp_path / "street-burn-in.mkv", seed=2)
    build(tmp_path, "street.mkv", recipe=TEXT)
    (other,) = build(tmp_path, "street-burn-in.mkv", recipe=PLAIN).built
    assert set(clips(tmp_path)) == {"street-burn-in", other}
    build(tmp_path, "street.mkv", recipe=PLAIN)
    before = clips(tmp_path)
    assert set(before) == {"street-burn-in", other, "street"}
    for recipe in (PLAIN, TEXT):
        report = build(tmp_path, "street.mkv", "street-burn-in.mkv", recipe=recipe)
        assert len(report.built) == (recipe is TEXT)
        assert report.dropped == {}
    after = clips(tmp_path)
    assert after.items() >= before.items()
    assert sorted("burn_in" in clip.settings for clip in after.values()) == [False, False, True, True]


def test_variants_of_two_drawings_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's fonts draw the text otherwise."""
    write_scene(tmp_path / "street.mkv", height=128, width=192, seed=1)
    build(tmp_path, "street.mkv", recipe=TEXT)
    more = Recipe(encodings=[Encoding(crf=30)], burn_in=True)
    assert build(tmp_path, "street.mkv", recipe=more).dropped == {}
    assert list(clips(tmp_path)["street-burn-in"].variants) == ["crf20", "crf20-over48", "crf30"]
    monkeypatch.setattr("carfix.training.burn_in._WORDS", ("OTHER",))
    report = build(tmp_path, "street.mkv", recipe=Recipe(encodings=[Encoding(crf=40)], burn_in=True))
    assert report.dropped == {"street-burn-in": ["crf20", "crf20-over48", "crf30"]}


def test_a_packed_corpus_has_no_text(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv")
    with pytest.raises(UsageError, match="--pack and --burn-in"):
        build(tmp_path, "street.mkv", recipe=Recipe(encodings=[], pack=12, burn_in=True))
