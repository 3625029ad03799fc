"""The cluster as an administrator sees it: its topics and partitions, and why a broker cannot be reached."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.conn import create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from lhd.plugin import ConfigError, Transient
from lhd_kafka.clients import ClusterQuestion, closing, is_stray
from lhd_kafka.config import KafkaConfig
from lhd_kafka.security import is_loopback

AWAY = "the brokers do not answer"
AWAY_S = 5.0
"""After so many seconds brokers that are away are asked again."""
FAULT_S = 60.0
"""After so many seconds something is looked at again that an operator has to mend."""
_TRIES = 3
_ALERT_S = 2.0
"""How long an alert is waited for."""


class Missing(Transient):
    """Topics that are to be read do not exist."""

    def __init__(self, text: str, topics: list[str]) -> None:
        super().__init__(text, AWAY_S)
        self.topics = topics


@dataclass(frozen=True)
class Client:
    """What every connection to the cluster is made with."""

    config: KafkaConfig
    security: dict[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that all clients of aiokafka share."""
        return {
            "bootstrap_servers": list(self.config.brokers),
            "client_id": "lhd",
            "request_timeout_ms": int(self.config.request_timeout_s * 1000),
            **self.security,
        }

    async def unreachable(self) -> Transient:
        """Why no broker can be used: aiokafka itself tells only that it is so."""
        causes = {await self._cause(broker) for broker in self.config.brokers} - {""}
        return Transient(f"no broker can be used: {'; '.join(sorted(causes))}" if causes else AWAY, AWAY_S)

    async def _cause(self, broker: str) -> str:
        host, _, port = broker.rpartition(":")
        timeout_ms = int(self.config.request_timeout_s * 1000)
        try:
            conn = await create_conn(
                host.strip("[]"), int(port), client_id="lhd", request_timeout_ms=timeout_ms, **self.security
            )
            try:
                # Some refusals come only now: of a token, of a certificate, of one who did not say who he is.
                answer = await conn.send(ClusterQuestion([]))
            finally:
                conn.close()
            if not answer.brokers:
                raise KafkaConnectionError
        except (OSError, KafkaError, TimeoutError) as error:
            return f"{broker}: {await self._told(error, host.strip('[]'), int(port))}"
        except asyncio.CancelledError:
            if not is_stray():
                raise
            return f"{broker}: {await self._told(KafkaConnectionError(), host.strip('[]'), int(port))}"
        return ""

    async def _told(self, error: Exception, host: str, port: int) -> str:
        sasl = self.config.sasl
        if isinstance(error, SaslAuthenticationFailed | IllegalSaslStateError) and sasl is not None:
            who = "the token" if sasl.username is None else f"the user '{sasl.username}' or its password"
            return f"{who} is refused ({sasl.mechanism})"
        if isinstance(error, UnsupportedSaslMechanismError) and sasl is not None:
            return f"it does not take {sasl.mechanism}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is not good: {error.verify_message}"
        if isinstance(error, ssl.SSLError):
            return f"TLS fails: {_reason(error)}"
        if isinstance(error, TimeoutError):
            return "it does not answer in time"
        if isinstance(error, KafkaConnectionError):
            return await self._why_closed(host, port)
        if isinstance(error, OSError) and not str(error) and self.config.tls is not None:
            return "TLS fails: the connection is closed; does it speak TLS?"
        return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__

    async def _why_closed(self, host: str, port: int) -> str:
        """Of a connection that a broker has closed aiokafka does not tell the TLS alert, so it is looked for."""
        sasl = self.config.sasl
        if self.config.tls is not None:
            writer = None
            try:
                with anyio.fail_after(self.config.request_timeout_s):
                    reader, writer = await asyncio.open_connection(host, port, ssl=self.security["ssl_context"])
                    with anyio.move_on_after(_ALERT_S):
                        await reader.read(1)
            except ssl.SSLError as error:
                return f"TLS fails: {_reason(error)}"
            except (OSError, TimeoutError):
                pass
            finally:
                if writer is not None:
                    writer.close()
        if sasl is not None and sasl.mechanism == "OAUTHBEARER":
            return "the token is refused (OAUTHBEARER)"
        return "it closes the connection; does it expect TLS or SASL, or none?"


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "OpenSSL does not say why").lower().replace("_", " ")


class Cluster:
    """Asks about topics."""

    def __init__(self, admin: AIOKafkaAdminClient, client: Client) -> None:
        self._admin = admin
        self._client = client
        self._config = client.config

    async def require_private(self) -> None:
        """Raise ConfigError where a secret would be sent in the clear to brokers that the first one has named."""
        sasl = self._config.sasl
        if sasl is None or not sasl.sends_secret or self._config.tls is not None or self._config.insecure:
            return
        brokers = (await self._admin.describe_cluster())["brokers"]
        if not all(is_loopback(f"{broker['host']}:{broker['port']}") for broker in brokers):
            raise ConfigError("tls", "there are brokers beyond loopback, which would be sent the secret in the clear")

    async def partitions(self) -> list[TopicPartition]:
        """The partitions of every topic that the source reads. Raises Missing, and Transient."""
        config = self._config
        found = {topic["topic"]: topic for topic in await self._ask(list(config.topics) or None)}
        if config.pattern is not None:
            names = [name for name, one in found.items() if not one["is_internal"]]
            names = [name for name in names if re.fullmatch(config.pattern, name)]
            if not names:
                raise Missing(f"there is no topic that the pattern '{config.pattern}' matches", [])
        else:
            names = list(config.topics)
            missing = [name for name in names if name not in found or not found[name]["partitions"]]
            if missing:
                raise Missing(f"the topic '{missing[0]}' does not exist, or lhd's user may not see it", missing)
        return sorted(TopicPartition(name, one["partition"]) for name in names for one in found[name]["partitions"])

    async def _ask(self, topics: list[str] | None) -> list[dict[str, Any]]:
        for left in reversed(range(_TRIES)):
            try:
                answer: list[dict[str, Any]] = await self._admin.describe_topics(topics)
            except (KafkaError, TimeoutError) as error:
                if left == 0:
                    raise await self._client.unreachable() from error
            else:
                return answer
        raise AssertionError

    async def is_compacted(self, topic: str) -> bool:
        """Whether records of the topic may go before their time; False where lhd's user may not know."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": None})
        try:
            answers = await self._admin.describe_configs([resource])
        except (KafkaError, TimeoutError) as error:
            raise Transient(AWAY, AWAY_S) from error
        resources = [one for answer in answers for one in answer.to_object()["resources"]]
        return any("compact" in (entry["config_value"] or "") for one in resources for entry in one["config_entries"])


@asynccontextmanager
async def connect(client: Client) -> AsyncIterator[Cluster]:
    """A connection to the cluster. Raises Transient where there is none."""
    admin = AIOKafkaAdminClient(**client.options)
    async with closing(admin):
        cluster = Cluster(admin, client)
        try:
            await admin.start()
            await cluster.require_private()
        except (KafkaError, OSError) as error:
            raise await client.unreachable() from error
        except asyncio.CancelledError as error:
            if not is_stray():
                raise
            raise await client.unreachable() from error
        yield cluster
