"""The command line: `dallrec run`, `sweep`, `book`, `data`, `export`, `import`, `doctor`, ...

Everything heavy is imported inside the commands, so that `dallrec --help` answers at once.
"""

from __future__ import annotations

import errno
import logging
import sys
from typing import Any

import click

from dallrec_core import __version__, exchange
from dallrec_core.errors import UserError
from dallrec_core.execution import StageFailed

PARAMETER_HELP = "Set a notebook parameter: stage.name=value (YAML), e.g. 06_recommenders.seeds=5."


class Commands(click.Group):
    """A click group that turns the errors of this project into one line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; user errors exit with 2, failed notebooks with 1, Ctrl-C with 130."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            # Tasks that were waiting for a kernel would complain with a traceback at the exit.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            click.echo("stopped; the same command continues from here", err=True)
            sys.exit(130)
        except StageFailed as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has left: not our error
                raise
            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"error: {place}{error.strerror or error}", err=True)
            sys.exit(2)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Run the DALLRec book: its notebooks, its pages, its data."""


@main.command()
@click.option(
    "--profile", "-P", default="smoke", show_default=True, help="Profile name, or a YAML file."
)
@click.option("--run", "run_name", help="Name of the run [default: that of the profile].")
@click.option("-p", "--parameter", "parameters", multiple=True, help=PARAMETER_HELP)
@click.option(
    "--from", "first", help="First stage to consider; earlier ones are taken as they are."
)
@click.option("--until", "last", help="Last stage to consider.")
@click.option("--only", multiple=True, help="Consider only this stage (may be given again).")
@click.option("--force", is_flag=True, help="Run the considered stages even when they are fresh.")
@click.option("--dry-run", is_flag=True, help="Say what would run, and why.")
def run(
    profile: str,
    run_name: str | None,
    parameters: tuple[str, ...],
    first: str | None,
    last: str | None,
    only: tuple[str, ...],
    force: bool,
    dry_run: bool,
) -> None:
    """Execute the notebooks that are not fresh, in order."""
    from dallrec_core import layout, stages
    from dallrec_core.parameters import parse_overrides
    from dallrec_core.profiles import load_profile

    chosen = load_profile(profile)
    name = run_name or chosen.name
    overrides = [chosen.parameters, parse_overrides(parameters)]
    considered = layout.select(first, last, only)
    if dry_run:
        for step in stages.plan(name, overrides, considered, force):
            click.echo(f"{step.stage.name:<18} {'; '.join(step.reasons) or 'fresh'}")
        return
    stages.run_chain(name, overrides, considered, force, say=_say)
    click.echo(f"run '{name}' is complete in {layout.run_dir(name)}")


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


@main.command()
@click.argument("name")
@click.option(
    "--profile", "-P", default="smoke", show_default=True, help="Profile name, or a YAML file."
)
@click.option("--run", "run_name", help="Name of the run [default: that of the profile].")
@click.option("-p", "--parameter", "parameters", multiple=True, help=PARAMETER_HELP)
@click.pass_context
def stage(
    ctx: click.Context, name: str, profile: str, run_name: str | None, parameters: tuple[str, ...]
) -> None:
    """Execute one notebook, such as 03, even when it is fresh."""
    ctx.invoke(
        run, profile=profile, run_name=run_name, parameters=parameters, only=(name,), force=True
    )


@main.command()
@click.option(
    "--profile", "-P", "profiles", multiple=True, default=("smoke",), show_default=True,
    help="Profile name, or a YAML file; given again, another dataset.",
)  # fmt: skip
@click.option("--run", "run_name", help="Name of the run [default: that of the profile].")
@click.option("-p", "--parameter", "parameters", multiple=True, help=PARAMETER_HELP)
@click.option("--backbones", help="Recommenders, separated by commas [default: those of page 6].")
@click.option("--arms", help="Arms, separated by commas [default: those of page 6].")
@click.option("--seeds", default=5, show_default=True, help="Trainings per backbone and arm.")
@click.option(
    "--regenerations", default=1, show_default=True, help="Times the language model writes anew."
)
@click.option("--as-is", is_flag=True, help="Take stages 01 to 05 as they are on disk.")
@click.option("--jobs", default=0, help="Processes of one thread [default: one per core].")
@click.option("--scheduler", default="", help="Address of a Dask cluster, e.g. tcp://host:8786.")
def sweep(
    profiles: tuple[str, ...],
    run_name: str | None,
    parameters: tuple[str, ...],
    backbones: str | None,
    arms: str | None,
    **options: Any,
) -> None:
    """Train backbones x arms x seeds x regenerations; print effects over base and best control."""
    from dallrec_core import layout, statistics
    from dallrec_core.parameters import parse_overrides
    from dallrec_core.profiles import load_profile
    from dallrec_core.sweep import sweep as run_sweep

    lists = [
        [name.strip() for name in (text or "").split(",") if name] for text in (backbones, arms)
    ]
    if run_name and len(profiles) > 1:
        raise UserError("--run names one run; give one profile")
    for chosen in [load_profile(name) for name in profiles]:
        layers, name = [chosen.parameters, parse_overrides(parameters)], run_name or chosen.name
        table = run_sweep(name, layers, backbones=lists[0], arms=lists[1], say=_say, **options)
        click.echo(statistics.shown(table, ("effect", "p", "detectable", "finding")).to_string())
        click.echo(f"tables in {layout.run_dir(name) / 'sweep'}")


@main.command()
@click.option("--run", "run_name", default="smoke", show_default=True, help="Run to publish.")
@click.option("--force", is_flag=True, help="Build even when nothing has changed.")
def book(run_name: str, force: bool) -> None:
    """Build the book from the executed notebooks of a run; print the path of its first page."""
    from dallrec_core.book import build

    click.echo(build(run_name, force=force, say=_say))


@main.command()
@click.option("--run", "run_name", default="smoke", show_default=True, help="Run to list.")
def digests(run_name: str) -> None:
    """Print a content digest of every artefact (times left out): equal runs print equal lists."""
    from dallrec_core import keys, layout

    found = {item.name: keys.digests(item, run_name) for item in layout.STAGES}
    if not any(found.values()):
        raise UserError(
            f"there is no artefact in {layout.run_dir(run_name)}; {layout.remedy(run_name)}"
        )
    for stage_name, files in found.items():
        for name, digest in files.items():
            click.echo(f"{digest[:16]}  {stage_name}/{name}")


@main.command()
@click.option("--run", "run_name", default="smoke", show_default=True, help="Finished run.")
def measured(run_name: str) -> None:
    """Note what a profile's run took, for the table of the page "Reproduce it"."""
    from dallrec_core import artifacts, layout, status

    path = layout.book_root() / "notebooks" / "profiles" / "measured.json"
    known = artifacts.read_json(path) if path.is_file() else {}
    artifacts.write_json({**known, run_name: status.measure(run_name)}, path)
    click.echo(path)


@main.command()
@click.argument("name")
def data(name: str) -> None:
    """Fetch a dataset, or verify the copy that is already here (e.g. ml-1m)."""
    from dallrec_core.datasets.download import fetch_or_verify

    for line in fetch_or_verify(name):
        click.echo(line)


@main.command()
def doctor() -> None:
    """Say what this machine can run, and what is missing for the rest."""
    from dallrec_core.doctor import examine

    for line in examine():
        click.echo(line)


for command in (exchange.answers, exchange.export, exchange.import_):
    main.add_command(command)

if __name__ == "__main__":
    main()
