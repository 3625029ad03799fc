"""How lhd proves to brokers who it is, and they to it: TLS and SASL. Secrets are read here and go nowhere else."""

import asyncio
import ipaddress
import ssl
from typing import Any, Literal

import anyio
from aiokafka.abc import AbstractTokenProvider
from pydantic import Field, model_validator

from lhd.plugin import ConfigError, Model, Secret

_TOKEN_TIMEOUT_S = 30.0


class Tls(Model):
    """TLS to the brokers; the names in their certificates are always checked."""

    ca: str | None = Field(None, description="PEM file of the authorities to trust; the system's otherwise.")
    cert: str | None = Field(None, description="PEM file of the client certificate, for mTLS.")
    key: str | None = Field(None, description="PEM file of its key.")
    key_password: Secret | None = Field(None, description="What the key is encrypted with.")

    @model_validator(mode="after")
    def _pair(self) -> "Tls":
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together")
        return self

    def context(self) -> ssl.SSLContext:
        """Raises ConfigError for a file that cannot be used."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError("tls.ca", f"{self.ca} cannot be used: {_cause(error)}") from error
        if self.cert is not None:
            password = None if self.key_password is None else self.key_password.read()
            try:
                # Without a password OpenSSL would ask a terminal for it.
                context.load_cert_chain(self.cert, self.key, password or (lambda: b""))
            except (OSError, ssl.SSLError) as error:
                text = f"{self.cert} and {self.key} cannot be used: {_cause(error)}"
                raise ConfigError("tls.cert", text) from error
        return context


class Sasl(Model):
    """SASL authentication."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(description="The mechanism.")
    username: str | None = Field(None, description="The user, of PLAIN and SCRAM.")
    password: Secret | None = Field(None, description="The password, of PLAIN and SCRAM.")
    token: Secret | None = Field(None, description="The token, of OAUTHBEARER; read anew for each connection.")
    token_command: tuple[str, ...] = Field(
        (), strict=False, description="A program and its arguments that writes the token to its stdout, instead."
    )

    @model_validator(mode="after")
    def _complete(self) -> "Sasl":
        is_oauth = self.mechanism == "OAUTHBEARER"
        if is_oauth and (self.token is None) == (not self.token_command):
            raise ValueError("OAUTHBEARER needs either token or token_command")
        if not is_oauth and (self.username is None or self.password is None):
            raise ValueError(f"{self.mechanism} needs username and password")
        if is_oauth and (self.username is not None or self.password is not None):
            raise ValueError("OAUTHBEARER has neither username nor password")
        if not is_oauth and (self.token is not None or self.token_command):
            raise ValueError(f"{self.mechanism} has no token")
        return self

    @property
    def sends_secret(self) -> bool:
        """Whether whoever listens to the wire has the secret."""
        return self.mechanism in ("PLAIN", "OAUTHBEARER")

    def options(self) -> dict[str, Any]:
        """What aiokafka is told. Raises ConfigError where a secret cannot be read."""
        if self.mechanism == "OAUTHBEARER":
            if self.token is not None:
                _read("sasl.token", self.token)
            return {"sasl_mechanism": self.mechanism, "sasl_oauth_token_provider": _Tokens(self)}
        assert self.password is not None
        return {
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": _read("sasl.password", self.password),
        }


class _Tokens(AbstractTokenProvider):
    """The token as it is now: tokens live for minutes, a consumer for months."""

    def __init__(self, sasl: Sasl) -> None:
        self._sasl = sasl

    async def token(self) -> str:
        try:
            if self._sasl.token is not None:
                return await asyncio.to_thread(_read, "sasl.token", self._sasl.token)
            with anyio.fail_after(_TOKEN_TIMEOUT_S):
                done = await anyio.run_process(list(self._sasl.token_command), check=False, stderr=None)
        except (OSError, TimeoutError, ConfigError) as error:
            # An OSError is what aiokafka takes for a connection that failed.
            raise ConnectionError(f"no token for SASL: {_cause(error)}") from error
        if done.returncode != 0:
            raise ConnectionError(f"no token for SASL: {self._sasl.token_command[0]} ended with {done.returncode}")
        try:
            return done.stdout.decode().strip()
        except UnicodeDecodeError:
            raise ConnectionError(f"no token for SASL: {self._sasl.token_command[0]} wrote what is no text") from None


def is_loopback(broker: str) -> bool:
    """Whether what is sent to a broker stays on this machine."""
    host = broker.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def client_options(tls: Tls | None, sasl: Sasl | None) -> dict[str, Any]:
    """What every client of aiokafka is told. Raises ConfigError for a file or secret that cannot be used."""
    secured, authenticated = tls is not None, sasl is not None
    protocol = {
        (False, False): "PLAINTEXT",
        (True, False): "SSL",
        (False, True): "SASL_PLAINTEXT",
        (True, True): "SASL_SSL",
    }[secured, authenticated]
    return {
        "security_protocol": protocol,
        "ssl_context": None if tls is None else tls.context(),
        **({} if sasl is None else sasl.options()),
    }


def _read(key: str, secret: Secret) -> str:
    try:
        return secret.read().decode()
    except ConfigError as error:
        raise ConfigError(key, error.text) from error
    except UnicodeDecodeError:
        raise ConfigError(key, f"{secret} is not UTF-8") from None


def _cause(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "OpenSSL refuses it"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
