"""A real Apache Kafka of one node in KRaft mode, on free loopback ports, with a plain listener and secured ones."""

import base64
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.certificates import Authority
from tests.e2e.process import eventually, free_port

HERE = Path(__file__).parent
JARS = HERE.parents[1] / ".venv" / "kafka-jars"
JAVA_OPTIONS = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
]
START_S = 60.0
USER, PASSWORD = "lhd", "correct horse"

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,SCRAM:SASL_PLAINTEXT,MUTUAL:SSL
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.backoff.ms=200
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
num.partitions=1
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={folder}/broker.pem
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.keystore.type=PEM
listener.name.mutual.ssl.keystore.location={folder}/broker.pem
listener.name.mutual.ssl.truststore.type=PEM
listener.name.mutual.ssl.truststore.location={folder}/ca.pem
listener.name.secure.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  user_{user}="{password}";
listener.name.secure.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule \\
  required unsecuredLoginStringClaim_sub="broker";
"""


class Broker:
    """One node; its data stays in its folder when it is stopped or killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plain, self.secure, self.scram, self.mutual, self.controller = (free_port() for _ in range(5))
        self.address = f"127.0.0.1:{self.plain}"
        self.secure_address = f"127.0.0.1:{self.secure}"
        self.scram_address = f"127.0.0.1:{self.scram}"
        self.mutual_address = f"127.0.0.1:{self.mutual}"
        self.log = folder / "broker.log"
        self.authority = Authority()
        self._process: subprocess.Popen[bytes] | None = None
        self._format()

    def _format(self) -> None:
        pair = self.authority.issue("broker")
        (self.folder / "broker.pem").write_bytes(pair.key + pair.certificate)
        (self.folder / "ca.pem").write_bytes(self.authority.certificate)
        ports = {"PLAINTEXT": self.plain, "SECURE": self.secure, "SCRAM": self.scram, "MUTUAL": self.mutual}
        text = PROPERTIES.format(
            folder=self.folder,
            user=USER,
            password=PASSWORD,
            controller=self.controller,
            listeners=",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items()),
        )
        (self.folder / "server.properties").write_text(text)
        scram = [
            argument
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f'{mechanism}=[name="{USER}",password="{PASSWORD}"]')
        ]
        subprocess.run(
            [
                *_java(),
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={_cluster_id()}",
                "-c",
                self._properties,
                *scram,
            ],
            check=True,
            capture_output=True,
            timeout=START_S,
        )

    @property
    def _properties(self) -> str:
        return str(self.folder / "server.properties")

    def start(self) -> None:
        """Start the node and wait until it takes connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_java(), "kafka.Kafka", self._properties], stdout=log, stderr=log, start_new_session=True
            )
        eventually("the broker", self._is_up, START_S)

    def _is_up(self) -> bool | None:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"the broker ended with {self._process.returncode}:\n{self.log.read_text()}")
        try:
            for port in (self.plain, self.secure, self.scram, self.mutual):
                socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return None
        return True

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Have it answer nothing; its connections stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Have it answer again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)
            self._process.wait(START_S)
            self._process = None


@contextmanager
def running(folder: Path) -> Iterator[Broker]:
    """A broker that runs."""
    require_kafka()
    broker = Broker(folder)
    broker.start()
    yield broker
    broker.stop()


def require_kafka() -> None:
    """Fetch the jars where they are not there. Fails with what to install where Java or Maven is missing."""
    for program, package in (("java", "openjdk-17-jre-headless"), ("mvn", "maven")):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing: apt-get install {package}, or give --without-kafka", pytrace=False)
    JARS.mkdir(parents=True, exist_ok=True)
    # Tests may run in several processes.
    with (JARS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _fetch()


def _fetch() -> None:
    marker = JARS / "pom.xml"
    pom = (HERE / "pom.xml").read_text()
    if marker.is_file() and marker.read_text() == pom:
        return
    fetch = ("dependency:copy-dependencies", f"-DoutputDirectory={JARS}")
    command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), *fetch]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        pytest.fail(f"mvn cannot fetch Apache Kafka:\n{done.stdout[-2000:]}", pytrace=False)
    marker.write_text(pom)


def _java() -> list[str]:
    return ["java", *JAVA_OPTIONS, "-cp", f"{JARS}/*"]


def _cluster_id() -> str:
    """A random UUID as Kafka writes it: base64 of its bytes, for URLs, without padding."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
