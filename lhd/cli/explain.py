"""``lhd explain``: what happened to something, and why."""

import json
from typing import Annotated, Any

import typer

from lhd.cli.options import FINDINGS, AsJson, ConfigFile, Tenant, fail


def explain(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="A delivery (or its sender's id), an event's guid, a key or a WfRun id.")
    ],
    tenant: Tenant = "default",
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
    lines += [_nearest(wait) for wait in answer["nearest"]]
    lines += [
        f"dead letter {letter['delivery_id']}: {letter['reason']}; came {letter['count']} times, last at "
        f"{letter['last_at']}; retry it with: lhd dead retry {letter['delivery_id']}"
        for letter in answer["dead_letters"]
    ]
    if answer["run"]:
        run = answer["run"]
        lines.append(f"run of {run['wf_spec']}: {run['status']}, started at {run['started_at']}")
        for place in run["waits_at"]:
            event = f" for {place['event_def']}" if "event_def" in place else ""
            lines.append(f"  at {place['thread']}/{place['position']} {place['node']} since {place['since']}{event}")
    return lines


def _nearest(wait: dict[str, Any]) -> str:
    key = f" with key '{wait['correlation_key']}'" if wait["correlation_key"] is not None else ""
    return f"near: run {wait['run']} at {wait['thread']}/{wait['position']}, {wait['event_def']}{key}: {wait['state']}"


def _delivery(delivery: dict[str, Any]) -> list[str]:
    route = f", route '{delivery['route']}'" if delivery["route"] else ""
    reason = f": {delivery['reason']}" if delivery["reason"] else ""
    at = delivery["received_at"]
    called = f" (its sender's {delivery['sender_id']})" if delivery["sender_id"] else ""
    lines = [
        f"delivery {delivery['delivery_id']}{called} from source '{delivery['source']}' at {at}{route}",
        f"  verdict {delivery['verdict']}{reason}",
    ]
    if delivery["correlation_key"] is not None:
        lines.append(f"  event {delivery['event_def']} with correlation key '{delivery['correlation_key']}'")
    elif delivery["event_def"] and delivery["run"] is not None:
        lines.append(f"  event {delivery['event_def']} for run {delivery['run']}")
    if delivery["correlation_key"] is not None and delivery["run"] is not None:
        lines.append(f"  taken by run {delivery['run']}")
    elif not delivery["event_def"] and delivery["run"] is not None:
        lines.append(f"  started run {delivery['run']}")
    if delivery["outcome"] is not None:
        moved = f" at {delivery['outcome_at']}" if delivery["outcome_at"] else ""
        until = f", kept until {delivery['kept_until']}" if delivery["kept_until"] else ""
        lines.append(f"  outcome {delivery['outcome']}{moved}{until}")
    return lines
