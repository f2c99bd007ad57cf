"""Commands that hand data over: `dallrec cache`, `dallrec export`, `dallrec import`.

Everything heavy is imported inside the commands, so that `dallrec --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path

import click

from dallrec_core.errors import UserError


@click.group(name="cache")
def answers() -> None:
    """Look at the kept answers of language models, join caches, write them as parquet."""


CACHE = click.option(
    "--file", type=click.Path(path_type=Path), help="The cache [default: that of all runs here]."
)


def _cache(file: Path | None) -> Path:
    from dallrec_core import layout

    return file or layout.answers_path()


@answers.command()
@CACHE
def stats(file: Path | None) -> None:
    """Say how many answers are kept."""
    from dallrec_core.llm import cache_files

    for name, value in cache_files.stats(_cache(file)).items():
        click.echo(f"{name:<10} {value:,.1f}" if name == "MiB" else f"{name:<10} {value:,}")


@answers.command()
@CACHE
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
def merge(file: Path | None, sources: tuple[Path, ...]) -> None:
    """Add the answers of other caches or parquet exports."""
    from dallrec_core.llm import cache_files

    click.echo(f"{cache_files.merge(_cache(file), sources):,} answers were new")


@answers.command("export")
@CACHE
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--shard", default="1/1", show_default=True, help="Only this part of the keys.")
def export_answers(file: Path | None, out: Path, shard: str) -> None:
    """Write the answers as parquet, whole or in parts such as 1/4."""
    from dallrec_core.llm import cache_files

    part, _, parts = shard.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise UserError(f"--shard is '{shard}'; write which part of how many, such as 1/4")
    written = cache_files.export(_cache(file), out, shard=int(part), shards=int(parts))
    click.echo(f"{written:,} answers in {out}")


@click.group()
def export() -> None:
    """Write a run's data for other tools."""


@export.command("alpaca")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--run", "run_name", default="smoke", show_default=True, help="Run to export.")
def export_alpaca(folder: Path, run_name: str) -> None:
    """Write the instructions as data of LLaMA-Factory (json files and dataset_info.json)."""
    from dallrec_core.exports import alpaca

    for path in alpaca(run_name, folder):
        click.echo(path)


@export.command("recbole")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--run", "run_name", default="smoke", show_default=True, help="Run to export.")
@click.option("--augmented", is_flag=True, help="With what the language model wrote.")
def export_recbole(folder: Path, run_name: str, augmented: bool) -> None:
    """Write the split as atomic files of RecBole, with a configuration that reads them."""
    from dallrec_core.exports import recbole

    for path in recbole(run_name, folder, augmented=augmented):
        click.echo(path)


@click.command("import")
@click.argument("what", type=click.Choice(("interactions", "attributes", "summaries", "adapter")))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--run", "run_name", required=True, help="Run to take it in.")
@click.option("--task", default="interactions", show_default=True, help="Task of an adapter.")
def import_(what: str, path: Path, run_name: str, task: str) -> None:
    """Take in edges, attributes or summaries (CSV or parquet), or a LoRA adapter (a folder)."""
    from dallrec_core import imports

    if what != "adapter":
        click.echo(imports.table(what, path, run_name))
    elif task in imports.TASKS:
        click.echo(imports.adapter(task, path, run_name))
    else:
        raise UserError(f"there is no task '{task}'; use one of: {', '.join(imports.TASKS)}")
