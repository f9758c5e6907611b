"""Split and join host and port, with IPv6 addresses in brackets and without: the only place that does."""

from __future__ import annotations

from ipaddress import AddressValueError, IPv6Address

_RAY_WORDS = ("auto", "local")
_RAY_PORTS = {"": 6379, "ray": 10001}  # Ray's defaults, by the scheme


def split_address(address: str) -> tuple[str, int | None]:
    """Split ``host``, ``host:port``, ``[fd00::1]:port``, ``[fd00::1]`` or ``fd00::1``, each perhaps after ``scheme://``.

    Returns
    -------
    host : str
        Without brackets.
    port : int, optional
        None: the address names none. An IPv6 address without brackets has none: its last group looks like one.

    Raises
    ------
    ValueError
        The address is none of these.
    """
    bare = address.rpartition("://")[2].rstrip("/")
    if _is_ipv6(bare):
        return bare, None
    host, closed, rest = bare[1:].partition("]") if bare.startswith("[") else ("", "", "")
    if closed and _is_ipv6(host):
        name, port = host, rest
    elif bare.count(":") <= 1 and not set("[]/@?# ") & set(bare):
        name, colon, number = bare.partition(":")
        port = colon + number
    else:
        raise ValueError(f"{address!r} is no address: expected HOST:PORT, or [fd00::1]:PORT for IPv6")
    if not name or (port and not _is_port(port)):
        raise ValueError(f"{address!r} is no address: expected HOST:PORT, with a port from 1 to 65535")
    return name, int(port[1:]) if port else None


def join_address(host: str, port: int) -> str:
    """Join host and port, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def ray_address(address: str) -> str:
    """Write the address of a Ray cluster as Ray reads it: with a port, and with brackets around IPv6.

    Words such as ``auto``, and addresses of schemes that are not Ray's own, stay as they are.

    Raises
    ------
    ValueError
        See ``split_address``.
    """
    scheme, separator, _ = address.rpartition("://")
    if address in _RAY_WORDS or scheme not in _RAY_PORTS:
        return address
    host, port = split_address(address)
    return scheme + separator + join_address(host, port or _RAY_PORTS[scheme])


def _is_port(text: str) -> bool:
    number = text.removeprefix(":")
    return text.startswith(":") and number.isascii() and number.isdecimal() and 0 < int(number) < 2**16


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True
