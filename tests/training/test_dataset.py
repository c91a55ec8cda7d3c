import dataclasses
import errno
import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import write_clip
from scenes import save_png, scene, write_scene

from carfix.errors import CarfixError, UsageError
from carfix.lock import alone_in
from carfix.training import places
from carfix.training.dataset import build_dataset
from carfix.training.encoding import Encoding
from carfix.training.naming import split_of
from carfix.training.recipe import BuildReport, Recipe
from carfix.training.sources import read_video
from carfix.video.manifest import read_manifest

TWO = [Encoding(crf=30, maxrate=2_000_000), Encoding(crf=45)]


def build(folder: Path, *names: str, recipe: Recipe | None = None) -> BuildReport:
    sources = [folder / name for name in names]
    return build_dataset(sources=sources, output=folder / "data", recipe=recipe or Recipe(encodings=TWO))


def stamps(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted((folder / "data" / "clips").rglob("*.m??"))}


def test_a_dataset_describes_itself_and_is_only_extended(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv", seed=1)
    report = build(tmp_path, "street.mkv")
    assert (report.built, report.kept, report.failed) == (["street"], [], {})
    clip = read_manifest(tmp_path / "data").clips["street"]
    assert (clip.frames, clip.width, clip.height, clip.fps, clip.still) == (6, 96, 64, "25", False)
    assert list(clip.variants) == ["crf30-2000k", "crf45"]
    good, bad = clip.variants.values()
    assert good.psnr > bad.psnr > 15
    assert 1 > good.ssim > bad.ssim > 0
    assert (tmp_path / "data" / good.file).stat().st_size == good.bytes

    before = stamps(tmp_path)
    write_scene(tmp_path / "yard.mkv", seed=2)
    report = build(tmp_path, "street.mkv", "yard.mkv")
    assert (report.built, report.kept) == (["yard"], ["street"])
    assert stamps(tmp_path).items() >= before.items()
    assert read_manifest(tmp_path / "data").clips["street"] == clip

    more = Recipe(encodings=[*TWO, Encoding(crf=50)])
    build(tmp_path, "street.mkv", recipe=more)
    assert set(read_manifest(tmp_path / "data").clips["street"].variants) == {"crf30-2000k", "crf45", "crf50"}

    (tmp_path / "data" / bad.file).unlink()
    assert build(tmp_path, "street.mkv").built == ["street"]
    assert (tmp_path / "data" / bad.file).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
@pytest.mark.parametrize("pack", [None, 12])
def test_two_builds_do_not_share_a_folder(tmp_path: Path, pack: int | None) -> None:
    """The manifest of the one would lack what the other has built."""
    write_scene(tmp_path / "street.mkv", seed=1)
    (tmp_path / "data").mkdir()
    recipe = Recipe(encodings=TWO, pack=pack)
    with alone_in(tmp_path / "data"), pytest.raises(CarfixError, match="another carfix is at work in"):
        build(tmp_path, "street.mkv", recipe=recipe)
    assert build(tmp_path, "street.mkv", recipe=recipe).built == ["street"]


def test_what_another_build_made_meanwhile_is_not_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(tmp_path / "street.mkv", seed=1)
    write_scene(tmp_path / "yard.mkv", seed=2)

    def meanwhile(folder: Path) -> None:
        places.make_folder(folder)
        monkeypatch.undo()
        build(tmp_path, "yard.mkv")

    monkeypatch.setattr("carfix.training.dataset.make_folder", meanwhile)
    with pytest.raises(CarfixError, match="run the command again"):
        build(tmp_path, "street.mkv")
    build(tmp_path, "street.mkv")
    assert set(read_manifest(tmp_path / "data").clips) == {"street", "yard"}


def test_another_source_of_the_same_name_is_built_anew(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv", seed=1)
    build(tmp_path, "street.mkv")
    first = read_manifest(tmp_path / "data").clips["street"]
    write_scene(tmp_path / "street.mkv", seed=3)
    assert build(tmp_path, "street.mkv").built == ["street"]
    assert read_manifest(tmp_path / "data").clips["street"].variants != first.variants


def test_variants_of_another_cut_are_told_of_as_they_go(tmp_path: Path) -> None:
    """A dataset may be days of work: another length takes all of a clip's variants, asked for or not."""
    write_scene(tmp_path / "street.mkv", seed=1)
    assert build(tmp_path, "street.mkv").dropped == {}
    one = Recipe(encodings=TWO[1:])
    assert build(tmp_path, "street.mkv", recipe=one).dropped == {}
    shorter = dataclasses.replace(one, frames=4)
    assert build(tmp_path, "street.mkv", recipe=shorter).dropped == {"street": ["crf30-2000k"]}
    assert list(read_manifest(tmp_path / "data").clips["street"].variants) == ["crf45"]


def test_a_broken_source_is_named_and_the_rest_is_built(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv")
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    report = build(tmp_path, "broken.mp4", "street.mkv")
    assert report.built == ["street"]
    assert list(report.failed) == [str(tmp_path / "broken.mp4")]
    assert list(read_manifest(tmp_path / "data").clips) == ["street"]


def test_a_clip_too_small_to_measure_is_left_out_and_the_rest_is_built(tmp_path: Path) -> None:
    write_scene(tmp_path / "tiny.mkv", height=8, width=8)
    write_scene(tmp_path / "street.mkv")
    report = build(tmp_path, "tiny.mkv", "street.mkv")
    assert report.built == ["street"]
    assert "8x8; SSIM" in report.failed[str(tmp_path / "tiny.mkv")]
    write_scene(tmp_path / "wide.mkv", height=16, width=640)
    report = build(tmp_path, "wide.mkv", "street.mkv", recipe=Recipe(encodings=TWO, size=(64, -2)))
    assert report.built == ["street"]
    assert "64x2; SSIM" in report.failed[str(tmp_path / "wide.mkv")]
    assert [path.name for path in (tmp_path / "data" / "clips").iterdir()] == ["street"]


def test_other_options_for_the_encoder_make_a_variant_anew(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv", seed=1)
    build(tmp_path, "street.mkv")
    scaled = read_manifest(tmp_path / "data").clips["street"].variants
    whole = Recipe(encodings=TWO, scale_caps=False)
    assert build(tmp_path, "street.mkv", recipe=whole).built == ["street"]
    variants = read_manifest(tmp_path / "data").clips["street"].variants
    assert variants["crf30-2000k"].encoder["options"]["maxrate"] == "2000000"
    assert variants["crf45"] == scaled["crf45"], "which has no cap"
    assert build(tmp_path, "street.mkv", recipe=whole).kept == ["street"]
    assert build(tmp_path, "street.mkv").built == ["street"]
    assert read_manifest(tmp_path / "data").clips["street"].variants.keys() == scaled.keys()


@pytest.mark.parametrize(
    ("encoding", "reason"),
    [
        (Encoding(crf=29, preset="hasty"), "no preset 'hasty'; it has ultrafast"),
        (Encoding(crf=29, profile="lowest"), "no profile 'lowest'; it has baseline"),
        (Encoding(crf=0, profile="baseline"), "libx264 refuses the settings crf0-baseline"),
        (Encoding(crf=-5), "a CRF is 0 to 51"),
        (Encoding(crf=52), "a CRF is 0 to 51"),
    ],
)
def test_encodings_that_no_clip_can_have_are_refused_at_once(
    tmp_path: Path, encoding: Encoding, reason: str
) -> None:
    write_scene(tmp_path / "street.mkv")
    with pytest.raises(UsageError, match=reason):
        build(tmp_path, "street.mkv", recipe=Recipe(encodings=[*TWO, encoding]))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1, "carfix": "1"}'])
def test_a_damaged_manifest_is_to_be_moved_away_and_then_all_is_built(tmp_path: Path, text: str) -> None:
    write_scene(tmp_path / "street.mkv")
    build(tmp_path, "street.mkv")
    manifest = tmp_path / "data" / "manifest.json"
    manifest.write_text(text)
    with pytest.raises(CarfixError, match=r"manifest\.json .*delete it or move it away") as refused:
        build(tmp_path, "street.mkv")
    assert "build the dataset again" not in str(refused.value)
    assert manifest.read_text() == text
    manifest.unlink()
    assert build(tmp_path, "street.mkv").built == ["street"]
    manifest.write_text('{"format": 99, "clips": {}, "carfix": "9"}')
    with pytest.raises(CarfixError, match="update carfix"):
        build(tmp_path, "street.mkv")


def test_the_split_depends_on_the_name_alone(tmp_path: Path) -> None:
    names = [f"clip{number}" for number in range(1000)]
    counts = {split: sum(split_of(name) == split for name in names) for split in ("train", "val", "test")}
    assert 750 < counts["train"] < 850
    assert 70 < counts["val"] < 130
    write_scene(tmp_path / "street.mkv")
    recipe = Recipe(encodings=TWO, split="test")
    build(tmp_path, "street.mkv", recipe=recipe)
    assert [clip.name for clip in read_manifest(tmp_path / "data").select("test")] == ["street"]


def test_recipes_and_folders_that_cannot_be_right(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv")
    with pytest.raises(UsageError, match="at least one encoding"):
        build(tmp_path, "street.mkv", recipe=Recipe(encodings=[]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CarfixError, match="no video"):
        build(tmp_path, "empty")
    (tmp_path / "data").write_text("a file where a folder belongs")
    with pytest.raises(CarfixError, match="cannot make the folder"):
        build(tmp_path, "street.mkv")


def test_a_packed_corpus_is_small_and_builds_the_same_dataset(tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv", frames=12, seed=1, height=240, width=320)
    (tmp_path / "photos").mkdir()
    save_png(tmp_path / "photos" / "tree.png", scene(1, 160, 200)[0])
    pack = Recipe(encodings=[], pack=12, stills=True, licence="MIT", split="val")
    sources = [tmp_path / "street.mkv", tmp_path / "photos"]
    report = build_dataset(sources=sources, output=tmp_path / "corpus", recipe=pack)
    assert (sorted(report.built), report.failed) == (["street", "tree"], {})
    assert build_dataset(sources=sources, output=tmp_path / "corpus", recipe=pack).kept == ["street", "tree"]
    silent = dataclasses.replace(pack, licence="")  # which takes no licence away
    assert build_dataset(sources=sources, output=tmp_path / "corpus", recipe=silent).kept == [
        "street",
        "tree",
    ]
    finer = dataclasses.replace(pack, pack=6)
    assert build_dataset(sources=sources, output=tmp_path / "finer", recipe=finer).built

    direct, packed = Recipe(encodings=TWO, stills=True), Recipe(encodings=TWO)  # what was packed knows itself
    build_dataset(sources=sources, output=tmp_path / "direct", recipe=direct)
    build_dataset(sources=[tmp_path / "corpus"], output=tmp_path / "data", recipe=packed)
    clips = read_manifest(tmp_path / "data").clips
    assert {(clip.name, clip.split, clip.licence, clip.still) for clip in clips.values()} == {
        ("street", "val", "MIT", False), ("tree", "val", "MIT", True),
    }  # fmt: skip
    for name, clip in clips.items():
        lossless = read_manifest(tmp_path / "direct").clips[name]
        assert (clip.frames, clip.width, clip.height, clip.fps) == (
            lossless.frames, lossless.width, lossless.height, lossless.fps,
        )  # fmt: skip
        planes, truth = (
            read_video(tmp_path / folder / found.pristine, size=None, start=0, frames=99)[0].astype(int)
            for folder, found in (("data", clip), ("direct", lossless))
        )
        assert 10 * np.log10(255**2 / np.square(planes - truth).mean()) > 40
    # (against the lossless file: FFV1 of noise, the hardest there is)
    size = {name: (tmp_path / name).stat().st_size for name in ("street.mkv", "corpus/street.mkv")}
    assert size["corpus/street.mkv"] < size["street.mkv"] / 2


@pytest.mark.parametrize("pack", [None, 12])
def test_a_folder_that_may_not_be_read_costs_no_other_source(
    pack: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every disk of Linux has one: lost+found."""
    write_scene(tmp_path / "disk" / "street.mkv", seed=1)
    (tmp_path / "disk" / "lost+found").mkdir()
    real = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder.name == "lost+found":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    report = build(tmp_path, "disk", recipe=Recipe(encodings=TWO, pack=pack))
    assert report.built == ["street"]
    ((source, reason),) = report.failed.items()
    assert source.endswith("lost+found") and reason.endswith("lost+found cannot be read: Permission denied")


@pytest.mark.parametrize("damage", [{"licence": 1}, {"split": "validation"}, {"settings": None}])
def test_damaged_notes_of_a_corpus_are_named(tmp_path: Path, damage: dict[str, object]) -> None:
    """And not taken over: no manifest could be read again that has such a split."""
    write_scene(tmp_path / "corpus" / "street.mkv", seed=1)
    note = {"source": "a.mkv", "source_sha256": "1a", "settings": {}, "licence": "", "split": None}
    (tmp_path / "corpus" / "corpus.json").write_text(json.dumps({"street.mkv": note | damage}))
    report = build(tmp_path, "corpus")
    assert "corpus.json is damaged" in next(iter(report.failed.values()))
    write_scene(tmp_path / "yard.mkv", seed=2)
    pack = Recipe(encodings=[], pack=12)
    with pytest.raises(CarfixError, match=r"corpus\.json is damaged: .*correct that"):
        build_dataset(sources=[tmp_path / "yard.mkv"], output=tmp_path / "corpus", recipe=pack)


def test_what_was_measured_stays_measured_when_variants_are_added(tmp_path: Path) -> None:
    """A pristine file that is written again counts as changed: hours of an evaluation are done once more."""
    write_scene(tmp_path / "street.mkv", seed=1)
    build(tmp_path, "street.mkv")
    before = stamps(tmp_path)
    build(tmp_path, "street.mkv", recipe=Recipe(encodings=[*TWO, Encoding(crf=50)]))
    assert len(stamps(tmp_path)) == len(before) + 1
    assert stamps(tmp_path).items() >= before.items()


@pytest.mark.parametrize("further", [[], [Encoding(crf=50)]])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_pristine_file_that_is_spoilt_is_made_again(
    tmp_path: Path, damage: str, further: list[Encoding]
) -> None:
    """As `evaluate` and `train` tell: build the dataset again."""
    write_scene(tmp_path / "street.mkv", seed=1)
    build(tmp_path, "street.mkv")
    pristine = tmp_path / "data" / read_manifest(tmp_path / "data").clips["street"].pristine
    whole = read_video(pristine, size=None, start=0, frames=9)[0]
    if damage == "gone":
        pristine.unlink()
    else:
        pristine.write_bytes(pristine.read_bytes()[: pristine.stat().st_size // 2])
    before = read_manifest(tmp_path / "data").clips["street"].variants
    assert build(tmp_path, "street.mkv", recipe=Recipe(encodings=[*TWO, *further])).built == ["street"]
    assert np.array_equal(read_video(pristine, size=None, start=0, frames=9)[0], whole)
    assert read_manifest(tmp_path / "data").clips["street"].variants.items() >= before.items()


def test_variants_that_are_added_are_of_the_pristine_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another version may read or scale the source otherwise: none is measured against pictures it is not of."""
    write_scene(tmp_path / "street.mkv", seed=1)
    build(tmp_path, "street.mkv")
    before = read_manifest(tmp_path / "data").clips["street"]
    monkeypatch.setattr(
        "carfix.training.clip._frames", lambda *_: (scene(6, seed=1) + np.uint8(9), Fraction(25))
    )
    report = build(tmp_path, "street.mkv", recipe=Recipe(encodings=[Encoding(crf=10)]))
    assert report.dropped == {}
    clip = read_manifest(tmp_path / "data").clips["street"]
    assert clip.variants.items() >= before.variants.items()
    (shown,) = read_video(tmp_path / "data" / clip.variants["crf10"].file, size=None, start=0, frames=1)[0]
    assert np.abs(shown.astype(int) - scene(6, seed=1)[0]).mean() < 3


def test_damaged_sources_are_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(bytes(range(256)) * 16)
    save_png(tmp_path / "cut.png", scene(1)[0])
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:100])
    (tmp_path / "empty.jpg").touch()
    report = build(tmp_path, "noise.mp4", "cut.png", "empty.jpg")
    assert len(report.failed) == 3
    assert not any("Errno" in why for why in report.failed.values()), report.failed


@pytest.mark.parametrize("pack", [None, 12])
@pytest.mark.parametrize(
    ("codec", "options"), [("libx264", {"crf": "10", "bf": "0"}), ("ffv1", {"level": "3", "slicecrc": "1"})]
)
def test_clips_with_damaged_frames_are_named(
    codec: str, options: dict[str, str], pack: int | None, tmp_path: Path
) -> None:
    """A network would learn what the decoder has put there, and `evaluate` measure against it."""
    write_scene(tmp_path / "street.mkv", seed=1)
    write_clip(tmp_path / "whole.mkv", codec=codec, frames=8, options=options)
    data = bytearray((tmp_path / "whole.mkv").read_bytes())
    with av.open(str(tmp_path / "whole.mkv")) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][3]
    assert packet.pos is not None
    middle = packet.pos + packet.size // 2
    data[middle : middle + 9] = bytes(9)
    (tmp_path / "damaged.mkv").write_bytes(data)
    recipe = Recipe(encodings=TWO, pack=pack)
    names = ["street.mkv", "whole.mkv", "damaged.mkv"]
    assert build(tmp_path, *names, recipe=recipe).damaged == ["damaged"]
    assert build(tmp_path, *names, recipe=recipe).damaged == []


@pytest.mark.parametrize("pack", [None, 20])
def test_interlaced_clips_are_named(pack: int | None, tmp_path: Path) -> None:
    write_scene(tmp_path / "street.mkv", seed=1)
    write_clip(tmp_path / "fields.mkv", frames=4, interlaced=True)
    recipe = Recipe(encodings=[Encoding(crf=45)], pack=pack)
    assert build(tmp_path, "street.mkv", "fields.mkv", recipe=recipe).interlaced == ["fields"]
    assert build(tmp_path, "street.mkv", "fields.mkv", recipe=recipe).interlaced == []


def test_the_licence_note_stays_unless_another_is_given(tmp_path: Path) -> None:
    """It ends in what weights say of themselves."""

    def note(recipe: Recipe) -> str:
        build(tmp_path, "street.mkv", recipe=recipe)
        return read_manifest(tmp_path / "data").clips["street"].licence

    write_scene(tmp_path / "street.mkv", seed=1)
    assert note(Recipe(encodings=TWO, licence="CC0")) == "CC0"
    assert note(Recipe(encodings=TWO)) == "CC0"
    assert note(Recipe(encodings=[*TWO, Encoding(crf=50)])) == "CC0"
    assert note(Recipe(encodings=TWO, frames=4)) == "CC0"
    assert note(Recipe(encodings=TWO, frames=4, licence="MIT")) == "MIT"
    write_scene(tmp_path / "street.mkv", seed=2)
    assert note(Recipe(encodings=TWO)) == "", "of another source nothing is known"
