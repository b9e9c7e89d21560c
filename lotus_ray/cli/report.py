"""`lotus-ray report`."""

from __future__ import annotations

from pathlib import Path

import click

FORMATS = ("table", "markdown", "latex", "csv", "json", "html")


@click.command("report")
@click.argument("store")
@click.option("--format", "form", type=click.Choice(FORMATS), default="table")
@click.option(
    "--against",
    type=click.Choice(["paper", "notebooks"]),
    help="Show published figures beside measured ones: of the paper, or of its authors' notebooks.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write to a file, not to stdout.")
@click.option("--figures", type=click.Path(path_type=Path), help="A folder for SVG and PDF files.")
@click.option("--no-images", is_flag=True, help="Show no forgotten images on the HTML page.")
@click.option("--recompute", is_flag=True, help="Compute every metric again from stored outputs.")
def command(
    store: str,
    form: str,
    against: str | None,
    output: Path | None,
    figures: Path | None,
    no_images: bool,
    recompute: bool,
) -> None:
    """Print the rows of STORE."""
    from lotus_ray.base.errors import JobError
    from lotus_ray.cli.terminal import width
    from lotus_ray.report.collect import collect
    from lotus_ray.report.formats import FORMATS as WRITERS
    from lotus_ray.report.formats import to_table
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

        text = to_page(entries, opened, against, images=not no_images)
    elif form == "table":
        text = to_table(entries, against, width() if output is None else None)
    else:
        text = WRITERS[form](entries, against)
    if output is None:
        return click.echo(text, nl=False)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        what = f"the report cannot be written: {error.strerror}"
        raise JobError(what, where=str(output)) from error
