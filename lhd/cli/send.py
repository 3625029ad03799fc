"""``lhd send``: a delivery as its sender would make it."""

import time
from pathlib import Path
from typing import Annotated

import typer

from lhd.cli.options import (
    FINDINGS,
    NO_DAEMON,
    ConfigFile,
    Headers,
    fail,
    load_source,
    parse_headers,
    read_payload,
)


def send(
    source: Annotated[str, typer.Argument(help="The source to send to.")],
    file: Annotated[Path, typer.Option(metavar="FILE", help="The bytes to send.")],
    header: Headers = None,
    http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The daemon's HTTP listener; else as configured.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Sign a file as the source's sender would, and send it to the running daemon."""
    import anyio

    from lhd.plugin import ConfigError, Transient

    configuration, configured = load_source(config, source)
    headers = parse_headers(header)
    raw = read_payload(file, headers)
    now_ms = time.time_ns() // 1_000_000
    try:
        sent = anyio.run(configured.source.send, raw, headers, now_ms, http or configuration.http.listen)
    except ConfigError as error:
        raise fail(error.text, FINDINGS) from None
    except Transient as error:
        raise fail(str(error), FINDINGS) from None
    except OSError as error:
        raise fail(f"no daemon answers at {http or configuration.http.listen}: {error}", NO_DAEMON) from None
    typer.echo(sent.answer)
    if not sent.is_taken:
        raise typer.Exit(FINDINGS)
