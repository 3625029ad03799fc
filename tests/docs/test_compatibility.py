"""The compatibility page names every RPC and every node kind, and says UNIMPLEMENTED of none that is served."""

import re
from pathlib import Path

from littlehorse.model import Node, service_pb2

PAGE = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
WORDS = set(re.findall(r"\w+", PAGE))


def test_every_rpc_is_named() -> None:
    methods = service_pb2.DESCRIPTOR.services_by_name["LittleHorse"].methods_by_name
    assert set(methods) - WORDS == set()


def test_every_node_kind_is_named() -> None:
    kinds = {field.name.upper() for field in Node.DESCRIPTOR.oneofs_by_name["node"].fields}
    assert kinds - WORDS == set()
