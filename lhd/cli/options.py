"""The options and exit codes that commands share."""

from pathlib import Path
from typing import Annotated

import typer

FINDINGS = 1
NO_DAEMON = 69
"""EX_UNAVAILABLE of sysexits.h."""
UNUSABLE_CONFIGURATION = 78
"""EX_CONFIG of sysexits.h; the unit does not start the daemon again after it."""

ConfigFile = Annotated[
    Path | None,
    typer.Option("-c", "--config", metavar="FILE", help="The TOML file; without one every key has its default."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(text: str, code: int) -> typer.Exit:
    """Say on stderr why the command ends, and end it with this code."""
    typer.echo(text, err=True)
    return typer.Exit(code)
