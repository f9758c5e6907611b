"""Laws of addresses: what is joined is split again, and what is no address is refused in one sentence."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.cluster.node import wait_for_port
from search.config.addresses import join_address, ray_address, split_address
from search.errors import ClusterError
from search.tuning.resources import ray_session

IPV6 = st.ip_addresses(v=6).map(str)
SCOPED = st.tuples(IPV6, st.sampled_from(["eth0", "1", "ib0.8"])).map("%".join)
NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,5}){0,2}", fullmatch=True)
HOSTS = st.one_of(IPV6, IPV6.map(lambda host: IPv6Address(host).exploded), SCOPED, st.ip_addresses(v=4).map(str), NAMES)
PORTS = st.integers(1, 65535)
SCHEMES = st.sampled_from(["", "ray://", "http://", "https://"])


@given(SCHEMES, HOSTS, PORTS)
def test_host_and_port_are_split_as_they_were_joined(scheme: str, host: str, port: int) -> None:
    assert split_address(scheme + join_address(host, port)) == (host, port)


@given(SCHEMES, HOSTS)
def test_a_host_without_a_port_has_none(scheme: str, host: str) -> None:
    assert split_address(scheme + host) == (host, None)
    if ":" in host:
        assert split_address(f"{scheme}[{host}]") == (host, None)


@given(st.sampled_from(["", "ray://"]), HOSTS, st.none() | PORTS)
def test_ray_is_given_a_port_and_brackets(scheme: str, host: str, port: int | None) -> None:
    address = ray_address(scheme + (join_address(host, port) if port else host))
    assert address.startswith(scheme)
    assert split_address(address) == (host, port or (10001 if scheme else 6379))
    assert ("[" in address) == (":" in host)
    assert ray_address(address) == address


@given(st.text(st.sampled_from("[]:.%/af01 @-"), max_size=12))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        host, port = split_address(text)
    except ValueError:
        with pytest.raises(ValueError, match="is no address: expected HOST:PORT"):
            split_address(text)
        return
    assert host
    assert not set(host) & set("[]/@ ")
    assert port is None or 0 < port < 2**16
    if ":" in host:
        assert IPv6Address(host)


@pytest.mark.parametrize("word", ["auto", "local", "http://head:8265", "anyscale://cluster"])
def test_what_is_no_address_of_a_ray_stays(word: str) -> None:
    assert ray_address(word) == word


@pytest.mark.parametrize("address", ["head:", "head:ray", ":6379", "[head]:1", "fd00::1::2", "head:70000", "[::1]6379"])
def test_a_search_at_no_address_ends_with_that_word(address: str) -> None:
    with pytest.raises(ClusterError, match=r"is no address: expected HOST:PORT"), ray_session(address):
        pass


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_server_is_found_on_either_family(family: socket.AddressFamily) -> None:
    here = {socket.AF_INET: str(IPv4Address(0x7F000001)), socket.AF_INET6: "::1"}[family]
    with socket.socket(family) as server:
        server.bind((here, 0))
        server.listen()
        port = server.getsockname()[1]
        assert wait_for_port(join_address(here, port), 5)
    assert not wait_for_port(join_address(here, port), 0.5)


@pytest.mark.parametrize("host", ["fd00::1", "10.0.0.1", "head"])
def test_the_batch_script_receives_an_address(host: str) -> None:
    """As the command of the script prints it, from which the script takes Ray's port."""
    script = 'address=$("$0" -m search.cluster.node port "$1"); echo "$address" "${address##*:}"'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, host],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    address, port = done.stdout.split()
    assert split_address(address) == (host, int(port))


def test_addresses_are_split_in_one_place() -> None:
    """Whoever cuts at the last or first colon is wrong for IPv6."""
    cut = re.compile(r"""(?:split|partition)\(\s*["']:["']""")
    root = Path(__file__).parents[1] / "search"
    allowed = {"config/addresses.py", "config/catalogue.py", "workloads.py"}  # words
    found = {str(file.relative_to(root)) for file in root.rglob("*.py") if cut.search(file.read_text())}
    assert found <= allowed
