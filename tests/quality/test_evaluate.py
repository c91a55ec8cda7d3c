import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from quality.clips import luma_of_file, write_clip, write_dataset, write_model
from rich.console import Console

from carfix.errors import CarfixError, UsageError
from carfix.net.checkpoint import load_checkpoint
from carfix.quality import evaluate, tables
from carfix.quality.evaluate import evaluate_dataset
from carfix.quality.evaluation import Evaluation, Measurement
from carfix.quality.methods import Restored
from carfix.quality.metrics import measure
from carfix.quality.reader import LumaFrame, Wanted, read_frames, select
from carfix.quality.spp import PostFilter
from carfix.video.manifest import read_manifest


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


class Brighter:
    """A method that adds `step` codes to the decoded luma."""

    def __init__(self, name: str = "brighter", step: int = 1) -> None:
        self.name = name
        self.identity = f"{name} {step}"
        self.step = step

    def frames(self, path: Path, wanted: Wanted = None) -> Iterator[LumaFrame]:
        for frame in select(read_frames(path), wanted):
            luma = np.minimum(frame.luma, 255 - self.step) + np.uint8(self.step)
            yield dataclasses.replace(frame, luma=luma)


def test_decoded_equals_a_direct_measurement(dataset: Path) -> None:
    evaluation = evaluate_dataset(dataset=dataset, cache=False)
    clips = read_manifest(dataset).clips
    assert set(evaluation.cells) == {"decoded"}
    for variant in ("crf29-none", "crf41-none"):
        expected = []
        for clip in clips.values():
            quality = measure(
                luma_of_file(dataset / clip.pristine), luma_of_file(dataset / clip.variants[variant].file)
            )
            cell = evaluation.cells["decoded"][variant][clip.name]
            assert cell.frames == 5
            assert cell.psnr == pytest.approx(quality.psnr.mean(), abs=1e-9)
            assert cell.ssim == pytest.approx(quality.ssim.mean(), abs=1e-6)
            expected.append(quality.psnr.mean())
        pooled = evaluation.pooled("decoded", variant)
        assert pooled is not None
        assert pooled.psnr == pytest.approx(np.mean(expected))
    assert evaluation.mean("decoded")[0] == pytest.approx(
        np.mean([evaluation.pooled("decoded", name).psnr for name in evaluation.variants()])  # type: ignore[union-attr]
    )


def test_spp_best_is_the_best_of_the_quantizers_tried(dataset: Path) -> None:
    evaluation = evaluate_dataset(dataset=dataset, spp=PostFilter(), spp_best=PostFilter(), cache=False)
    assert list(evaluation.cells) == ["decoded", "spp", "spp-best"]
    for variant in evaluation.variants():
        best = evaluation.best_quantizers[variant]
        scores = {}
        for quantizer in (best - 1, best, best + 1):
            if quantizer >= 1:
                fixed = evaluate_dataset(
                    dataset=dataset, spp=PostFilter(quantizer=quantizer), variants=[variant], cache=False
                )
                scores[quantizer] = fixed.pooled(f"spp-qp{quantizer}", variant).psnr  # type: ignore[union-attr]
        chosen = evaluation.pooled("spp-best", variant)
        assert chosen is not None
        assert scores[best] == pytest.approx(chosen.psnr)
        decoded = evaluation.pooled("decoded", variant)
        assert decoded is not None and chosen.psnr != decoded.psnr


def test_a_network_is_measured_on_its_restored_frames(dataset: Path, tmp_path: Path) -> None:
    # A bias of four codes: what the network does to every pixel is known.
    path = write_model(tmp_path / "shift.safetensors", "shift", bias=4 * 2 / 255)
    method = Restored(load_checkpoint(path), device="cpu")
    evaluation = evaluate_dataset(dataset=dataset, models=[method], cache=False)
    by_hand = evaluate_dataset(dataset=dataset, models=[Brighter(step=4)], cache=False)
    for variant in evaluation.variants():
        got, expected = evaluation.pooled("shift", variant), by_hand.pooled("brighter", variant)
        assert got is not None and expected is not None
        assert got.psnr == pytest.approx(expected.psnr, abs=0.01)
    assert evaluation.mean("shift")[0] < evaluation.mean("decoded")[0]


def test_a_rerun_computes_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=1)
    calls: list[str] = []
    real = evaluate._measure

    def counting(method: evaluate.Method, unit: evaluate._Unit, *rest: object) -> Measurement:
        calls.append(f"{method.name} {unit.variant.name}")
        return real(method, unit, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate, "_measure", counting)
    first = evaluate_dataset(dataset=dataset, models=[Brighter()])
    assert len(calls) == 4
    again = evaluate_dataset(dataset=dataset, models=[Brighter()])
    assert len(calls) == 4
    assert tables.evaluation_json(again) == tables.evaluation_json(first)
    # A changed model, then a changed file, then another number of frames.
    evaluate_dataset(dataset=dataset, models=[Brighter(step=2)])
    assert calls[4:] == ["brighter crf29-none", "brighter crf41-none"]
    changed = dataset / "clips/clip0/crf41-none.mp4"
    changed.write_bytes((dataset / "clips/clip0/crf29-none.mp4").read_bytes())
    evaluate_dataset(dataset=dataset, models=[Brighter()])
    assert calls[6:] == ["decoded crf41-none", "brighter crf41-none"]
    evaluate_dataset(dataset=dataset, frames=2)
    assert calls[8:] == ["decoded crf29-none", "decoded crf41-none"]
    # A cache that was cut off in the middle of a line loses that line alone.
    cache = dataset / "evaluate-cache.jsonl"
    cache.write_bytes(cache.read_bytes()[:-10])
    evaluate_dataset(dataset=dataset, frames=2)
    assert calls[10:] == ["decoded crf41-none"]
    # And what was measured then is found the next time: it did not go on with the half line.
    evaluate_dataset(dataset=dataset, frames=2)
    assert len(calls) == 11


@pytest.mark.parametrize(
    "change",
    [
        lambda value: {**value, "vmaf": 90.0},
        lambda value: {"psnr": value["psnr"]},
        lambda value: {**value, "psnr": "high"},
        lambda value: [],
    ],
    ids=["another field", "fields missing", "no number", "no record"],
)
def test_records_that_another_version_wrote_are_measured_again(
    change: Callable[[dict[str, object]], object], tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=1, crfs=(29,))
    first = evaluate_dataset(dataset=dataset)
    cache = dataset / "evaluate-cache.jsonl"
    records = [json.loads(line) for line in cache.read_text().splitlines()]
    lines = [json.dumps({**record, "value": change(record["value"])}) for record in records]
    cache.write_text("\n".join(lines) + "\n")
    again = evaluate_dataset(dataset=dataset)
    assert tables.evaluation_json(again) == tables.evaluation_json(first)
    assert len(cache.read_text().splitlines()) == 2 * len(records)


def test_a_cache_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=1, crfs=(29,))
    (dataset / "evaluate-cache.jsonl").mkdir()
    with pytest.raises(CarfixError, match=r"cannot read .*evaluate-cache\.jsonl.*--no-cache"):
        evaluate_dataset(dataset=dataset)
    assert evaluate_dataset(dataset=dataset, cache=False).cells["decoded"]


def test_names_are_shown_letter_by_letter(dataset: Path) -> None:
    name = "[red]x:smile:[/b]"
    evaluation = evaluate_dataset(dataset=dataset, models=[Brighter(name)], cache=False)
    console = Console(width=200)
    with console.capture() as capture:
        tables.print_evaluation(evaluation, console)
    assert capture.get().count(name) == 3


def test_progress_ends_at_its_total(dataset: Path) -> None:
    seen: list[tuple[int, int]] = []
    evaluate_dataset(
        dataset=dataset,
        spp=PostFilter(),
        spp_best=PostFilter(),
        models=[Brighter()],
        cache=False,
        progress=lambda done, total, detail: seen.append((done, total)),
    )
    assert seen[-1][0] == seen[-1][1] > 0
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_smallest_gain_names_clip_and_variant() -> None:
    def cell(psnr: float) -> Measurement:
        return Measurement(
            frames=1, psnr=psnr, ssim=0.9, identical=0, static_pixels=0, flicker=None, pristine_flicker=None
        )

    evaluation = Evaluation(dataset={"variants": ["a", "b"]})
    evaluation.cells["decoded"] = {"a": {"x": cell(30), "y": cell(31)}, "b": {"x": cell(32)}}
    evaluation.cells["model"] = {"a": {"x": cell(31), "y": cell(30.75)}, "b": {"x": cell(33)}}
    assert evaluation.smallest_gain("model") == (-0.25, "y", "a")
    assert evaluation.flicker("model") == (None, None)


def test_files_that_spp_cannot_filter_are_left_out_of_its_row_alone(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=2, crfs=(29,))
    # The second clip as MJPEG, whose decoder exports no quantizers.
    planes = luma_of_file(dataset / "clips/clip1/pristine.mkv")
    mjpeg = write_clip(tmp_path / "m.mov", planes, codec="mjpeg", pix_fmt="yuvj420p")
    (dataset / "clips/clip1/crf29-none.mp4").write_bytes(mjpeg.read_bytes())
    evaluation = evaluate_dataset(
        dataset=dataset, spp=PostFilter(), spp_best=PostFilter(), models=[Brighter()], cache=False
    )
    assert evaluation.unfiltered == [("clip1", "crf29-none")]
    assert set(evaluation.cells["spp"]["crf29-none"]) == {"clip0"}
    assert set(evaluation.cells["spp-best"]["crf29-none"]) == {"clip0", "clip1"}
    cells = {name: variants["crf29-none"]["clip0"].psnr for name, variants in evaluation.cells.items()}
    gain = evaluation.gain("brighter", "spp")
    assert gain is not None and gain[0] == pytest.approx(cells["brighter"] - cells["spp"])
    assert any("clip1 crf29-none" in note for note in tables.notes(evaluation))
    json.dumps(tables.evaluation_json(evaluation))
    # Where nothing can be filtered there is no row.
    (dataset / "clips/clip0/crf29-none.mp4").write_bytes(mjpeg.read_bytes())
    evaluation = evaluate_dataset(dataset=dataset, spp=PostFilter(), cache=False)
    assert list(evaluation.cells) == ["decoded"]
    assert len(evaluation.unfiltered) == 2


def test_flat_pictures_that_spp_leaves_as_they_are_do_not_end_the_search(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=2, crfs=(29,))
    flat = np.full_like(luma_of_file(dataset / "clips/clip1/pristine.mkv"), 90)
    write_clip(dataset / "clips/clip1/pristine.mkv", flat, codec="ffv1", pix_fmt="gray")
    write_clip(dataset / "clips/clip1/crf29-none.mp4", flat)
    evaluation = evaluate_dataset(dataset=dataset, spp=PostFilter(), spp_best=PostFilter(), cache=False)
    best, decoded = evaluation.cells["spp-best"]["crf29-none"], evaluation.cells["decoded"]["crf29-none"]
    assert best["clip1"] == decoded["clip1"]
    assert best["clip0"] != decoded["clip0"]


def test_json_follows_the_documented_schema(dataset: Path) -> None:
    evaluation = evaluate_dataset(
        dataset=dataset, models=[Brighter()], spp=PostFilter(), spp_best=PostFilter()
    )
    document = json.loads(json.dumps(tables.evaluation_json(evaluation)))
    assert set(document) == {"methods", "dataset", "carfix"}
    assert list(document["methods"]) == ["decoded", "spp", "spp-best", "brighter"]
    for name, method in document["methods"].items():
        assert set(method["variants"]) == {"crf29-none", "crf41-none"}
        for variant in method["variants"].values():
            assert variant["frames"] == 10
            assert 10 < variant["psnr"] < 60 and 0 < variant["ssim"] < 1
        assert method["mean"]["psnr"] == pytest.approx(
            np.mean([variant["psnr"] for variant in method["variants"].values()])
        )
        assert set(method["clips"]) == {"clip0", "clip1"}
        assert method["flicker"]["pristine"] == 0  # the static half is exactly static
        assert ("decoded" in method["gain"]) == (name != "decoded")
    best = document["methods"]["spp-best"]
    assert best["gain"]["spp"]["psnr"] == pytest.approx(
        best["mean"]["psnr"] - document["methods"]["spp"]["mean"]["psnr"]
    )
    assert best["variants"]["crf29-none"]["quantizer"] >= 1


def test_tables_hold_every_number_in_each_form(dataset: Path) -> None:
    evaluation = evaluate_dataset(dataset=dataset, models=[Brighter()])
    mean = f"{evaluation.mean('brighter')[0]:.2f}"
    gain = f"{evaluation.mean('brighter')[0] - evaluation.mean('decoded')[0]:+.2f}"
    for width in (40, 200):
        console = Console(width=width, record=True, file=None, quiet=False)
        with console.capture() as capture:
            tables.print_evaluation(evaluation, console)
        assert mean in capture.get() and gain in capture.get()
    markdown = tables.evaluation_markdown(evaluation)
    assert f"| {mean} |" in markdown and "| brighter |" in markdown
    rows = tables.evaluation_csv(evaluation).splitlines()
    assert rows[0].startswith("method,variant,clip,frames,psnr,ssim")
    assert len(rows) == 1 + 2 * 2 * 2


def test_what_cannot_be_evaluated_is_one_clear_error(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(CarfixError, match=r"not a dataset.*carfix dataset"):
        evaluate_dataset(dataset=tmp_path)
    with pytest.raises(CarfixError, match="no clip in the split 'test'"):
        evaluate_dataset(dataset=dataset, split="test")
    with pytest.raises(CarfixError, match=r"no variant 'crf1'.*crf29-none"):
        evaluate_dataset(dataset=dataset, variants=["crf1"])
    with pytest.raises(UsageError, match="same name"):
        evaluate_dataset(dataset=dataset, models=[Brighter(), Brighter()])


def test_a_variant_with_frames_missing_is_an_error(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", clips=1, crfs=(29,))
    other = write_dataset(tmp_path / "other", clips=1, frames=4, crfs=(29,))
    file = "clips/clip0/crf29-none.mp4"
    (dataset / file).write_bytes((other / file).read_bytes())
    with pytest.raises(CarfixError, match=r"crf29-none.mp4.*number of frames"):
        evaluate_dataset(dataset=dataset)
