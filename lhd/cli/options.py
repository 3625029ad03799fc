"""The options and exit codes that commands share."""

from pathlib import Path
from typing import Annotated, Any

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
Tenant = Annotated[str, typer.Option(help="The tenant that it belongs to.")]
Headers = Annotated[list[str] | None, typer.Option("--header", metavar="'NAME: VALUE'", help="May be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fail(text: str, code: int) -> typer.Exit:
    """Say on stderr why the command ends, and end it with this code."""
    typer.echo(text, err=True)
    return typer.Exit(code)


def parse_headers(headers: list[str] | None) -> dict[str, str]:
    """Options of the form ``Name: value``, by lower-case name; ends the command for any other."""
    pairs = [header.partition(":") for header in headers or ()]
    if not all(colon for _, colon, _ in pairs):
        raise typer.BadParameter("write it as 'Name: value'", param_hint="--header")
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def read_payload(file: Path, headers: dict[str, str]) -> bytes:
    """The bytes of a file; its name tells the media type where no header does. Ends the command without the file."""
    import mimetypes

    try:
        raw = file.read_bytes()
    except OSError as error:
        raise fail(f"{file}: {error.strerror}", FINDINGS) from None
    headers.setdefault("content-type", mimetypes.guess_type(file.name)[0] or "application/json")
    return raw


def load_source(config: Path | None, name: str) -> Any:
    """The configuration and a source of it, by name; ends the command where there is none."""
    from lhd.errors import ConfigurationError
    from lhd.sources.registry import Registry

    try:
        configuration, sources = Registry.load().load_configuration(config)
    except ConfigurationError as error:
        raise fail("\n".join(error.findings), UNUSABLE_CONFIGURATION) from None
    for source in sources:
        if source.name == name:
            return configuration, source
    named = ", ".join(source.name for source in sources) or "none"
    raise fail(f"the configuration has no source '{name}'; there are: {named}", FINDINGS)
