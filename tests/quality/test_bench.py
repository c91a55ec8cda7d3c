import io
import itertools
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from engines import Adding
from networks import SMALL, awake_model
from quality.clips import moving_picture, write_clip, write_model
from rich.console import Console

from carfix.errors import CarfixError, MissingPartError, UsageError
from carfix.net.config import CarCnnConfig, Config, multiply_adds_per_pixel
from carfix.quality.bench import ceilings, peers, stages
from carfix.quality.bench.clip import (
    ENCODED_FRAMES,
    REPEATS,
    SAMPLE_FRAMES,
    Sample,
    batches,
    generate_clip,
    open_sample,
)
from carfix.quality.bench.results import BenchResult
from carfix.quality.bench.rounds import Rate
from carfix.quality.bench.run import bench
from carfix.quality.bench.tables import bench_tables, notes
from carfix.restore.engine import Engine, Planes, Strengths, open_engine
from carfix.restore.report import Report
from carfix.video.encoder_settings import EncoderSettings

DOCS = Path(__file__).resolve().parents[2] / "docs" / "bench.md"


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return open_sample(generate_clip(path, 96, 64), generated=True)


def test_the_made_up_clip_is_the_same_every_time_moves_and_has_artifacts(
    made_up: Sample, tmp_path: Path
) -> None:
    again = open_sample(generate_clip(tmp_path / "again.mp4", 96, 64))
    assert np.array_equal(np.stack(again.planes), np.stack(made_up.planes))
    assert made_up.total == ENCODED_FRAMES * REPEATS
    assert len(made_up.planes) == SAMPLE_FRAMES
    for before, after in itertools.pairwise(made_up.planes):
        assert not np.array_equal(before, after)
    # A pixel costs a tenth of a bit or so, not the bits that noise of this strength would cost without loss.
    bits = 8 * made_up.info.path.stat().st_size / made_up.total / (96 * 64)
    assert 0.01 < bits < 1
    with av.open(str(made_up.info.path)) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert len(times) == made_up.total and times == sorted(set(times))
    # What is repeated decodes to the same pictures.
    assert np.array_equal(made_up.planes[0], made_up.planes[ENCODED_FRAMES])


def test_a_clip_that_must_be_converted_is_refused_with_a_cure_that_bench_has(tmp_path: Path) -> None:
    rgb = write_clip(tmp_path / "rgb.mkv", moving_picture(2), codec="ffv1", pix_fmt="bgr0")
    with pytest.raises(CarfixError, match=r"rgb\.mkv: bench .* bgr0 .*: ffmpeg -i"):
        open_sample(rgb)


def test_batches_begin_again_where_the_sample_ends() -> None:
    planes = [np.full((2, 2), number, np.uint8) for number in range(3)]
    found = list(batches(planes, 5, 2))
    assert [batch[:, 0, 0].tolist() for batch in found] == [[0, 1], [2, 0], [1]]


def test_each_stage_does_what_it_is_asked_and_harms_nothing(made_up: Sample, tmp_path: Path) -> None:
    before = np.stack(made_up.planes).copy()
    engine = Adding(batch=3)
    starts: list[float] = []
    tasks = [
        stages.decoding(made_up),
        stages.reading_luma(made_up),
        stages.writing_luma(made_up),
        stages.inferring("inference", made_up, engine),
        stages.encoding("encode", made_up, None, tmp_path),
        stages.encoding("ultrafast", made_up, "ultrafast", tmp_path),
    ]
    for task in tasks:
        for count in (1, 50, 72):
            assert task.run(count).units == count, task.name
    assert engine.planes == 1 + 50 + 72
    # More than the clip has: from the beginning again.
    assert tasks[0].run(made_up.total + 5).units == made_up.total + 5
    restoring = stages.restoring("end to end", made_up, engine, None, starts)
    engine.planes = 0
    done = restoring.run(30)
    # The first frame belongs to what a restore starts with.
    assert engine.planes == 30 and done.units == 29
    assert done.seconds is not None and done.seconds > 0
    assert len(starts) == 1 and starts[0] > 0
    assert np.array_equal(np.stack([frame.to_ndarray()[:64] for frame in made_up.frames]), before)
    assert list(tmp_path.iterdir()) == []


class Overlapping(Adding):
    """Computes when the result is asked for, as an engine does whose device works on its own."""

    depth = 2

    def __init__(self) -> None:
        super().__init__(batch=3)
        self.under_way = self.most = 0

    def submit(
        self, planes: Planes, bit_depth: int, strengths: Strengths | None = None
    ) -> "Overlapping.Batch":
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return Overlapping.Batch(self, planes, bit_depth)

    class Batch:
        def __init__(self, engine: "Overlapping", planes: Planes, bit_depth: int) -> None:
            self._engine, self._planes, self._depth = engine, planes, bit_depth

        def result(self) -> Planes:
            self._engine.under_way -= 1
            return self._engine.restore(self._planes, self._depth)


def test_inference_keeps_a_gpu_busy_and_waits_for_every_batch(made_up: Sample) -> None:
    engine = Overlapping()
    assert stages.inferring("inference", made_up, engine).run(20).units == 20
    assert engine.planes == 20 and engine.under_way == 0
    assert engine.most == 2


@pytest.mark.parametrize("config", [SMALL, CarCnnConfig(features=8, blocks=1)], ids=str)
@pytest.mark.parametrize("bits", [8, 10])
def test_rivals_compute_the_same_pictures(config: Config, bits: int) -> None:
    model = awake_model(config)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**bits, (2, 99, 141)).astype(np.uint8 if bits == 8 else np.uint16)
    cell = config.scale
    padded = np.pad(codes, ((0, 0), (0, -99 % cell), (0, -141 % cell)), mode="edge")
    unit = torch.from_numpy(padded.astype(np.float32))[:, None] * (2 / (2**bits - 1)) - 1
    expected = ((model.net(unit)[:, 0, :99, :141].numpy() + 1) / 2 * (2**bits - 1)).clip(0, 2**bits - 1)
    rivals: list[Callable[[], peers.Restore]] = [
        lambda: peers.eager(model, "cpu", "fp32", 64),
        lambda: peers.eager(model, "cpu", "fp32", None),
    ]
    if _installed("onnx") and _installed("onnxruntime"):
        rivals.append(lambda: peers.onnxruntime(model, "cpu"))
    for build in rivals:
        restored = build()(codes, bits)
        assert restored.dtype == codes.dtype and restored.shape == codes.shape
        assert np.abs(restored - expected).max() <= 0.51  # of a code: rounding alone
    assert np.abs(expected - codes).mean() > 1


@pytest.mark.parametrize("quality", peers.SPP_QUALITIES)
def test_spp_tells_its_own_seconds(quality: int, made_up: Sample) -> None:
    done = peers.spp_peer(quality, made_up).run(20)
    assert done.units == 20
    assert done.seconds is not None and done.seconds > 0


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def test_operations_and_bytes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "CPU_SIDE", 64)
    monkeypatch.setattr(ceilings, "COPIED", 1 << 20)
    assert ceilings.matrix_product("cpu", "fp32").run(3).units == pytest.approx(3 * 2 * 64**3 / 1e12)
    # Read and written.
    assert ceilings.copy_bandwidth("cpu").run(5).units == pytest.approx(5 * 2 * (1 << 20) / 1e9)


@pytest.fixture
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "CPU_SIDE", 128)
    monkeypatch.setattr(ceilings, "COPIED", 1 << 20)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", moving_picture(12), options={"crf": "35", "threads": "1"})


def run(clip: Path, *models: Path) -> BenchResult:
    names = [str(model) for model in models]
    return bench(clip=clip, models=names, device="cpu", precision="fp32", seconds=0.05)


def test_a_bench_puts_its_numbers_in_relation(clip: Path, tmp_path: Path, small_ceilings: None) -> None:
    weights = write_model(tmp_path / "tiny.safetensors")
    result = run(clip, weights)
    (model,) = result.models
    document = result.to_json()
    assert (result.clip.width, result.clip.height, result.clip.frames) == (96, 64, 12)
    assert result.clip.path == str(clip)
    assert set(result.stages) == {"decode", "read_luma", "write_luma", "encode", "encode_ultrafast"}
    # FastConfig(scale=2, features=4, blocks=1): four convolutions 4->4 on cells of 2x2 pixels.
    assert model.multiply_adds_per_pixel == 4 * 4 * 4 * 9 / 4
    inference = document["models"][0]["inference"]
    frames = inference["frames_per_second"]["median"]
    assert inference["megapixels_per_second"]["median"] == pytest.approx(frames * 96 * 64 / 1e6)
    assert inference["tflops"]["median"] == pytest.approx(frames * 96 * 64 * 2 * 144 / 1e12)
    share = Rate(model.inference.values).over(Rate(result.products["fp32"].values)) * 96 * 64 * 2 * 144 / 1e12
    assert inference["ceiling_share"] == pytest.approx(share)
    whole = model.end_to_end
    assert whole is not None and whole.start_seconds > 0
    parts = {name: result.stages[name] for name in ("decode", "encode")} | {"inference": model.inference}
    assert parts[whole.slowest].median == min(part.median for part in parts.values())
    assert whole.of_slowest == pytest.approx(whole.rate.over(parts[whole.slowest]))
    assert whole.of_inference == pytest.approx(whole.rate.over(model.inference))
    assert whole.of_sequence > whole.of_slowest  # one after another is slower than any stage alone
    for peer in model.peers:
        assert peer.speedup == pytest.approx(model.inference.over(peer.rate))
    names = [peer.name for peer in model.peers]
    assert names[0] == "eager PyTorch fp32, windows 256"
    assert {"FFmpeg spp, quality 3", "FFmpeg spp, quality 6"} <= set(names)
    assert all(math.isfinite(value) for value in _numbers(document))


def test_integers_are_told_and_held_against_the_product_that_torch_has(
    clip: Path, tmp_path: Path, small_ceilings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def integers(*arguments: Any, **options: Any) -> Engine:  # noqa: ANN401
        engine = open_engine(*arguments, **options)
        engine.description = (
            "winograd on cpu, 2 threads, int16 (fastest here: 9 megapixels a second, torch fp32 3)"
        )
        return engine

    monkeypatch.setattr("carfix.quality.bench.run.open_engine", integers)
    result = run(clip, write_model(tmp_path / "tiny.safetensors"))
    (model,) = result.to_json()["models"]
    assert model["precision"] == "int16"
    assert model["inference"]["ceiling"] == "fp32"
    assert model["inference"]["ceiling_share"] > 0
    assert list(result.products) == ["fp32"]


def test_a_preset_is_the_encoders_in_the_stage_and_in_the_restore(
    clip: Path, tmp_path: Path, small_ceilings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    restore = stages.restore_video

    def watched(*, encoder: EncoderSettings, **options: Any) -> Report:  # noqa: ANN401
        seen.append(encoder.preset)
        return restore(encoder=encoder, **options)

    monkeypatch.setattr(stages, "restore_video", watched)
    weights = str(write_model(tmp_path / "tiny.safetensors"))
    options: dict[str, Any] = {"clip": clip, "models": [weights], "device": "cpu", "seconds": 0.05}
    result = bench(**options, preset="veryfast")
    assert set(seen) == {"veryfast"}
    assert result.to_json()["settings"]["preset"] == "veryfast"
    assert result.to_json()["settings"]["hwaccel"] == "none"
    with pytest.raises(CarfixError, match="nosuch"):
        bench(**options, preset="nosuch")
    with pytest.raises(UsageError, match="--hwaccel is none, auto"):
        bench(**options, hwaccel="nosuch")


def _numbers(document: object) -> list[float]:
    if isinstance(document, dict):
        return [number for value in document.values() for number in _numbers(value)]
    if isinstance(document, list):
        return [number for value in document for number in _numbers(value)]
    return [document] if isinstance(document, int | float) else []


def test_what_is_missing_is_left_out_with_its_reason(
    tmp_path: Path, small_ceilings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    mjpeg = write_clip(tmp_path / "clip.avi", moving_picture(6), codec="mjpeg", pix_fmt="yuvj420p")
    one, two = (write_model(tmp_path / f"{name}.safetensors", name) for name in ("one", "two"))
    result = run(mjpeg, one, two)
    assert [model.name for model in result.models] == ["one", "two"]
    # FFmpeg's decoder exports no quantizers for MJPEG.
    assert "left every frame" in result.left_out["FFmpeg spp, quality 3"]
    for weights in (one, two):
        assert "pip install onnxruntime" in result.left_out[f"{weights}: onnxruntime fp32"]
    assert [peer.name for peer in result.models[1].peers] == ["eager PyTorch fp32, windows 256"]
    text = "\n".join(notes(result))
    assert "left out: FFmpeg spp, quality 6: " in text and result.machine.cpu in text
    assert result.to_json()["left_out"][0].keys() == {"name", "reason"}


def test_the_tables_fit_80_columns(clip: Path, tmp_path: Path, small_ceilings: None) -> None:
    result = run(clip, write_model(tmp_path / "tiny.safetensors"))
    console = Console(file=io.StringIO(), width=80, record=True)
    for table in bench_tables(result):
        console.print(table)
    text = console.export_text()
    for word in ("decode", "read luma", "encode ultrafast", "TFLOP/s", "GB/s", "end to end", "the engine is"):
        assert word in text
    assert "…" not in text


def test_every_field_of_the_json_is_documented(clip: Path, tmp_path: Path, small_ceilings: None) -> None:
    def keys(document: object) -> set[str]:
        if isinstance(document, dict):
            return set(document) | {key for value in document.values() for key in keys(value)}
        return {key for value in document for key in keys(value)} if isinstance(document, list) else set()

    document = run(clip, write_model(tmp_path / "tiny.safetensors")).to_json()
    document["machine"].pop("versions")  # keys are packages
    documented = set(re.findall(r'"(\w+)"', DOCS.read_text()))
    assert keys(document) - documented == set()


def test_values_that_cannot_be_right(clip: Path, tmp_path: Path) -> None:
    weights = write_model(tmp_path / "tiny.safetensors")
    with pytest.raises(UsageError, match="--seconds must be positive"):
        bench(clip=clip, models=[str(weights)], seconds=0)
    for size in ((15, 64), (97, 64), (64, -2)):
        with pytest.raises(UsageError, match="even and at least 16x16"):
            bench(size=size, models=[str(weights)])
    with pytest.raises(CarfixError, match="no such file"):
        run(tmp_path / "missing.mp4", weights)
    with pytest.raises(CarfixError, match="no model called"):
        run(clip, Path("nosuch"))
    if not torch.cuda.is_available():
        with pytest.raises(MissingPartError, match="CUDA"):
            bench(clip=clip, models=[str(weights)], device="cuda")


def test_the_cost_that_is_reported_is_the_networks(made_up: Sample) -> None:
    assert multiply_adds_per_pixel(SMALL) == 9 * (16 * 8 + 8 * 8 * 2 + 8 * 16) / 16
