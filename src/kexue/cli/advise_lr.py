"""``kexue advise-lr``: a learning rate for a batch size, from short runs."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from kexue.cli._common import dumps, guarded, note
from kexue.errors import ConfigError, DataError

__all__ = ["EXAMPLE", "advise_lr"]

EXAMPLE = "Example: kexue advise-lr run.csv --target-batch 4096 --grid grid.csv --plot advice.png"


@guarded
def advise_lr(
    logs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[LOG]...", help="Logs of runs, CSV or JSON Lines: of NoiseScale or kexue pretrain."),
    ] = None,
    target_batch: Annotated[
        float | None, typer.Option("--target-batch", "-b", metavar="B", help="Batch size that the rate is for.")
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", help="CSV or JSON Lines of short runs: batch_size, learning_rate, loss."),
    ] = None,
    optimizer: Annotated[str, typer.Option("--optimizer", help="'adam' (and its kin) or 'sgd'.")] = "adam",
    beta_noise: Annotated[
        float | None, typer.Option("--beta-noise", help="Of Adam's law, where known; below 1 the rate has a peak.")
    ] = None,
    skip: Annotated[float, typer.Option("--skip", help="Share of each log left out at its beginning.")] = 0.2,
    target_loss: Annotated[
        float | None, typer.Option("--target-loss", help="Loss at which runs are compared (steps against samples).")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="PNG", help="Write a picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Recommend a learning rate for a batch size, and say what a larger batch would gain.

    A log has a line an update, with the columns step, loss, learning_rate, batch_size, micro_batch, grad_norm2_micro,
    grad_norm2_full and, optionally, sign_agreement. Logs at several batch sizes give steps against samples. A grid
    tells the best rate at its batch size, and at two or more sizes the law itself.
    """
    from kexue.training.batch_size.advice import advise
    from kexue.training.batch_size.log import NoiseLog

    if target_batch is None:
        raise ConfigError("Give the batch size the rate is for: --target-batch B.")
    if plot is not None and plot.suffix.lower() != ".png":
        raise ConfigError(f"--plot writes PNG. Received: {plot}")
    runs = [NoiseLog.read(path) for path in logs or ()]
    advice = advise(
        runs,
        None if grid is None else _read_grid(grid, runs),
        target_batch=target_batch,
        optimizer=optimizer,
        beta_noise=beta_noise,
        skip=skip,
        target_loss=target_loss,
    )
    if plot is not None:
        from kexue.training.batch_size.picture import draw

        draw(advice, runs, plot)
        note(f"Picture: {plot}")
    if as_json:
        typer.echo(dumps(advice.as_dict(), indent=1))
    else:
        _print(advice)


def _read_grid(path: Path, runs: list[Any]) -> dict[float, list[tuple[float, float]]]:
    """Batch size -> pairs (rate, loss). Without a column batch_size, the first log's batch."""
    from kexue.training.batch_size.log import number, read_table

    rows, numbers = read_table(path)
    missing = [name for name in ("learning_rate", "loss") if name not in rows[0]]
    if "batch_size" not in rows[0] and not runs:
        missing.append("batch_size")
    if missing:
        raise DataError(
            f"{path}: missing columns {', '.join(missing)}. Expected: batch_size, learning_rate, loss. "
            f"Received: {', '.join(map(str, rows[0]))}"
        )
    grid: dict[float, list[tuple[float, float]]] = {}
    for row, line in zip(rows, numbers, strict=True):
        where = f"{path}:{line}"
        rate, loss = number(row, "learning_rate", where), number(row, "loss", where)
        batch = number(row, "batch_size", where) if "batch_size" in row else runs[0].rows[0]["batch_size"]
        if not (0 < rate < math.inf and 0 < batch < math.inf):
            raise DataError(f"{where}: learning_rate and batch_size must be positive. Received: {rate:g}, {batch:g}")
        if any(rate == other for other, _ in grid.get(batch, ())):
            raise DataError(f"{where}: the learning rate {rate:g} stands twice at batch {batch:g}. Give the mean loss.")
        grid.setdefault(batch, []).append((rate, loss))
    return grid


def _print(advice: Any) -> None:
    rows = [("learning rate", f"{advice.learning_rate:.3g}  for batch {advice.target_batch:g} ({advice.optimizer})")]
    if advice.interval is not None:
        low, high = advice.interval
        rows.append(("", f"{low:.3g} to {high:.3g} within the 95 % interval of the noise"))
    rows.append(("regime", advice.regime))
    rows.append(("critical batch", f"{advice.critical_batch:.4g}"))
    if advice.peak_batch is not None:
        rows.append(("peak of the rate", f"at batch {advice.peak_batch:.4g}"))
    rows.append(("scaled from", f"{advice.base[1]:.3g} at batch {advice.base[0]:g}"))
    if advice.noise is not None:
        noise = advice.noise
        ends = "" if noise.interval is None else f"  (95 %: {noise.interval[0]:.4g} to {noise.interval[1]:.4g})"
        rows.append(("noise scale", f"{noise.noise_scale:.4g}{ends}"))
        rows.append(("kappa^2", f"{noise.kappa2:.4g}  from {noise.kappa2_source.replace('_', ' ')}"))
    if advice.beta_noise is not None:
        rows.append(("beta_noise", f"{advice.beta_noise:.4g}"))
    if advice.steps_samples is not None:
        fit = advice.steps_samples
        ends = "" if fit.b_noise_interval is None else "  (95 %: {:.4g} to {:.4g})".format(*fit.b_noise_interval)
        rows.append(("from the runs", f"S_min {fit.s_min:.4g}, E_min {fit.e_min:.4g}, B_noise {fit.b_noise:.4g}{ends}"))
    for name, value in rows:
        typer.echo(typer.style(f"{name:<18}", bold=True) + value)
    for line in advice.text:
        typer.echo(f"- {line}")
