"""What the configuration tells the core: its limits and the ExternalEventDefs that the daemon owns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo

from littlehorse.model import PutExternalEventDefRequest


@dataclass(frozen=True, slots=True)
class Settings:
    """Read by the core, never changed by it. Bytes are of serialised messages."""

    record_bytes_max: int = 1_047_000
    passes_max: int = 512
    command_passes_max: int = 4096
    threads_max: int = 65
    dedupe_ms: int = 14 * 86_400_000
    dead_letter_bytes_max: int = 262_144
    queued_events_max: int = 1_000
    time_zone: tzinfo = UTC
    """In which cron expressions are read."""
    event_defs: Mapping[tuple[str, str], PutExternalEventDefRequest] = field(default_factory=dict)
    """By (tenant, name): what is set here wins over a later PutExternalEventDef."""
