"""Help names every option whole, also in half a window."""

import pytest
import typer

from carfix.cli.app import COMMANDS, _load_commands, app


@pytest.mark.parametrize("columns", [80, 50])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_name_of_an_option_is_cut(
    command: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _load_commands()
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        app([command, "-h"], prog_name="carfix")
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= columns
    whole: typer.core.TyperGroup = typer.main.get_command(app)
    for option in whole.commands[command].params:
        for name in (*option.opts, *option.secondary_opts):
            assert option.param_type_name == "argument" or name in shown.replace(",", " ").split(), name
