"""The command line: one file for each command. What a command needs is imported when it runs."""

from typing import Annotated

import typer

from lhd.cli import check, dead, demo, explain, rehearse, run, send, source, status

app = typer.Typer(
    help="lhd, a workflow daemon that listens to the world.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lhd {version('lhd')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for command in (run.run, check.check, demo.demo, status.status, explain.explain, send.send):
    app.command()(command)
app.command("try")(rehearse.rehearse)
app.add_typer(dead.app, name="dead")
app.add_typer(source.app, name="source")


def main() -> None:
    """The ``lhd`` program."""
    app()
