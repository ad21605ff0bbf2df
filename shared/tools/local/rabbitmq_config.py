"""What a private RabbitMQ node is told: its files and its environment, small, on loopback, and of its own alone."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.tools.local.ports import LOOPBACK
from shared.tools.local.rabbitmq_server import Server

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""What the broker takes at most: well above what a service reads, since it refuses by closing its sender's channel."""


@dataclass(frozen=True)
class Ports:
    """The ports of a node; epmd maps node names to `distribution` ports for the members of a cluster and the tools."""

    amqp: int
    management: int
    distribution: int
    epmd: int


@dataclass(frozen=True)
class Cluster:
    """What all members of a cluster share: their names, the port of an epmd that somebody runs for them, a cookie."""

    names: tuple[str, ...]
    epmd_port: int
    cookie: str


@dataclass(frozen=True)
class NodeConfig:
    """How a node differs from others; `extra` are lines of rabbitmq.conf."""

    name: str
    management: bool
    extra: Mapping[str, str]
    cluster: Cluster | None

    def write(self, directory: Path, ports: Ports) -> None:
        """Write the files that a node reads when it starts."""
        lines = [f"{key} = {value}\n" for key, value in (self._settings(ports) | dict(self.extra)).items()]
        (directory / "rabbitmq.conf").write_text("".join(lines))
        (directory / "enabled_plugins").write_text("[rabbitmq_management]." if self.management else "[].")
        # A fresh tree may have no /etc/hosts, and then no localhost.
        (directory / "inetrc").write_text('{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n')
        cookie = directory / ".erlang.cookie"
        cookie.write_text(self.cluster.cookie if self.cluster else secrets.token_hex(16))
        cookie.chmod(0o400)

    def environment(self, server: Server, directory: Path, ports: Ports) -> dict[str, str]:
        """Make the whole environment of a node: nothing of ours leaks in, nor of the machine's own broker."""
        here = server.inside(directory)
        return {
            "PATH": server.search_path,
            "HOME": here,
            "LANG": "C.UTF-8",
            "ERL_INETRC": f"{here}/inetrc",
            "ERL_EPMD_PORT": str(ports.epmd),
            "ERL_CRASH_DUMP_BYTES": "0",  # no dump in the current directory when a start fails
            "RABBITMQ_NODENAME": f"{self.name}@localhost",
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            "RABBITMQ_MNESIA_BASE": f"{here}/data",
            "RABBITMQ_LOG_BASE": f"{here}/log",
            "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq.conf",
            "RABBITMQ_CONFIG_FILES": f"{here}/none",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{here}/none.config",
            "RABBITMQ_CONF_ENV_FILE": f"{here}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/enabled_plugins",
            "RABBITMQ_SERVER_ERL_ARGS": "+S 2:2 +sbwt very_short -kernel inet_dist_use_interface {127,0,0,1}",
            # As under systemd: the start script becomes the Erlang machine, which then gets our signals itself.
            "detached": "1",
        }

    def _settings(self, ports: Ports) -> dict[str, str]:
        settings = {
            "listeners.tcp.1": f"{LOOPBACK}:{ports.amqp}",
            "log.console": "true",
            "log.console.use_colors": "off",
            "log.file": "false",
            "vm_memory_high_watermark.absolute": "1GB",
            "disk_free_limit.absolute": "50MB",
            "max_message_size": str(MAX_MESSAGE_BYTES),
        }
        if self.management:
            settings |= {"management.tcp.ip": LOOPBACK, "management.tcp.port": str(ports.management)}
        if self.cluster:
            settings |= {
                "cluster_formation.peer_discovery_backend": "classic_config",
                "cluster_partition_handling": "pause_minority",
            }
            for number, name in enumerate(self.cluster.names, 1):
                settings[f"cluster_formation.classic_config.nodes.{number}"] = f"{name}@localhost"
        return settings
