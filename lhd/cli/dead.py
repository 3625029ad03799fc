"""``lhd dead``: signals that could not become events."""

import json
from typing import Annotated, Any

import typer

from lhd.cli.options import FINDINGS, AsJson, ConfigFile, Tenant, fail

app = typer.Typer(no_args_is_help=True, help="Dead letters: signals that could not become events.")

DeliveryId = Annotated[str, typer.Argument(metavar="ID", help="The id of the delivery.")]


@app.command("list")
def list_letters(
    source: Annotated[str | None, typer.Option(help="Those of one source.")] = None,
    tenant: Tenant = "default",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the latest dead letters, without their bodies."""
    from lhd.cli.admin_client import ask_configured

    query = {"tenant": tenant} | ({} if source is None else {"source": source})
    letters = ask_configured(config, "/dead", **query)["letters"]
    if as_json:
        typer.echo(json.dumps(letters, indent=2))
        return
    for letter in letters:
        times = f"{letter['count']} times"
        typer.echo("  ".join((letter["delivery_id"], letter["last_at"], letter["source"], times, letter["reason"])))


@app.command()
def show(name: DeliveryId, tenant: Tenant = "default", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show one dead letter with what came with it."""
    from lhd.cli.admin_client import ask_configured

    letter = ask_configured(config, "/dead/show", id=name, tenant=tenant)
    typer.echo(json.dumps(letter, indent=2) if as_json else "\n".join(_lines(letter)))


def _lines(letter: dict[str, Any]) -> list[str]:
    cut = ", cut" if letter["is_cut"] else ""
    lines = [
        f"dead letter {letter['delivery_id']} of source '{letter['source']}': {letter['reason']}",
        f"  came {letter['count']} times, from {letter['first_at']} to {letter['last_at']}",
    ]
    for space, values in letter["attributes"].items():
        lines += [f"  {space} {name}: {value}" for name, value in values.items()] if isinstance(values, dict) else []
    lines.append(f"  body, {letter['size']} bytes{cut}{'' if 'body' in letter else ', in base64'}:")
    return [*lines, letter.get("body", letter.get("body_base64", ""))]


@app.command()
def retry(name: DeliveryId, tenant: Tenant = "default", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Map a dead letter again, and deliver it under its identity."""
    from lhd.cli.admin_client import ask_configured

    answer = ask_configured(config, "/dead/retry", "POST", id=name, tenant=tenant)
    reason = f": {answer['reason']}" if answer["reason"] else ""
    typer.echo(json.dumps(answer, indent=2) if as_json else f"{answer['id']}: {answer['verdict']}{reason}")
    if answer["verdict"] == "dead":
        raise fail("it is dead as before", FINDINGS)


@app.command()
def drop(name: DeliveryId, tenant: Tenant = "default", config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Delete a dead letter for good."""
    from lhd.cli.admin_client import ask_configured

    answer = ask_configured(config, "/dead/drop", "POST", id=name, tenant=tenant)
    typer.echo(json.dumps(answer, indent=2) if as_json else f"{answer['id']}: dropped")
