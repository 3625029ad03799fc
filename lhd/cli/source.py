"""``lhd source``: operate one source of the running daemon."""

import json
from typing import Annotated

import typer

from lhd.cli.options import AsJson, ConfigFile

app = typer.Typer(no_args_is_help=True, help="Operate one source of the running daemon.")


@app.callback()
def _source() -> None:
    """Keep ``reset`` a word of its own, although it is the only one."""


@app.command()
def reset(
    name: Annotated[str, typer.Argument(help="The source.")],
    part: Annotated[str, typer.Argument(help="A part of it: of a Kafka source a topic.")] = "",
    epoch: Annotated[
        bool, typer.Option("--epoch", help="What it reads has begun anew: nothing of it has been seen before.")
    ] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Forget where a source is, or where it is in a part, and have it begin there as its configuration says.

    What it has brought before is recognised and counts as a duplicate, unless --epoch says that it is something new.
    """
    from lhd.cli.admin_client import ask_configured

    query = {"source": name, "part": part} | ({"epoch": "next"} if epoch else {})
    answer = ask_configured(config, "/source/reset", "POST", **query)
    told = f"{f'{part} of ' if part else ''}{name} begins anew, in epoch {answer['epoch']}"
    typer.echo(json.dumps(answer, indent=2) if as_json else told)
