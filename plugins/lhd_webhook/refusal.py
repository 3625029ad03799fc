"""How the door says no."""


class Refused(ValueError):
    """The door refuses the request with this status; ``reason`` goes to the counters, ``text`` to the sender."""

    def __init__(self, status: int, reason: str, text: str, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason = reason
        self.text = text
        self.retry_after_s = retry_after_s
