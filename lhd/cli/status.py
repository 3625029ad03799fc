"""``lhd status``: what is going on."""

import json
from typing import Any

import typer

from lhd.cli.options import AsJson, ConfigFile


def status(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show the listeners, sources and task queues of the running daemon."""
    from lhd.cli.admin_client import ask_configured

    answer = ask_configured(config, "/status")
    typer.echo(json.dumps(answer, indent=2) if as_json else _text(answer))


def _text(answer: dict[str, Any]) -> str:
    state = "ready" if answer["ready"] else "not ready"
    lines = [
        f"lhd {answer['version']}, process {answer['pid']}, {state}, since {answer['started_at']}",
        f"data       {answer['data_dir']}",
    ]
    lines += [f"{name:<10} {address}" for name, address in answer["listeners"].items()]
    lines.append(f"timers     {answer['timers']}")
    for source in answer["sources"]:
        parts = [f"source     {source['name']} ({source['kind']}) {source['state']}"]
        if source["reason"]:
            parts.append(source["reason"])
        if source["restarts"]:
            parts.append(f"{source['restarts']} restarts")
        parts += [f"refused {count} times: {why}" for why, count in source["refused"].items()]
        lines.append("; ".join(parts))
    lines += [
        f"task       {task['task_def']}: {task['queued']} queued, {task['waiting_polls']} polls, "
        f"{task['workers']} workers"
        for task in answer["tasks"]
    ]
    return "\n".join(lines)
