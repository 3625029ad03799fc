"""``[[tests]]``: what a signal is to come to, checked by ``lhd check``."""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field, model_validator

from lhd.plugin import Model


class ExpectTable(Model):
    """``expect`` of a test; what is left out is not compared."""

    verdict: Literal["accepted", "filtered", "dead"] = Field("accepted", description="Of a mapping alone.")
    route: str | None = Field(None, description="The name or number of the route.")
    event: str | None = Field(None, description="The ExternalEventDef.")
    key: str | None = Field(None, description="The correlation key.")
    wf_run: str | None = Field(None, description="The printed id of the WfRun.")
    content: Any = Field(None, description="The content of the event.")
    wf_spec: str | None = Field(None, description="The WfSpec of the run that may be started.")
    start_id: str | None = Field(None, description="The id of that run.")
    variables: dict[str, Any] | None = Field(None, description="Its variables.")

    def wanted(self) -> dict[str, Any]:
        """What is to be compared."""
        return {
            name: getattr(self, name)
            for name in type(self).model_fields
            if name == "verdict" or name in self.model_fields_set
        }


class TestTable(Model):
    """``[[tests]]``."""

    name: str = Field("", description="Shown when it fails.")
    source: str = Field(description="The source whose routes are tested.")
    headers: dict[str, str] = Field({}, description="The headers of the signal.")
    query: dict[str, str] = Field({}, description="The parameters of its query.")
    body: Any = Field(None, description="Its body: text as it is, anything else as JSON.")
    file: str | None = Field(None, description="A file with its body; relative to this one.")
    expect: ExpectTable = Field(ExpectTable(), description="What it is to come to.")

    @model_validator(mode="after")
    def _one_body(self) -> "TestTable":
        if (self.body is None) == (self.file is None):
            raise ValueError("name exactly one of body and file")
        return self

    def raw(self, folder: Path) -> bytes:
        """The bytes of the body. Raises OSError where the file cannot be read."""
        if self.file is not None:
            return (folder / self.file).read_bytes()
        return self.body.encode() if isinstance(self.body, str) else orjson.dumps(self.body, default=_instant)


def _instant(value: Any) -> str:
    assert isinstance(value, datetime), type(value)
    return value.isoformat()
