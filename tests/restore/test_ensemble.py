"""The mean over orientations: of what, to which code, and whether it is worth its time."""

import itertools
from pathlib import Path

import media
import numpy as np
import pytest
import torch
from backends import FAST, cuda_engine, exact, fused_engine, picture
from engines import Adding, Late, Overlapped
from faults import ENCODER
from networks import awake_model
from skimage.metrics import peak_signal_noise_ratio as psnr

import carfix
import carfix.restore.engine.cuda_engine as cuda_module
from carfix.errors import CarfixError, UsageError
from carfix.net.catalog import load_model
from carfix.quality.reader import read_frames
from carfix.restore.engine import Engine, Planes, Strengths, Wanted, open_engine
from carfix.restore.engine.cuda_streams import Queues
from carfix.restore.engine.ensemble import in_orientations
from carfix.restore.engine.overlap import begin
from carfix.restore.models import EngineChoice

pytestmark = pytest.mark.usefixtures("one_torch_thread")

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("bits", [8, 10, 16])
def test_it_is_the_mean_of_what_the_network_makes_of_each(count: int, bits: int) -> None:
    model = awake_model(FAST)
    engine = in_orientations(fused_engine(model, None), count)
    codes = picture(32, 44, bits=bits)
    [h] = codes
    found = [exact(model, h, bits), exact(model, h.T, bits).T]
    if count == 4:
        found += [exact(model, h[:, ::-1], bits)[:, ::-1], exact(model, h.T[::-1], bits)[::-1].T]
    expected = np.clip(np.mean(np.clip(found, 0, 2**bits - 1), axis=0), 0, 2**bits - 1)
    restored = engine.restore(codes, bits)
    assert restored.dtype == codes.dtype
    assert np.abs(restored[0] - expected).max() <= (0.55 if bits < 16 else 1.5)
    engine.close()


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 16])
def test_codes_that_a_network_leaves_alone_stay(bits: int) -> None:
    codes = np.arange(1 << bits).astype(np.uint8 if bits == 8 else np.uint16).reshape(1, 16, -1)
    assert np.array_equal(in_orientations(Adding(0), 4).restore(codes, bits), codes)


def test_batches_under_way_and_shares_and_parts_give_what_whole_ones_do() -> None:
    inner = fused_engine(awake_model(FAST), 64)
    engine = in_orientations(inner, 2)
    codes = picture(60, 84, count=3)
    shares = np.array([0, 0.5, 1], np.float32)
    expected = engine.restore(codes, 8, shares)
    assert np.array_equal(expected[0], codes[0])
    moving = np.zeros((60, 84), np.uint8)
    moving[10:20, 50:70] = 1
    waits = [begin(engine, codes, 8, shares, [None, moving, None]), begin(engine, codes, 8, shares)]
    assert np.array_equal(waits[1](), expected)
    parts = waits[0]()
    assert np.array_equal(parts[::2], expected[::2])
    assert np.array_equal(parts[1][moving == 1], expected[1][moving == 1])
    engine.close()


def test_only_what_moves_is_asked_for_in_each_orientation() -> None:
    asked: list[tuple[int, ...]] = []

    class Selective(Overlapped):
        def submit_parts(
            self, planes: Planes, bit_depth: int, strengths: Strengths | None, wanted: list[Wanted | None]
        ) -> Late:
            asked.extend(tuple(map(int, np.argwhere(part)[0])) for part in wanted if part is not None)
            return self.submit(planes, bit_depth, strengths)

    moving = np.zeros((20, 30), np.uint8)
    moving[3, 7] = 1
    begin(in_orientations(Selective(1, batch=1, depth=2), 4), picture(20, 30), 8, None, [moving])()
    assert asked == [(3, 7), (7, 3), (3, 22), (22, 3)]


def test_an_engine_that_overlaps_goes_on_doing_so() -> None:
    engine = in_orientations(Overlapped(1, batch=2, depth=3), 2)
    assert (engine.depth, engine.batch) == (2, 2)  # type: ignore[attr-defined]
    assert in_orientations(Adding(0, batch=4), 2).depth == 1  # type: ignore[attr-defined]


def test_one_orientation_is_the_engine_itself() -> None:
    engine = Adding(0)
    assert in_orientations(engine, 1) is engine


@pytest.mark.parametrize("count", [0, 3, 8, -1])
def test_other_numbers_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match="--ensemble is 1, 2, 4, not"):
        EngineChoice(ensemble=count).check()
    with pytest.raises(UsageError, match="--ensemble is 1, 2, 4, not"):
        carfix.Restorer("tiny", device="cpu", ensemble=count)


def test_a_run_is_not_continued_with_another_number() -> None:
    alone, both = (EngineChoice(model="tiny", device="cpu", ensemble=count).fingerprint() for count in (1, 2))
    assert alone != both
    kind = alone[-1]
    assert EngineChoice(model="tiny", device="cpu", ensemble=2).continuing(both).kind == kind


def test_the_mean_is_nearer_to_the_pristine_picture() -> None:
    """On the sample clip, the more orientations, the more."""

    def frames(name: str) -> list[np.ndarray]:
        return [frame.luma for frame in itertools.islice(read_frames(DATA / name), 0, 21, 20)]

    pristine, decoded = frames("highway_pristine.mp4"), frames("highway.mp4")
    found = []
    for count in (1, 2, 4):
        engine: Engine = open_engine(load_model("tiny"), device="cpu", ensemble=count)
        restored = engine.restore(np.stack(decoded), 8)  # type: ignore[arg-type]
        found.append(np.mean([psnr(a, b) for a, b in zip(pristine, restored, strict=True)]))
        engine.close()
    assert found[0] + 0.01 < found[1] < found[2]


def test_a_restore_takes_the_mean(tmp_path: Path) -> None:
    source = media.write_clip(tmp_path / "in.mp4", frames=4)
    said: list[str] = []
    for count in (1, 2):
        carfix.restore_video(
            source=source,
            output=tmp_path / f"{count}.mkv",
            model="tiny",
            device="cpu",
            ensemble=count,
            strength=1.0,
            encoder=ENCODER,
            say=said.append,
        )
    one, two = ([f.luma for f in read_frames(tmp_path / f"{count}.mkv")] for count in (1, 2))
    assert len(one) == len(two) == 4
    assert not np.array_equal(one[0], two[0])
    assert [line for line in said if "mean of 2 orientations" in line]
    with pytest.raises(CarfixError, match="--ensemble"):
        carfix.restore_video(source=source, output=tmp_path / "3.mkv", ensemble=3)


@pytest.mark.parametrize("count", [2, 4])
def test_a_gpu_s_memory_is_made_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, ...]] = []
    slot = cuda_module._Slot

    def counted(queues: Queues, device: torch.device, shape: tuple[int, ...], dtype: torch.dtype) -> object:
        made.append(shape)
        return slot(queues, device, shape, dtype)

    monkeypatch.setattr(cuda_module, "_Slot", counted)
    engine = in_orientations(cuda_engine(awake_model(FAST)), count)
    for _ in range(3):
        engine.restore(picture(32, 44, count=2), 8)
    assert sorted(made) == [(2, 32, 44), (2, 44, 32)]
    engine.close()
