"""Which files a command means, and where each of them goes."""

import os
from pathlib import Path

import pytest

import carfix.restore.tasks
from carfix.errors import CarfixError, UsageError
from carfix.restore.place import tells_case
from carfix.restore.tasks import plan_tasks
from carfix.video.source import probe


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    for name in (
        "a.mp4",
        "b.MKV",
        "notes.txt",
        "2024/c.ts",
        "2024/.hidden.mp4",
        "2024/deep/d.264",
        ".x.carfix/s.mp4",
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def outputs(tree: Path, output: Path, **options: object) -> set[str]:
    tasks = plan_tasks([tree], output, recursive=True, **options)  # type: ignore[arg-type]
    return {task.output.relative_to(output).as_posix() for task in tasks}


def test_one_file_into_a_file(tmp_path: Path) -> None:
    (task,) = plan_tasks([tmp_path / "in.mp4"], tmp_path / "out.mkv")
    assert (task.source, task.output) == (tmp_path / "in.mp4", tmp_path / "out.mkv")


def test_files_into_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (task,) = plan_tasks([tmp_path / "in.mp4"], tmp_path / "out")
    assert task.output == tmp_path / "out" / "in.mp4"
    tasks = plan_tasks([tmp_path / "a.mp4", tmp_path / "b.avi"], tmp_path / "new")
    assert [task.output.name for task in tasks] == ["a.mp4", "b.avi"]


def test_the_tree_is_mirrored(tree: Path, tmp_path: Path) -> None:
    """Raw streams, which hold no times, become Matroska."""
    assert outputs(tree, tmp_path / "out") == {"a.mp4", "b.MKV", "2024/c.ts", "2024/deep/d.mkv"}


def test_containers_that_cannot_hold_the_video_become_matroska(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.wmv", "b.WEBM", "c.ogv", "d.mxf", "e.avi", "f.flv", "g.mpg", "h.m4v", "i.3gp"):
        (folder / name).touch()
    outputs_of = {
        codec: {
            task.output.name for task in plan_tasks([folder], tmp_path / "out", recursive=True, codec=codec)
        }
        for codec in ("libx264", "libx265", "libvpx-vp9", "mpeg2video")
    }
    kept = {
        codec: {name for name in found if not name.endswith(".mkv")} for codec, found in outputs_of.items()
    }
    assert kept == {
        "libx264": {"e.avi", "f.flv", "h.m4v", "i.3gp"},
        "libx265": {"f.flv"},
        "libvpx-vp9": {"b.WEBM", "e.avi", "f.flv"},
        "mpeg2video": {"e.avi", "g.mpg"},
    }
    assert all(len(found) == 9 for found in outputs_of.values())


@pytest.mark.parametrize("name", ["a.divx", "a.rec", "a", "a.m3u8"])
def test_a_suffix_that_is_no_container_becomes_matroska(name: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).touch()
    assert outputs(tmp_path / "in", tmp_path / "out", include=["*"]) == {"a.mkv"}


@pytest.mark.parametrize(
    ("format", "suffix"),
    [("matroska", "mkv"), ("mkv", "mkv"), ("ts", "ts"), ("y4m", "y4m"), ("nut", "nut"), ("mpeg", "mpeg")],
)
def test_a_format_gives_its_usual_suffix(format: str, suffix: str, tree: Path, tmp_path: Path) -> None:
    found = outputs(tree, tmp_path / "out", format=format)
    assert found == {f"{name}.{suffix}" for name in ("a", "b", "2024/c", "2024/deep/d")}


def test_files_that_would_share_a_new_name_keep_their_suffixes(tmp_path: Path) -> None:
    for name in ("a.wmv", "a.mkv", "b.264", "b.265", "c.wmv"):
        (tmp_path / name).touch()
    assert outputs(tmp_path, tmp_path / "out") == {"a.wmv.mkv", "a.mkv", "b.264.mkv", "b.265.mkv", "c.mkv"}
    assert outputs(tmp_path, tmp_path / "out", format="nut") == {
        *("a.wmv.nut", "a.mkv.nut", "b.264.nut", "b.265.nut", "c.nut"),
    }


def test_an_output_inside_the_input_is_not_input(tree: Path) -> None:
    (tree / "restored").mkdir()
    (tree / "restored" / "a.mp4").touch()
    assert outputs(tree, tree / "restored") == {"a.mp4", "b.MKV", "2024/c.ts", "2024/deep/d.mkv"}


def test_include_and_exclude(tree: Path, tmp_path: Path) -> None:
    assert outputs(tree, tmp_path / "out", include=["*.mp4"]) == {"a.mp4"}
    assert outputs(tree, tmp_path / "out", exclude=["2024/*"]) == {"a.mp4", "b.MKV"}
    assert outputs(tree, tmp_path / "out", include=["*.ts", "*.txt"]) == {"2024/c.ts", "notes.mkv"}
    assert outputs(tree, tmp_path / "out", format="matroska") == {
        "a.mkv",
        "b.mkv",
        "2024/c.mkv",
        "2024/deep/d.mkv",
    }


def test_mistakes(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="-r restores the videos in it"):
        plan_tasks([tree], tmp_path / "out")
    with pytest.raises(UsageError, match=r"a\.mp4 and .*a\.mp4 would both become"):
        plan_tasks([tree / "a.mp4", tree / "2024" / "a.mp4"], tmp_path / "out")
    with pytest.raises(UsageError, match="must be a folder"):
        plan_tasks([tree / "a.mp4", tree / "b.MKV"], tree / "notes.txt")
    with pytest.raises(UsageError, match=r"several inputs go into a folder.*out\.mp4 is called as a video"):
        plan_tasks([tree / "a.mp4", tree / "b.MKV"], tmp_path / "out.mp4")
    (tmp_path / "out.mp4").mkdir()
    assert len(plan_tasks([tree / "a.mp4", tree / "b.MKV"], tmp_path / "out.mp4")) == 2
    with pytest.raises(UsageError, match="no video found"):
        plan_tasks([tree], tmp_path / "out", recursive=True, include=["*.gif"])


@pytest.mark.parametrize("told", [True, False])
def test_names_that_differ_in_capitals_alone(
    told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS, on Windows and on most USB disks the second one would take the first one's place."""
    monkeypatch.setattr(carfix.restore.tasks, "tells_case", lambda folder: told)
    sources = [tmp_path / "one" / "Cam.mp4", tmp_path / "other" / "cam.mp4"]
    if told:
        assert len(plan_tasks(sources, tmp_path / "out")) == 2
    else:
        with pytest.raises(UsageError, match=r"Cam\.mp4 and .*cam\.mp4 would both become .*: its disk takes"):
            plan_tasks(sources, tmp_path / "out")


@pytest.mark.parametrize("name", ["", "not/there/yet"])
def test_whether_a_disk_tells_capitals_is_tried(name: str, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert tells_case(tmp_path / name) is not (tmp_path / "A").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A disk that is not mounted: neither the output's name nor --min-age is what is wrong."""
    with pytest.raises(CarfixError, match=r"cannot read .*archive: No such file"):
        plan_tasks([tmp_path / "archive"], tmp_path / "restored", recursive=True)


def test_no_file_goes_into_itself(tree: Path) -> None:
    with pytest.raises(UsageError, match="the same file"):
        plan_tasks([tree], tree, recursive=True)
    with pytest.raises(UsageError, match="the same file"):
        plan_tasks([tree / "2024" / "c.ts", tree / "a.mp4"], tree)


def test_a_folder_that_may_not_be_read_is_not_passed_over(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tree / "2024"
    look = os.scandir

    def guarded(path: str) -> object:
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(os, "scandir", guarded)
    tasks = plan_tasks([tree], tmp_path / "out", recursive=True)
    assert {task.source for task in tasks} == {tree / "a.mp4", tree / "b.MKV", locked}
    for pattern in ("2024", "2024/*", "20*"):
        tasks = plan_tasks([tree], tmp_path / "out", recursive=True, exclude=[pattern])
        assert {task.source for task in tasks} == {tree / "a.mp4", tree / "b.MKV"}


def test_folders_of_one_name_that_may_not_be_read_are_failures_and_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every disk with ext4 has its lost+found, which is root's."""
    look = os.scandir

    def guarded(path: str) -> object:
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    disks = [tmp_path / name for name in ("one", "other")]
    for disk in disks:
        (disk / "lost+found").mkdir(parents=True)
        (disk / f"{disk.name}.mp4").touch()
    monkeypatch.setattr(os, "scandir", guarded)
    tasks = plan_tasks(disks, tmp_path / "out", recursive=True)
    assert len({task.source for task in tasks}) == 4


def test_an_output_whose_links_lead_in_a_circle_is_told(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").touch()
    try:
        (tmp_path / "out").symlink_to("out")
    except OSError:
        pytest.skip("links may not be made here")
    (task,) = plan_tasks([tmp_path / "in"], tmp_path / "out", recursive=True)
    assert task.output == tmp_path / "out" / "a.mp4"


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("Windows has no named pipes among files")
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(CarfixError, match="is not a file; what comes through a pipe is read from -"):
        probe(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="is a folder"):
        probe(tmp_path)
