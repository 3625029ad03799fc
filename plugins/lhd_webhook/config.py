"""The table of a webhook source."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from lhd.plugin import SourceConfig
from lhd_webhook.limits import Rate, parse_network
from lhd_webhook.schemes import Verify

_OWN_FORMS = ("docusign", "microsoft-graph", "slack", "sns", "stripe", "twilio")
"""Schemes whose bodies have a form of their own."""


def _network(text: str) -> str:
    return str(parse_network(text))


class WebhookConfig(SourceConfig):
    """``kind = "webhook"``."""

    path: str = Field(description="The path on the HTTP listener.")
    verify: Verify = Field(description='How the sender is verified; { scheme = "none" } must be asked for.')
    identity: Literal["sender", "body"] = Field(
        "sender", description="What tells deliveries apart, unless a route's id does: the sender's id, or the body."
    )
    allow: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        (), strict=False, description="Networks that clients must be in; without one all are."
    )
    trusted_proxies: int = Field(0, ge=0, le=16, description="How many proxies have added to X-Forwarded-For.")
    rate: Rate | None = Field(None, description="How often the source may be asked; beyond it the answer is 429.")
    peer_rate: Rate | None = Field(None, description="How often one client may ask.")
    body_bytes_max: int = Field(1_048_576, ge=1, description="Larger bodies are answered 413.")
    body_timeout_s: float = Field(10, gt=0, description="A body that takes longer is answered 408.")
    body_bytes_per_s_min: int = Field(500, ge=1, description="One that is slower, too, from the third second on.")
    bodies_bytes_max: int = Field(
        33_554_432, ge=1, description="Bytes of all bodies that are read or looked at, beyond which the answer is 503."
    )
    decompress: tuple[Literal["gzip", "zstd"], ...] = Field(
        (), strict=False, description="Content encodings that are taken."
    )
    multipart: bool = Field(False, description="Take multipart/form-data.")
    cloudevents: bool = Field(False, description="Take CloudEvents 1.0, structured, binary and in batches.")

    @model_validator(mode="after")
    def _one_envelope(self) -> "WebhookConfig":
        if self.cloudevents and self.verify.scheme in (
            "sns",
            "microsoft-graph",
            "slack",
            "stripe",
            "docusign",
            "twilio",
        ):
            raise ValueError(f'deliveries of the scheme "{self.verify.scheme}" are no CloudEvents')
        return self

    @field_validator("path")
    @classmethod
    def _path(cls, path: str) -> str:
        if not path.startswith("/") or "?" in path or "#" in path:
            raise ValueError("a path begins with '/' and has no query")
        return path
