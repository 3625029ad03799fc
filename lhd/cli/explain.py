"""``lhd explain``: what happened to something, and why."""

import json
from typing import Annotated, Any

import typer

from lhd.cli.options import FINDINGS, AsJson, ConfigFile, fail


def explain(
    name: Annotated[str, typer.Argument(metavar="ID", help="A delivery, an event's guid, a key or a WfRun id.")],
    tenant: Annotated[str, typer.Option(help="The tenant that it belongs to.")] = "default",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell what happened to a delivery, an event, a correlation key or a WfRun, and why."""
    from lhd.cli.admin_client import ask_configured

    answer = ask_configured(config, "/explain", id=name, tenant=tenant)
    if as_json:
        typer.echo(json.dumps(answer, indent=2))
        return
    lines = text(answer)
    if not lines:
        raise fail(f"nothing is known of '{name}'", FINDINGS)
    typer.echo("\n".join(lines))


def text(answer: dict[str, Any]) -> list[str]:
    """The story as lines for people; empty where nothing is known."""
    lines = [line for delivery in answer["deliveries"] for line in _delivery(delivery)]
    for event in answer["events"]:
        claim = "waits to be claimed"
        if event["claimed"]:
            claim = "claimed"
            if event["thread"] is not None:
                claim += f" by node run {event['thread']}/{event['position']}"
        lines.append(f"event {event['event_def']} {event['guid']}: put at {event['created_at']}, {claim}")
    lines += [
        f"run {wait['run']} waits at {wait['thread']}/{wait['position']} for {wait['event_def']} "
        f"with key '{wait['correlation_key']}'"
        for wait in answer["waits"]
    ]
    if answer["run"]:
        run = answer["run"]
        lines.append(f"run of {run['wf_spec']}: {run['status']}, started at {run['started_at']}")
        for place in run["waits_at"]:
            event = f" for {place['event_def']}" if "event_def" in place else ""
            lines.append(f"  at {place['thread']}/{place['position']} {place['node']} since {place['since']}{event}")
    return lines


def _delivery(delivery: dict[str, Any]) -> list[str]:
    route = f", route '{delivery['route']}'" if delivery["route"] else ""
    reason = f": {delivery['reason']}" if delivery["reason"] else ""
    lines = [
        f"delivery {delivery['delivery_id']} from source '{delivery['source']}' at {delivery['received_at']}{route}",
        f"  verdict {delivery['verdict']}{reason}",
    ]
    if delivery["correlation_key"] is not None:
        lines.append(f"  event {delivery['event_def']} with correlation key '{delivery['correlation_key']}'")
    elif delivery["run"] is not None:
        lines.append(f"  event {delivery['event_def']} for run {delivery['run']}")
    if delivery["outcome"] is not None:
        at = f" at {delivery['outcome_at']}" if delivery["outcome_at"] else ""
        lines.append(f"  outcome {delivery['outcome']}{at}")
    return lines
