"""Tells the service manager how the daemon fares, by sd_notify(3), and how often the manager wants a sign of life.

Must not read credentials, decide whether the daemon is well, or let a failed message reach the caller.
"""

import os
import socket

import structlog

# A datagram to a manager that does not read waits this long; longer would stop the event loop that calls us.
_SEND_TIMEOUT_S = 1.0
# The manager drops a message of more than 4,096 bytes; a character takes at most four.
_STATUS_CHARACTERS_MAX = 1000


class Notifier:
    """Sends state to ``$NOTIFY_SOCKET``, and does nothing without one; see sd_notify(3)."""

    def __init__(self) -> None:
        self._address = _address(os.environ.get("NOTIFY_SOCKET", ""))
        self._failing = False
        self._log = structlog.get_logger("lhd.systemd")

    def ready(self) -> None:
        """Start-up is complete: ``READY=1`` of sd_notify(3)."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show one line in ``systemctl status``: ``STATUS=`` of sd_notify(3).

        A line break would begin another assignment, so whatever cannot be printed becomes a space.
        """
        line = "".join(character if character.isprintable() else " " for character in text)
        self._send(f"STATUS={line.strip()[:_STATUS_CHARACTERS_MAX]}")

    def stopping(self) -> None:
        """The daemon has begun to stop: ``STOPPING=1`` of sd_notify(3)."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """A sign of life, due each :func:`watchdog_interval_s`: ``WATCHDOG=1`` of sd_notify(3)."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(_SEND_TIMEOUT_S)
                sender.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._failing:  # say it once, not at each sign of life
                self._log.warning("the service manager cannot be notified", error=str(error))
            self._failing = True
        else:
            self._failing = False


def watchdog_interval_s() -> float | None:
    """Half the time within which the manager wants ``WATCHDOG=1``, or None; see sd_watchdog_enabled(3)."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        period_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return period_us / 2_000_000 if period_us > 0 else None


def _address(name: str) -> bytes | None:
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return os.fsencode(name) if name.startswith("/") else None
