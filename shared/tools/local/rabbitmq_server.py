"""An installed RabbitMQ server: where it is, its version, how to call its programs, whether it answers."""

import os
import re
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from shared.tools.tool_error import ToolError

# The servers themselves: the rabbitmq-server on the PATH of Debian is a wrapper that insists on root or its own user.
_SCRIPTS = (
    "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",  # Debian, Ubuntu, Fedora
    "opt/homebrew/opt/rabbitmq/sbin/rabbitmq-server",  # Homebrew on Apple silicon
    "usr/local/opt/rabbitmq/sbin/rabbitmq-server",  # Homebrew on Intel
    "opt/rabbitmq/sbin/rabbitmq-server",  # the official image, the generic archive
)
_SEARCH_PATH = "/opt/homebrew/bin:/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
# In a tree RabbitMQ wants /proc (4.0's management does not start without): mounted where only its processes see it.
_ENTER_TREE = ("unshare", "--mount", "/bin/sh", "-c", 'mount --rbind /proc "$0/proc" && exec chroot "$0" "$@"')
_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_CONNECTION_START = b"\x00\x0a\x00\x0a"  # class 10, method 10

NO_BROKER = (
    "There is no RabbitMQ here and no way to get one: install it (Debian, Ubuntu: apt-get install rabbitmq-server; "
    "macOS: brew install rabbitmq), or start Docker, or give a broker of yours as AMQP_URL=amqp://user:password@host/."
)


class BrokerError(ToolError):
    """There is no broker, and the message says in a sentence why and what to do."""


@dataclass(frozen=True)
class Server:
    """A RabbitMQ server: its start script, and the tree that it is installed in (`/`, or one to chroot into)."""

    script: Path
    root: Path = Path("/")

    @property
    def version(self) -> str:
        """The version, as its main plugin has it in its name: `plugins/rabbit-3.10.8`."""
        mains = sorted((self.script.parent.parent / "plugins").glob("rabbit-[0-9]*"))
        return mains[-1].name.removeprefix("rabbit-").removesuffix(".ez") if mains else "of unknown version"

    @property
    def search_path(self) -> str:
        """The PATH that its programs need to find Erlang."""
        own = os.environ.get("PATH", "") if self.root == Path("/") else ""
        return f"{own}:{_SEARCH_PATH}".lstrip(":")

    @property
    def temporary(self) -> Path | None:
        """The directory for temporary files that its programs see; None for the usual one."""
        return None if self.root == Path("/") else self.root / "tmp"

    def inside(self, path: Path) -> str:
        """Say a path of this machine as the programs of the tree see it."""
        return f"/{path.relative_to(self.root)}"

    def command(self, *words: str) -> list[str]:
        """Make the command that runs a program in the tree."""
        return list(words) if self.root == Path("/") else [*_ENTER_TREE, str(self.root), *words]


def find_server(root: Path = Path("/")) -> Server | None:
    """Find the newest RabbitMQ that is installed in the tree `root`, or None."""
    root = root.resolve()
    for pattern in _SCRIPTS:
        if found := [Server(script, root) for script in root.glob(pattern)]:
            return max(found, key=lambda server: [int(number) for number in re.findall(r"\d+", server.version)])
    on_path = shutil.which("rabbitmq-server") if root == Path("/") else None
    script = Path(on_path).resolve() if on_path else None  # the generic archive; a distribution's wrapper is no use
    return Server(script) if script and (script.parent.parent / "plugins").is_dir() else None


def accepts(host: str, port: int, timeout: float = 1.0) -> bool:
    """Tell whether somebody accepts TCP connections there."""
    try:
        socket.create_connection((host, port), timeout).close()
    except OSError:
        return False
    return True


def speaks_amqp(host: str, port: int, timeout: float = 1.0) -> bool:
    """Tell whether a broker there answers the AMQP 0-9-1 protocol header with `connection.start`."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            connection.sendall(_PROTOCOL_HEADER)
            with connection.makefile("rb") as answer:
                return answer.read(11)[7:] == _CONNECTION_START  # after type, channel and size of the frame
    except OSError:
        return False
