"""The double of the bridge: two of them never ask their runs to bind the same port."""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_helpers import HERE

for needed in ("pymmcore", "zmq"):
    pytest.importorskip(needed, reason="needs the extra `pycromanager`")
engine = importlib.import_module("bridge_engine")

CHILD = """
import sys
import bridge_engine
bridge_engine.PORTS = range(int(sys.argv[1]), int(sys.argv[2]))
while True:
    print(bridge_engine.port_for_client())
"""


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> Iterator[range]:
    """Five in a row that nobody has; those given out are given back afterwards."""
    monkeypatch.setattr(engine, "held", [])
    first = engine.port_for_client()
    monkeypatch.setattr(engine, "PORTS", range(first, first + 5))
    engine.held.pop().close()
    yield engine.PORTS
    for holder in engine.held:
        holder.close()


def test_no_port_is_given_twice(ports: range) -> None:
    with socket.create_server(("127.0.0.1", ports[3])):
        given = {engine.port_for_client() for _ in range(2)}
        assert len(given) == 2
        words = [sys.executable, "-c", CHILD, str(ports.start), str(ports.stop)]
        other = subprocess.run(words, cwd=HERE, capture_output=True, text=True)
    assert other.stderr.splitlines()[-1] == f"OSError: no port of {ports} is free"
    theirs = {int(line) for line in other.stdout.split()}
    assert len(theirs) == len(other.stdout.split()) == 2
    assert given | theirs == set(ports) - {ports[3]}
    # A client can bind what it was given.
    for port in given:
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_systems_do_not_give_out_these_ports() -> None:
    """Else an outgoing connection of any program could be there first."""
    given_out = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
    assert max(engine.PORTS) < int(given_out.split()[0])
