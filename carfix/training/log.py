"""The curve of a training: a CSV file, and TensorBoard's events for those who ask for them."""

import csv
from pathlib import Path
from typing import Any

from carfix.errors import MissingPartError
from carfix.training.validation import Gains

FILE_NAME = "log.csv"
FIELDS = ("step", "seconds", "lr", "loss", "gain_psnr", "gain_ssim", "worst_gain_psnr")


class Log:
    """A row a validation; rows past the checkpoint that a killed run continues from are dropped."""

    def __init__(self, run: Path, step: int, *, tensorboard: bool = False) -> None:
        """Continue the log in the folder `run` behind `step`. Raises `MissingPartError` without TensorBoard."""
        self._path = run / FILE_NAME
        self._events: Any = _events(run) if tensorboard else None
        rows: list[list[str]] = []
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in list(csv.reader(file))[1:] if row and int(row[0]) <= step]
        with self._path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(FIELDS)
            writer.writerows(rows)
        self._seconds = float(rows[-1][1]) if rows else 0.0

    def write(self, step: int, seconds: float, rate: float, loss: float, gains: Gains) -> None:
        """Add a row; `seconds` are those of this run, the earlier ones' are added."""
        numbers = (rate, loss, gains.psnr, gains.ssim, gains.worst)
        texts = (f"{rate:.3g}", f"{loss:.6g}", f"{gains.psnr:.4f}", f"{gains.ssim:.5f}", f"{gains.worst:.4f}")
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow([step, f"{self._seconds + seconds:.0f}", *texts])
        if self._events is not None:
            for name, number in zip(FIELDS[2:], numbers, strict=True):
                self._events.add_scalar(name, number, step)
            self._events.flush()


def _events(run: Path) -> Any:  # noqa: ANN401 - an optional package's class
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingPartError(
            "TensorBoard is not installed; pip install 'carfix[tensorboard]', or leave --tensorboard out"
        ) from None
    return SummaryWriter(str(run))
