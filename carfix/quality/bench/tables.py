"""A bench for people: a table, what the machine could do, and what a reader must know beside the numbers."""

from rich.table import Table

from carfix.quality.bench.machine import IDLE_LOAD
from carfix.quality.bench.results import BenchResult, ModelResult
from carfix.quality.bench.rounds import Rate
from carfix.quality.names import heading


def bench_tables(result: BenchResult) -> list[Table]:
    """What `carfix bench` prints: the stages and ceilings, then a table a network; 80 columns are enough."""
    return [_stages(result), _ceilings(result), *(_model(result, model) for model in result.models)]


def _stages(result: BenchResult) -> Table:
    clip = result.clip
    table = _table(f"{clip.width}x{clip.height} {clip.codec} {clip.pix_fmt}", "stage")
    for name, rate in result.stages.items():
        table.add_row(name.replace("_", " "), *_speed(result, rate), "")
    return table


def _ceilings(result: BenchResult) -> Table:
    table = Table(
        title="this machine's ceilings",
        title_justify="left",
        box=None,
        padding=(0, 2, 0, 0),
        show_header=False,
    )
    table.add_column()
    table.add_column(justify="right", no_wrap=True)
    for name, rate in result.products.items():
        table.add_row(f"matrix product, {name}", f"{rate.median:.3g} TFLOP/s")
    if result.copy is not None:
        table.add_row("copying memory, read + written", f"{result.copy.median:.3g} GB/s")
    return table


def _model(result: BenchResult, model: ModelResult) -> Table:
    table = _table(f"{model.name}: {model.engine}", "")
    share = f"{result.teraflops(model).median:.3g} TFLOP/s"
    if model.ceiling_share is not None:
        share += f", {model.ceiling_share:.0%} of {model.ceiling}"
    table.add_row("inference", *_speed(result, model.inference), share)
    whole = model.end_to_end
    if whole is not None:
        share = f"{whole.of_slowest:.0%} of {whole.slowest}, the slowest stage"
        if whole.slowest != "inference":
            share += f", {whole.of_inference:.0%} of inference"
        table.add_row("end to end", *_speed(result, whole.rate), share)
    for peer in model.peers:
        table.add_row(peer.name, *_speed(result, peer.rate), f"the engine is {peer.speedup:.3g} x")
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=heading(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column(first, no_wrap=True)
    for column in ("frames/s", "MP/s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    return table


def _speed(result: BenchResult, rate: Rate) -> list[str]:
    return [_number(rate.median), _number(rate.median * result.clip.megapixels)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def notes(result: BenchResult) -> list[str]:
    """Machine, versions, what was left out, and a warning if the machine was busy."""
    machine = result.machine
    gpu = f", {machine.gpu}" if machine.gpu else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    lines = [f"{machine.cpu}, {machine.cores} cores{gpu}, {machine.system}", versions]
    lines += [
        f"{model.name}: a restore starts with {model.end_to_end.start_seconds:.2g} s that no frame counts"
        for model in result.models
        if model.end_to_end is not None
    ]
    lines += [f"left out: {name}: {reason}" for name, reason in result.left_out.items()]
    if machine.load is not None and machine.load > IDLE_LOAD:
        lines.append(
            f"the machine was busy before this began (load {machine.load:.1f}): idle, it is faster than these numbers"
        )
    return lines
