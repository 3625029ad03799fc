"""The models of a source's table: what every source has, and what an author builds on."""

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lhd.plugin.errors import ConfigError


class Model(BaseModel):
    """Base of every configuration model: frozen, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Secret(Model):
    """Where a secret is: a systemd credential, a file or an environment variable. Never the secret itself."""

    credential: str | None = Field(None, description="Name of a systemd credential (see systemd.exec(5)).")
    file: str | None = Field(None, description="Path of a file; one newline at its end is not part of the secret.")
    env: str | None = Field(None, description="Name of an environment variable.")

    @model_validator(mode="after")
    def _one_place(self) -> "Secret":
        if sum(place is not None for place in (self.credential, self.file, self.env)) != 1:
            raise ValueError("name exactly one of credential, file and env")
        return self

    def read(self) -> bytes:
        """The secret. Raises ConfigError, which names the place and never the secret, where there is none."""
        try:
            secret = self._read()
        except OSError as error:
            raise ConfigError("secret", f"{self} cannot be read: {error.strerror}") from error
        if not secret:
            raise ConfigError("secret", f"{self} is empty or not set")
        return secret

    def _read(self) -> bytes:
        if self.env is not None:
            return os.environb.get(self.env.encode(), b"")
        if self.file is not None:
            return Path(self.file).read_bytes().removesuffix(b"\n")
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if directory is None or "/" in str(self.credential):
            return b""
        return (Path(directory) / str(self.credential)).read_bytes().removesuffix(b"\n")

    def __str__(self) -> str:
        place, name = next((key, value) for key, value in self.__dict__.items() if value is not None)
        return f"{place} '{name}'"


class Start(Model):
    """``start`` of a route: the WfRun to start. All but the name of the WfSpec are CEL."""

    wf_spec: str = Field(description="The name of the WfSpec; its latest version is run.")
    id: str | None = Field(None, description="The id of the WfRun; where it exists none is started.")
    variables: str = Field("{}", description="A map of the WfRun's variables.")


class Route(Model):
    """What becomes of a signal. Expressions are CEL over body, headers, key, query, file, record and meta."""

    name: str = Field("", description="Shown by explain; the route's number otherwise.")
    when: str = Field("true", description="The route takes signals for which this is true; an error counts as false.")
    event: str | None = Field(None, description="The ExternalEventDef of the event to put.")
    key: str | None = Field(None, description="The correlation key: a CorrelatedEvent is put.")
    wf_run: str | None = Field(None, description="The printed id of the WfRun: an ExternalEvent is put.")
    start: Start | None = Field(None, description="Start a WfRun.")
    on_same_key: Literal["queue", "replace", "reject"] | None = Field(
        None,
        description="While an event with the key is live: queue (default where it is deleted after the first "
        "correlation), replace (default otherwise), or reject.",
    )
    on_unmatched: Literal["store", "dead", "start"] = Field(
        "store", description="An event for which no run waits: store it, make it a dead letter, or start a run."
    )
    on_expired: Literal["store", "dead", "start"] = Field(
        "store", description="An event that nobody took in its time: the same; store only notes it in the ledger."
    )
    content: str = Field("body", description="The content of the event.")
    id: str | None = Field(None, description="What tells one delivery from another; by kind of source otherwise.")
    thread: int | None = Field(None, ge=0, le=2**31 - 1, description="The threadRunNumber that the event is for.")
    ack: Literal["stored", "matched", "consumed", "result"] = Field(
        "stored", description="What the sender's answer waits for, where the kind of source has an answer."
    )
    ack_timeout_s: float | None = Field(
        None, gt=0, le=300, description="How long it waits: 2 for matched and consumed, 10 for result."
    )
    workflow_event: str | None = Field(
        None, description="The WorkflowEventDef whose event is the result; else it is the WfRun's output."
    )

    @model_validator(mode="after")
    def _one_target(self) -> "Route":
        if self.event is None:
            self._require_only_start()
        elif self.key is not None and self.wf_run is not None:
            raise ValueError("name one of key and wf_run, not both")
        elif self.key is None and self.wf_run is None and (self.start is None or self.start.id is None):
            raise ValueError("name key or wf_run, or start with an id, so that the event finds its run")
        if self.on_same_key is not None and self.key is None:
            raise ValueError("on_same_key needs key")
        if self.thread is not None and self.key is not None:
            raise ValueError("thread needs wf_run: a correlated event finds the thread by itself")
        if self.workflow_event is not None and self.ack != "result":
            raise ValueError('workflow_event needs ack = "result"')
        self._check_start()
        return self

    def _require_only_start(self) -> None:
        if self.start is None:
            raise ValueError("name an event, or start")
        for key in ("key", "wf_run", "thread", "content", "on_unmatched", "on_expired"):
            if key in self.model_fields_set:
                raise ValueError(f"{key} needs event")

    def _check_start(self) -> None:
        starts = "start" in (self.on_unmatched, self.on_expired)
        if starts and self.start is None:
            raise ValueError('"start" needs the table start, which says what to start')
        if self.key is None and self.wf_run is None and self.on_unmatched != "store":
            raise ValueError("start without key and wf_run starts the run that is not there; leave on_unmatched out")
        if self.wf_run is not None and self.on_unmatched == "start":
            raise ValueError("a run with this id is started by start with an id, and event, instead of wf_run")
        if self.start is not None and (self.key is not None or self.wf_run is not None) and not starts:
            raise ValueError('start beside key or wf_run needs on_unmatched = "start" or on_expired = "start"')


_TENANT = r"^[A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?$"


class SourceConfig(Model):
    """What the table of every source can hold. Derive from it and add the keys of your own."""

    kind: str = Field(description="The kind of source.")
    tenant: str = Field(
        "default",
        pattern=_TENANT,
        description="The tenant that the source's events belong to.",
    )
    keep_payloads: int = Field(
        100, ge=0, le=10_000, description="How many of the latest signals `lhd try --last` can use; in memory."
    )
    keep_payloads_bytes: int = Field(4_194_304, ge=0, description="How many bytes of them at most.")
    routes: tuple[Route, ...] = Field((), strict=False, description="The first route whose `when` is true is taken.")
