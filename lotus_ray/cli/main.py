"""The command line: parse, call one function, print. Data on stdout, progress on stderr."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import click

from lotus_ray import __version__
from lotus_ray.base.errors import RUN_AGAIN, JobError, LotusRayError
from lotus_ray.cli.checks import doctor, list_, status_


class _Commands(click.Group):
    """Turns every error of ours into its text and exit code; a bug keeps its traceback."""

    interrupted_by = int(signal.SIGINT)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LotusRayError as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            from lotus_ray.cluster import in_submitted_job

            if in_submitted_job():
                _leave_at_once(RUN_AGAIN)
            ctx.exit(128 + self.interrupted_by)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Machine unlearning of image classifiers, as a distributed benchmark on Ray."""


main.add_command(doctor)
main.add_command(list_)
main.add_command(status_)


def _job_options(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def with_overrides(overrides: tuple[str, ...], offline: bool, **rest: Any) -> None:
        command(overrides=(*overrides, "offline=true") if offline else overrides, **rest)

    wrapped = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="A.B=C",
        help="Override a value of the job; model.B and dataset.B mean that of each.",
    )(with_overrides)
    wrapped = click.option("--offline", is_flag=True, help="Download no pretrained weights.")(
        wrapped
    )
    return click.argument("job", type=click.Path(path_type=Path))(wrapped)


@main.command()
@_job_options
@click.option("--store", "store_uri", metavar="URI", help="Instead of the job's store.")
@click.option("--dry-run", is_flag=True, help="List the cells and run none.")
@click.option("--limit", type=click.IntRange(1), help="Samples of each role; rows are smoke.")
@click.option("--retry-failed", is_flag=True, help="Run failed cells again.")
@click.option("--force", is_flag=True, help="Run every cell again.")
@click.option("--local", is_flag=True, help="One process, no Ray: for debugging.")
@click.option(
    "--max-bad-images", type=click.IntRange(0), help="Leave out so many that cannot be decoded."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def grid(
    job: Path,
    overrides: tuple[str, ...],
    store_uri: str | None,
    dry_run: bool,
    as_json: bool,
    max_bad_images: int | None,
    **options: Any,
) -> None:
    """Run every missing cell of a job, then print its table. Run it again to resume."""
    from lotus_ray.grid import run
    from lotus_ray.job.load import load_job
    from lotus_ray.store.results import Store

    signal.signal(signal.SIGTERM, _terminated)
    if max_bad_images is not None:
        overrides = (*overrides, f"resources.max_bad_images={max_bad_images}")
    loaded = load_job(job, overrides)
    _print_notes(loaded.notes)
    store = Store.open(store_uri or loaded.job.store)
    settings = run.Options(**options)
    if dry_run:
        return _print_dry_run(loaded, store, settings)
    outcome = run.run_grid(loaded, store, settings)
    _print_outcome(outcome, store, "json" if as_json else "table")
    sys.exit(outcome.exit_code)


@main.command()
@_job_options
@click.option("--method", required=True, help="See `lotus-ray list methods`.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="A new folder.")
@click.option("--store", "store_uri", metavar="URI", help="Instead of the job's store.")
@click.option("--local", is_flag=True, help="One process, no Ray: for debugging.")
def unlearn(
    job: Path,
    overrides: tuple[str, ...],
    method: str,
    output: Path,
    store_uri: str | None,
    local: bool,
) -> None:
    """Unlearn by one method; leave the weights and a run card in the output folder."""
    from lotus_ray.grid.run import Options
    from lotus_ray.grid.single_cell import CARD, load_one, unlearn_to
    from lotus_ray.store.results import Store

    signal.signal(signal.SIGTERM, _terminated)
    loaded = load_one(job, method, overrides)
    _print_notes(loaded.notes)
    store = Store.open(store_uri or loaded.job.store)
    unlearn_to(loaded, store, output, Options(local=local))
    click.echo(output / CARD)


@main.command("prepare")
@click.argument("source")
@click.argument("destination", type=click.Path(path_type=Path))
@click.option("--root", type=click.Path(path_type=Path), help="The folder of the source's files.")
@click.option("--local", is_flag=True, help="One process, no Ray.")
def prepare_(source: str, destination: Path, root: Path | None, local: bool) -> None:
    """Turn the images of SOURCE into Parquet shards and a manifest in DESTINATION.

    Run it again to resume.
    """
    from lotus_ray.cli.countdown import Countdown
    from lotus_ray.data.prepared.write import prepare, run_here
    from lotus_ray.data.sources import SPLITS, find

    if local:
        run = run_here
    else:
        from lotus_ray.cluster.prepare import run_on_cluster as run
    signal.signal(signal.SIGTERM, _terminated)
    manifest = prepare(find(source), destination, root, run, Countdown("shards", sys.stderr))
    _print_notes(manifest.notes)
    counts = ", ".join(
        f"{manifest.rows(split)} {split} ({min(of)} to {max(of)} a class)"
        for split in SPLITS
        if (of := manifest.counts[split])
    )
    click.echo(f"{source}: {counts} images in {len(manifest.shards)} shards: {destination}")


@main.command()
@click.argument("store")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "latex", "csv", "json", "html"]),
    default="table",
)
@click.option(
    "--against",
    type=click.Choice(["paper", "notebooks"]),
    help="Show published figures beside measured ones: of the paper, or of its authors' notebooks.",
)
@click.option("--output", type=click.Path(path_type=Path), help="A file instead of stdout.")
@click.option("--figures", type=click.Path(path_type=Path), help="A folder for SVG and PDF files.")
@click.option("--recompute", is_flag=True, help="Compute every metric again from kept outputs.")
def report(
    store: str,
    form: str,
    against: str | None,
    output: Path | None,
    figures: Path | None,
    recompute: bool,
) -> None:
    """Print the rows of STORE."""
    from lotus_ray.report.collect import collect
    from lotus_ray.report.formats import FORMATS
    from lotus_ray.store.results import Store

    opened = Store.open(store)
    opened.check_exists()
    entries = collect(opened, recompute=recompute)
    if figures is not None:
        from lotus_ray.report.figures.files import write_figures

        written = write_figures(entries, opened, figures)
        click.echo(f"{len(written)} files of figures: {figures}", err=True)
    if form == "html":
        from lotus_ray.report.page import to_page

        text = to_page(entries, opened, against)
    else:
        text = FORMATS[form](entries, against)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise JobError(
                f"the report cannot be written: {error.strerror}", where=str(output)
            ) from error


@main.command("export")
@click.argument("store")
@click.option(
    "--to",
    "tracker",
    required=True,
    type=click.Choice(["mlflow", "tensorboard"]),
    help="What the runs are for.",
)
@click.option(
    "--uri",
    metavar="URI",
    help="Of MLflow: sqlite:///runs.db, http://host:5000; else MLFLOW_TRACKING_URI.",
)
@click.option("--output", metavar="FOLDER", help="Of TensorBoard: its log directory.")
def export_(store: str, tracker: str, uri: str | None, output: str | None) -> None:
    """Show the rows of STORE in MLflow or TensorBoard: one run a cell.

    Run it again to bring them up to date.
    """
    from lotus_ray.report.export import TRACKERS
    from lotus_ray.report.export.runs import runs_of
    from lotus_ray.store.results import Store

    place = _place_of_runs(tracker, uri, output)
    opened = Store.open(store)
    opened.check_exists()
    click.echo(TRACKERS[tracker](runs_of(opened), place))


def _place_of_runs(tracker: str, uri: str | None, output: str | None) -> str:
    """Return where a tracker's runs go; raise UsageError for the option of the other one."""
    given = {"--uri": uri, "--output": output}
    needed, other = ("--uri", "--output") if tracker == "mlflow" else ("--output", "--uri")
    if given[other] is not None:
        raise click.UsageError(f"{other} does not belong to --to {tracker}, which has {needed}")
    fallback = os.environ.get("MLFLOW_TRACKING_URI") if tracker == "mlflow" else None
    place = given[needed] or fallback
    if not place:
        example = "sqlite:///runs.db" if tracker == "mlflow" else "FOLDER"
        raise click.UsageError(f"--to {tracker} needs {needed} {example}")
    return place


def _print_schema(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from lotus_ray.job.schema import Job

        click.echo(json.dumps(Job.model_json_schema(), indent=1))
        ctx.exit()


@main.command()
@_job_options
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of job files instead.",
)
def validate(job: Path, overrides: tuple[str, ...]) -> None:
    """Check all of a job that can be known without running it."""
    from lotus_ray.job.load import load_job
    from lotus_ray.job.preview import absent_notes, preview

    loaded = load_job(job, overrides)
    _print_notes(loaded.notes)
    found = preview(loaded)
    cells = len(found.planned.cells) + len(found.absent_cells)
    click.echo(f"{job}: valid, {cells} cells")
    _print_notes(found.planned.notes)
    for note in absent_notes(found):
        click.echo(f"not checked: {note}", err=True)


@main.command()
@click.argument("what", type=click.Choice(["data", "compute"]))
@click.option("--images", type=click.IntRange(64), default=2048, help="Of data: photographs.")
@click.option("--repeats", type=click.IntRange(1), default=5, help="Of each measurement.")
@click.option(
    "--methods", default="", metavar="A,B", help="Of compute: measure these methods alone."
)
@click.option("--json", "as_json", is_flag=True)
def bench(what: str, images: int, repeats: int, methods: str, as_json: bool) -> None:
    """Measure the data path beside a DataLoader, or (twelve minutes) compute beside its floor."""
    from lotus_ray.bench import scoreboard

    if what == "data":
        from lotus_ray.bench import data

        found: Any = data.measure(images, repeats)
    else:
        found = _measured_compute(repeats, [name for name in methods.split(",") if name])
    if as_json:
        click.echo(json.dumps(scoreboard.to_plain(*found), indent=1))
    else:
        click.echo(scoreboard.to_table(*found), nl=False)


def _measured_compute(repeats: int, methods: list[str]) -> Any:
    from lotus_ray.bench import compute

    signal.signal(signal.SIGTERM, _terminated)
    report = compute.measure(repeats, methods, lambda line: click.echo(f"{line} …", err=True))
    return report.figures, report.rates, report.notes


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        click.echo(f"note: {note}", err=True)


def _print_dry_run(loaded: Any, store: Any, options: Any) -> None:
    from lotus_ray.grid import run
    from lotus_ray.job import preview

    found = preview.preview(loaded, options.limit)
    work_orders = run.missing(found.planned, store, options, loaded.job.resources)
    for line in preview.describe(found, work_orders, store.rows()):
        click.echo(line)
    need = loaded.job.resources
    left = sum(len(work_order.row_versions) for work_order in work_orders)
    lacking = len(found.absent_cells)
    click.echo(
        f"{len(found.planned.cells) + lacking} cells, "
        + (f"{lacking} without data, " if lacking else "")
        + f"{left} missing in {len(work_orders)} groups; a group needs "
        f"{need.workers_text} × {need.cpus_per_worker} CPUs, {need.gpus_per_worker:g} GPUs; "
        f"store {store.uri}"
    )
    _print_notes([*found.planned.notes, *preview.absent_notes(found)])


def _print_outcome(outcome: Any, store: Any, form: str) -> None:
    from lotus_ray.grid import run
    from lotus_ray.grid.status import OUTCOME
    from lotus_ray.report.collect import collect
    from lotus_ray.report.formats import FORMATS

    stages = run.Stages()
    stages.seconds = outcome.stages
    with stages.measure("report"):
        entries = collect(store, outcome.labels)
        text = FORMATS[form](entries)
    click.echo(text, nl=False)
    with stages.measure("page"):
        page = _write_page(entries, store)
    parts = [f"{name} {seconds:.1f}" for name, seconds in outcome.stages.items()]
    click.echo("seconds: " + " | ".join(parts), err=True)
    if outcome.packing_line:
        click.echo(outcome.packing_line, err=True)
    store.replace(OUTCOME, outcome.to_json().encode())
    if outcome.error:
        click.echo(f"error: {outcome.error}", err=True)
    click.echo(page, err=True)
    click.echo(outcome.last_line, err=True)


def _leave_at_once(code: int) -> None:
    """Exit as it stands: Ray kills a stopped job after 3 s, and Python takes longer to tidy up."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _write_page(entries: Any, store: Any) -> str:
    """Leave the report as a page in the store; return the line that says where, or why not."""
    try:
        from lotus_ray.report.page import PAGE, to_page

        store.replace(PAGE, to_page(entries, store).encode())
    except Exception as error:  # nothing that is drawn is worth the end of a grid
        return f"warning: the report page could not be written: {type(error).__name__}: {error}"
    return f"page: {store.address(PAGE)}"


def _terminated(number: int, frame: FrameType | None) -> None:
    """Leave like Ctrl-C: the one interruption that Ray's blocking calls pass on."""
    _Commands.interrupted_by = number
    raise KeyboardInterrupt
