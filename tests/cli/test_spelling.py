"""Options as FFmpeg's users type them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from carfix.cli import app as program
from carfix.errors import EXIT_USAGE, CarfixError


def refusal(line: str) -> str:
    """What a command says that does not begin."""
    program._load_commands()
    error = CliRunner().invoke(program.app, line.split()).exception
    assert isinstance(error, CarfixError), error
    assert error.exit_code == EXIT_USAGE
    return str(error)


#: What parsers take for a cluster of letters, and what the line must name.
NOT_HERE = {
    "-an": "-c:a none",
    "-map 0": "all streams are kept",
    "-map_metadata 0": "kept",
    "-metadata title=x": "kept",
    "-vf scale=640:-2": "in a pipe",
    "-filter:v scale=640:-2": "in a pipe",
    "-threads 4": "-x threads=VALUE",
    "-x264-params keyint=60": "-x x264-params=VALUE",
    "-profile:v high": "-x profile=VALUE",
    "-slices 24": "-x slices=VALUE",
    "-color_primaries bt709": "-x color_primaries=VALUE",
    "-forced-idr 1": "-x forced-idr=VALUE",
    "-multipass fullres": "-x multipass=VALUE",
    "-flags +cgop": "-x flags=VALUE",
    "-muxrate 2M": "-c copy",
    "-hls_time 6": "cuts it up",
    "-fpsmax 30": "keeps its time",
    "-probesize 100M": "leave it out",
    "-xerror": "--strict",
    "-progress -": "--log-json",
    "-c copy": "-c:v",
    "-codec:v:0 libx265": "it is -c:v",
    "-ar 48000": "-c:a ENCODER",
    "-b:a:0 128k": "-b:a for sound",
    "-b:v:0 2M": "it is -b:v,",
    "-vcodec libx265": "it is -c:v",
    "-vsync 0": "keeps its time",
    "-loglevel error": "-q",
    "-s 640x360": "size",
    "-qp 20": "-x qp=20",
    "-model fast": "it is --model",
    "-recursive": "it is --recursive",
    "-strict": "--strict counts damage",
    "-strict -2": "-x strict=VALUE",
    "-tag:v hvc1": "hvc1",
    "-tune:v film": "it is -tune",
    "-crf:v 20": "it is -crf",
    "-r:v 25": "keeps its time",
    "-re": "read once",
    "-thread_queue_size 512": "leave it out",
    "-max_muxing_queue_size 999": "leave it out",
    "-max_error_rate 1": "is it -maxrate?",
    "-ticks 3": "carfix restore -h",
    "-trellis 2": "-x trellis=VALUE",
    "-jobs=2": "it is --jobs",
    "-presets slow": "is it -preset?",
    "-zzz": "carfix restore -h",
}


@pytest.mark.parametrize("option", NOT_HERE)
def test_a_word_of_ffmpegs_is_refused_as_a_whole(option: str) -> None:
    text = refusal(f"restore in.mp4 out.mp4 {option}")
    assert text.startswith(f"no such option: {option.partition(' ')[0].partition('=')[0]}; "), text
    assert NOT_HERE[option] in text


def test_options_of_both_programs_that_mean_something_else() -> None:
    assert "-r walks folders here" in refusal("restore in.mp4 -r 25 out.mp4")
    assert "takes no level" in refusal("restore -v error in.mp4 out.mp4")
    assert "takes no level" in refusal("restore -v 16 in.mp4 out.mp4")
    assert "it is -crf 20" in refusal("restore -q 20 in.mp4 out.mp4")


def test_a_level_of_ffmpegs_brings_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["carfix", "restore", "-v", "quiet", "in.mp4", "out.mp4"])
    with pytest.raises(SystemExit):
        program.run()
    told = capsys.readouterr().err
    assert "takes no level" in told and "Traceback" not in told


def test_a_folder_that_is_called_like_a_rate_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2024").mkdir()
    program._load_commands()
    result = CliRunner().invoke(program.app, ["restore", "-r", "2024", "restored"])
    assert "frame rate" not in str(result.exception)


@pytest.mark.parametrize(
    "line",
    [
        "-hide_banner -nostdin -i in.mp4 out.mp4",
        "-qy in.mp4 out.mp4",
        "in.mp4 out.mp4 -t5 -fmp4 -mfast -g25 -t.5",
        "in.mp4 out.mp4 -mruns/my_net/my_net.safetensors -xbf=2",
        "in.mp4 out.mp4 -ym fast",
        "-m -map in.mp4 out.mp4",  # a value
        "-y -- -map -an",
    ],
)
def test_what_is_taken(line: str) -> None:
    assert refusal(f"restore --progress zap {line}").startswith("--progress is ")


@pytest.mark.parametrize("line", ["in.mp4 out.mp4", "-y in.mp4 out.mp4", "-i in.mp4 out.mp4"])
def test_a_command_that_was_forgotten(line: str) -> None:
    assert f"carfix restore {line.split()[0]}" in refusal(line)


@pytest.mark.parametrize("command", ["compare a b", "inspect a", "train a b", "bench"])
def test_other_commands_name_the_whole_word_too(command: str) -> None:
    assert "no such option: -zap; carfix" in refusal(f"{command} -zap")


@pytest.mark.parametrize("typed", ["carfix clip.mp4 --cr", "carfix -y --cr", "carfix restore -an --cr"])
def test_a_shell_that_completes_hears_nothing_of_mistakes(typed: str) -> None:
    """It would stand amid what is typed."""
    program._load_commands()
    shell = {"_CARFIX_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    shell["COMP_CWORD"] = str(len(typed.split()) - 1)
    result = CliRunner().invoke(program.app, [], env=shell, prog_name="carfix")
    assert (result.exit_code, result.exception) == (0, None)
