"""Ports on loopback that two processes of ours never take at the same time."""

import secrets
import socket

LOOPBACK = "127.0.0.1"

# Below the ports that Linux (from 32768) and macOS (from 49152) give to outgoing connections: one of those could take
# the port of a node that is down for a moment.
_FIRST, _LAST = 10240, 32000


def claim_port(usual: int | None = None) -> socket.socket:
    """Claim a free TCP port on loopback and return the claim, which ends when it is closed or its process dies.

    `usual` is taken where it is free, else any port. The claim is the UDP port of the same number: it keeps every other
    claimant away, and leaves the TCP port free for the server that is started on it. `port_of` reads the number.
    """
    for attempt in range(200):
        port = _FIRST + secrets.randbelow(_LAST - _FIRST) if usual is None or attempt else usual
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((LOOPBACK, port))
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                # As servers do: else connections that have just ended make a port look taken.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((LOOPBACK, port))
        except OSError:
            claim.close()
        else:
            return claim
    raise OSError(f"no free port on {LOOPBACK} between {_FIRST} and {_LAST}")


def port_of(claim: socket.socket) -> int:
    """Return the port number that a claim holds."""
    port: int = claim.getsockname()[1]
    return port
