"""``lhd try``: what would happen, without it happening."""

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lhd.cli.options import (
    FINDINGS,
    UNUSABLE_CONFIGURATION,
    AsJson,
    ConfigFile,
    Headers,
    fail,
    parse_headers,
    read_payload,
)

if TYPE_CHECKING:
    from lhd.plugin import Route


def rehearse(
    source: Annotated[str, typer.Argument(help="The source whose routes are tried.")],
    route: Annotated[str | None, typer.Argument(help="Show only what this route takes.")] = None,
    last: Annotated[int | None, typer.Option(min=1, help="Try the last signals that arrived.")] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="Try the bytes of a file.")] = None,
    header: Headers = None,
    query: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Run the routes of the configuration file over signals and print what would happen; changes nothing."""
    from lhd.cli.admin_client import ask_configured

    if (last is None) == (file is None):
        raise typer.BadParameter("name one of --last and --file")
    routes = _routes(config, source)
    labels = [found.name or str(number) for number, found in enumerate(routes)]
    if route is not None and route not in labels:
        raise fail(f"the source '{source}' has no route '{route}'; there are: {', '.join(labels)}", FINDINGS)
    asked: dict[str, Any] = {"source": source, "routes": [one.model_dump(exclude_unset=True) for one in routes]}
    if file is None:
        asked["last"] = last
    else:
        headers = parse_headers(header)
        raw = read_payload(file, headers)
        parameters = dict(one.partition("=")[::2] for one in query or ())
        asked |= {"raw": base64.b64encode(raw).decode(), "headers": headers, "query": parameters}
    signals = ask_configured(config, "/try", "POST", asked)["signals"]
    shown = [signal for signal in signals if route is None or signal["route"] == route]
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    elif shown:
        typer.echo("\n".join(line for signal in shown for line in _lines(signal)))
    if not shown:
        taken = "no signal is kept" if not signals else f"the route '{route}' takes none of {len(signals)} signals"
        raise fail(taken, FINDINGS)


def _routes(config: Path | None, source: str) -> "tuple[Route, ...]":
    from lhd.errors import ConfigurationError
    from lhd.sources.registry import read_routes

    try:
        return read_routes(config, source)
    except ConfigurationError as error:
        raise fail("\n".join(error.findings), UNUSABLE_CONFIGURATION) from None
    except KeyError as error:
        raise fail(error.args[0], FINDINGS) from None


def _lines(signal: dict[str, Any]) -> list[str]:
    reason = f": {signal['reason']}" if signal["reason"] else ""
    called = f"signal {signal['sender_id']}" if signal["sender_id"] else "signal"
    route = f", route '{signal['route']}'" if signal["route"] else ""
    lines = [f"{called}{route}: {signal['verdict']}{reason}"]
    for name in ("event", "key", "wf_run", "content", "wf_spec", "start_id", "variables"):
        if signal.get(name) is not None:
            value = signal[name]
            lines.append(f"  {name:<10} {value if isinstance(value, str) else json.dumps(value)}")
    return lines + [f"  run        {run}" for run in signal["runs"]]
