"""What can go wrong in ways a user must hear about; owns the codes, not their mapping to any transport."""

from enum import Enum


class Code(Enum):
    """Why a request was refused; the names are gRPC's canonical status codes (api.md, Conventions)."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    ABORTED = "ABORTED"
    UNAVAILABLE = "UNAVAILABLE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"


class LhdError(Exception):
    """Base of every error that lhd raises on purpose."""


class Rejection(LhdError):
    """A refused request: nothing of it was stored, and the caller may be told why."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class StoreError(LhdError):
    """The store cannot be opened or written; the daemon ends and its supervisor starts it again."""


class ConfigurationError(LhdError):
    """The configuration cannot be used; ``findings`` holds one line for each mistake."""

    def __init__(self, findings: list[str]) -> None:
        super().__init__("\n".join(findings))
        self.findings = findings


def invalid_argument(text: str) -> Rejection:
    """The request itself is wrong."""
    return Rejection(Code.INVALID_ARGUMENT, text)


def not_found(text: str) -> Rejection:
    """What the request names does not exist."""
    return Rejection(Code.NOT_FOUND, text)
