"""The command line: `dallrec run`, `book`, `sweep`, `data`, `import`, `export`, `doctor`.

Everything heavy is imported inside the commands, so that `dallrec --help` answers at once.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from dallrec_core import __version__
from dallrec_core.errors import PageFailed, UserError


class Commands(click.Group):
    """A click group that turns the errors of this project into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; user errors exit with 2, failed notebooks with 1, Ctrl-C with 130."""
        try:
            return super().invoke(ctx)
        except (UserError, PageFailed) as error:
            said, status = f"error: {error}", 2 if isinstance(error, UserError) else 1
        except KeyboardInterrupt:
            # Tasks that were waiting for a kernel would complain with a traceback at the exit.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            said, status = "stopped; the same command continues from here", 130
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has left: not our error
                raise
            place = f"{error.filename}: " if error.filename else ""
            said, status = f"error: {place}{error.strerror or error}", 2
        click.echo(said, err=True)
        sys.exit(status)


PROFILE = click.option(
    "--profile", "-P", default="smoke", show_default=True, help="Profile name, or a YAML file."
)
RUN = click.option("--run", "run_name", help="Name of the run [default: that of the profile].")
PARAMETERS = click.option(
    "-p", "parameters", multiple=True, metavar="PAGE.NAME=VALUE",
    help="Set a parameter of a notebook (in YAML), e.g. 06_recommenders.seeds=5.",
)  # fmt: skip
TASKS = ("interactions", "attributes", "summaries")
FINISHED_RUN = click.option("--run", "run_name", default="smoke", show_default=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Run the DALLRec book: its notebooks, its pages, its data."""


def _chosen(profile: str, run_name: str | None, parameters: Sequence[str]) -> tuple[str, Any]:
    """Return the name of the run and its layers of parameters."""
    from dallrec_core.chain.parameters import load_profile, parse_overrides

    chosen = load_profile(profile)
    return run_name or chosen.name, [chosen.parameters, parse_overrides(parameters)]


@main.command()
@PROFILE
@RUN
@PARAMETERS
@click.option("--from", "first", help="First page to consider; earlier ones are taken as they are.")
@click.option("--until", "last", help="Last page to consider.")
@click.option("--only", multiple=True, help="Consider only this page (may be given again).")
@click.option("--force", is_flag=True, help="Run the considered pages even when they are fresh.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and why.")
def run(
    first: str | None,
    last: str | None,
    only: Sequence[str],
    force: bool,
    dry_run: bool,
    **given: Any,
) -> None:
    """Execute the notebooks that are not fresh, in order."""
    from dallrec_core import chain
    from dallrec_core.chain.pages import run_dir, select

    name, layers = _chosen(**given)
    considered = select(first, last, only)
    if dry_run:
        for step in chain.plan(name, layers, considered, force):
            click.echo(f"{step.page.name:<18} {step.state}")
        return
    chain.run_chain(name, layers, considered, force, say=click.echo)
    click.echo(f"run '{name}' is complete in {run_dir(name)}")


@main.command()
@FINISHED_RUN
@click.option("--force", is_flag=True, help="Build even when nothing has changed.")
def book(run_name: str, force: bool) -> None:
    """Build the book from the executed notebooks of a run; print the path of its first page."""
    from dallrec_core.book import build

    click.echo(build(run_name, force=force, say=click.echo))


@main.command()
@PROFILE
@RUN
@PARAMETERS
@click.option("--backbones", help="Recommenders, separated by commas [default: those of page 6].")
@click.option("--arms", help="Arms, separated by commas [default: those of page 6].")
@click.option("--seeds", default=5, show_default=True, help="Trainings per backbone and arm.")
@click.option("--regenerations", type=click.IntRange(1), default=1, help="Times the model writes.")
@click.option("--as-is", is_flag=True, help="Take pages 01 to 05 as they are on disk.")
@click.option("--jobs", default=0, help="Processes of one thread [default: one per core].")
@click.option("--scheduler", default="", help="Address of a Dask cluster, e.g. tcp://host:8786.")
def sweep(profile: str, run_name: str | None, parameters: Sequence[str], **options: Any) -> None:
    """Train backbones x arms x seeds x regenerations; print effects over base and best control."""
    from dallrec_core.chain.pages import run_dir
    from dallrec_core.experiment.comparison import effect_table
    from dallrec_core.experiment.sweep import sweep as run_sweep

    name, layers = _chosen(profile, run_name, parameters)
    for option in ("backbones", "arms"):
        options[option] = [each.strip() for each in (options[option] or "").split(",") if each]
    table = run_sweep(name, layers, say=click.echo, **options)
    click.echo(effect_table(table, ("effect", "p", "detectable", "finding")).to_string())
    click.echo(f"tables in {run_dir(name) / 'sweep'}")


@main.command()
@click.argument("name")
def data(name: str) -> None:
    """Fetch a dataset, or verify the copy that is already here (e.g. ml-1m)."""
    from dallrec_core.data import fetch_or_verify

    for line in fetch_or_verify(name):
        click.echo(line)


@main.command("import")
@click.argument("what", type=click.Choice(("edges", *TASKS, "adapter")))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--run", "run_name", required=True, help="Run to take it in.")
@click.option("--task", type=click.Choice(TASKS), default=TASKS[0], help="Task of an adapter.")
def import_(what: str, path: Path, run_name: str, task: str) -> None:
    """Take in edges (or "interactions"), attributes or summaries (a table), or a LoRA adapter."""
    from dallrec_core.augmentation import exchange

    if what == "adapter":
        click.echo(exchange.import_adapter(task, path, run_name))
    else:
        click.echo(exchange.import_table(what.replace("edges", "interactions"), path, run_name))


@main.command()
@click.argument("form", type=click.Choice(("alpaca", "recbole")))
@click.argument("folder", type=click.Path(path_type=Path))
@FINISHED_RUN
@click.option("--augmented", is_flag=True, help="recbole: with what the language model wrote.")
def export(form: str, folder: Path, run_name: str, augmented: bool) -> None:
    """Write a run for other tools: instructions for LLaMA-Factory, or RecBole's atomic files."""
    from dallrec_core.augmentation import exchange

    if form == "alpaca":
        paths = exchange.export_alpaca(run_name, folder)
    else:
        paths = exchange.export_recbole(run_name, folder, augmented=augmented)
    click.echo("\n".join(map(str, paths)))


# ---------------------------------------------------------------- the doctor

NEEDS = {"memory_gib": "memory", "disk_gib": "free disk", "gpu_gib": "GPU memory"}
"""What a profile may need, in words."""


@main.command()
def doctor() -> None:
    """Say what this machine can run, and what is missing for the rest; downloads nothing."""
    import torch

    from dallrec_core.chain.pages import data_dir
    from dallrec_core.chain.parameters import profiles
    from dallrec_core.data import ORIGINS, is_here

    here = resources()
    gpu = torch.cuda.get_device_name() if here["gpu_gib"] else "no GPU that torch sees"
    sizes = ", ".join(f"{here[kind]:.0f} {words}" for kind, words in NEEDS.items())
    click.echo(f"Python    {platform.python_version()} on {platform.platform()}")
    click.echo(f"machine   {os.cpu_count()} cores, {gpu}; GiB: {sizes}")
    names = [name for name in ORIGINS if is_here(name)]
    click.echo(f"data      {data_dir()} holds {', '.join(names) or 'nothing yet'}")
    for profile in profiles():
        lacks = lacking(profile.needs, here)
        state = f"lacks {'; '.join(lacks)}" if lacks else "can run here"
        click.echo(f"profile   {profile.name}: {state}")
        click.echo(f"          {profile.description} {profile.hardware}")


def resources() -> dict[str, float]:
    """Return how much this machine has of what profiles may need, in GiB."""
    import psutil
    import torch

    from dallrec_core.chain.pages import runs_dir

    folder = next(each for each in (runs_dir(), *runs_dir().parents) if each.exists())
    gpu = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    sizes = psutil.virtual_memory().total, shutil.disk_usage(folder).free, gpu
    return {kind: size / 2**30 for kind, size in zip(NEEDS, sizes, strict=True)}


def lacking(needs: Mapping[str, float], here: Mapping[str, float]) -> list[str]:
    """Return what a machine with so many GiB lacks of what a profile needs, in words."""
    # Machines sold as 8 or 16 GiB report a little less.
    return [
        f"{need:g} GiB of {NEEDS[kind]} (here {here[kind]:.0f})"
        for kind, need in needs.items()
        if here[kind] < 0.9 * need
    ]


if __name__ == "__main__":
    main()
