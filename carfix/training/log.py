"""The curve of a training: a CSV file, and TensorBoard's events for those who ask for them."""

import csv
import math
from pathlib import Path
from typing import Any

from carfix.errors import CarfixError, MissingPartError
from carfix.replacing import replacing
from carfix.training.validation import Gains
from carfix.video.faults import reason

FILE_NAME = "log.csv"
FIELDS = ("step", "seconds", "lr", "loss", "gain_psnr", "gain_ssim", "worst_gain_psnr")


class Log:
    """A row a validation; rows past the checkpoint that a killed run continues from are dropped."""

    def __init__(self, run: Path, step: int, seconds: float = 0.0, *, tensorboard: bool = False) -> None:
        """Continue the log in the folder `run` behind `step`, which took `seconds` (0: as many as the last row says).

        Raises `MissingPartError` without TensorBoard, `CarfixError` if the log is damaged or cannot be written.
        """
        self._path = run / FILE_NAME
        self._events: Any = _events(run) if tensorboard else None
        rows = [row for row in _rows(self._path) if int(row[0]) <= step]
        try:
            with (
                replacing(self._path) as temporary,
                temporary.open("w", newline="", encoding="utf-8") as file,
            ):
                csv.writer(file).writerows([FIELDS, *rows])
        except OSError as error:
            raise CarfixError(f"cannot write {self._path}: {reason(error)}") from error
        self._seconds = seconds or (float(rows[-1][1]) if rows else 0.0)

    def seconds_with(self, seconds: float) -> float:
        """Those of the whole training, of which this run took `seconds`."""
        return self._seconds + seconds

    def write(self, step: int, seconds: float, rate: float, loss: float, gains: Gains) -> None:
        """Add a row; `seconds` are those of this run, the earlier ones' are added. Raises `CarfixError`."""
        numbers = (rate, loss, gains.psnr, gains.ssim, gains.worst)
        texts = (f"{rate:.3g}", f"{loss:.6g}", f"{gains.psnr:.4f}", f"{gains.ssim:.5f}", f"{gains.worst:.4f}")
        try:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow([step, f"{self.seconds_with(seconds):.0f}", *texts])
        except OSError as error:
            raise CarfixError(f"cannot write {self._path}: {reason(error)}") from error
        if self._events is not None:
            for name, number in zip(FIELDS[2:], numbers, strict=True):
                self._events.add_scalar(name, number, step)
            self._events.flush()


def _rows(path: Path) -> list[list[str]]:
    """The rows of a log but its header, none if there is no log yet. Raises `CarfixError` if it is damaged."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row][1:]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error) as error:
        raise CarfixError(f"{path} cannot be read ({reason(error)}); {_CURE}") from error
    for number, row in enumerate(rows):
        if _is_row(row):
            continue
        if number == len(rows) - 1:  # a machine that stopped while it was written: its step is done again
            return rows[:-1]
        raise CarfixError(f"{path} is damaged: its row {','.join(row)[:80]!r} is none of carfix's; {_CURE}")
    return rows


_CURE = "move it away, and the training goes on with a new one"


def _is_row(row: list[str]) -> bool:
    try:
        return len(row) == len(FIELDS) and int(row[0]) >= 0 and math.isfinite(float(row[1]))
    except ValueError:
        return False


def _events(run: Path) -> Any:  # noqa: ANN401 - an optional package's class
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPartError(
            f'TensorBoard is missing ({error}); `pip install "carfix[tensorboard]"`, or leave --tensorboard out'
        ) from error
    return SummaryWriter(str(run))
