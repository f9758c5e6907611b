"""Commands of the batch script on its node: find a free port and the address, wait for Ray and for the other nodes.

python -m search.cluster.node port [HOST] | address HOST | answers HOST:PORT SECONDS | wait NODES SECONDS
"""

from __future__ import annotations

import socket
import sys
import time

from search.config.addresses import join_address, split_address
from trainables.runtime.output import print_safely


def free_port() -> int:
    """Find a TCP port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def address_towards(host: str) -> str:
    """Return this node's address on the network that leads to another host. Nothing is sent."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def wait_for_port(address: str, seconds: float) -> bool:
    """Wait until a server listens at host:port; returns whether it does within the seconds.

    Raises
    ------
    ValueError
        The address has no port, or is none.
    """
    host, port = split_address(address)
    if port is None:
        raise ValueError(f"{address!r} has no port")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return True
        except OSError:
            time.sleep(0.2)
    return False


def wait_for_nodes(nodes: int, seconds: float) -> int:
    """Wait for the nodes of the cluster at ``$RAY_ADDRESS``; returns how many are there in time, at least the head.

    Raises
    ------
    TimeoutError
        The head does not answer.
    """
    import ray

    deadline, there, reason = time.monotonic() + seconds, 0, "no answer"
    while there < nodes and time.monotonic() < deadline:
        try:
            if not ray.is_initialized():
                ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
            there = sum(node["Alive"] for node in ray.nodes())
        except (ConnectionError, RuntimeError, ValueError) as error:  # the head is not up yet
            reason = str(error).partition("\n")[0]
        time.sleep(1)
    if not there:
        raise TimeoutError(f"no Ray cluster within {seconds:g} s: {reason}")
    return there


def main(words: list[str]) -> int:
    """Run one command and print its result; returns the exit code."""
    match words:
        case ["port"]:
            print(free_port())
        case ["port", host]:
            print(join_address(host, free_port()))
        case ["address", host]:
            print(address_towards(host))
        case ["answers", address, seconds]:
            try:
                listens = wait_for_port(address, float(seconds))
            except ValueError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            if not listens:
                print(f"error: nothing listens at {address} after {seconds} s", file=sys.stderr)
                return 1
        case ["wait", nodes, seconds]:
            try:
                there = wait_for_nodes(int(nodes), float(seconds))
            except TimeoutError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            print_safely(f"ray      {there} of {nodes} nodes are there")
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
