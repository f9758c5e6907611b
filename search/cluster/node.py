"""What a batch script asks of its node: a free port, its address, and whether the other nodes are there.

python -m search.cluster.node port | address HOST | answers HOST:PORT SECONDS | wait NODES SECONDS
"""

from __future__ import annotations

import socket
import sys
import time


def free_port() -> int:
    """A TCP port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def address_towards(host: str) -> str:
    """This node's address on the network that leads to another host; nothing is sent."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def answers(address: str, seconds: float) -> bool:
    """Whether somebody listens at host:port, now or within so many seconds."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return True
        except OSError:
            time.sleep(0.2)
    return False


def wait_for_nodes(nodes: int, seconds: float) -> int:
    """Nodes of the cluster at ``$RAY_ADDRESS`` once so many are there, or the time is over; at least its head.

    Raises
    ------
    TimeoutError
        Not even the head answers.
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
    """Print the answer; returns the exit code."""
    match words:
        case ["port"]:
            print(free_port())
        case ["address", host]:
            print(address_towards(host))
        case ["answers", address, seconds]:
            if not answers(address, float(seconds)):
                print(f"error: nobody listens at {address} after {seconds} s", file=sys.stderr)
                return 1
        case ["wait", nodes, seconds]:
            try:
                there = wait_for_nodes(int(nodes), float(seconds))
            except TimeoutError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            print(f"ray      {there} of {nodes} nodes are there", flush=True)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
