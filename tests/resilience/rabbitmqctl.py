"""RabbitMQ's own command line, on a private node."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from shared.tools.local.rabbitmq_node import PrivateNode

USUAL_WATERMARK = "1GB"
"""What every private node is configured with."""


def rabbitmqctl(node: PrivateNode, *words: str, name: str = "orders") -> str:
    """Run a command on a node, and give what it prints."""
    script = node.server.inside(node.server.script.with_name("rabbitmqctl"))
    home = node.server.inside(node.directory)
    environment = {
        "PATH": node.server.search_path,
        "HOME": home,  # where the cookie is
        "LANG": "C.UTF-8",
        "ERL_INETRC": f"{home}/inetrc",
        "ERL_EPMD_PORT": str(node.ports.epmd),
        "RABBITMQ_CONF_ENV_FILE": f"{home}/none",
    }
    command = node.server.command(script, "--quiet", "--timeout", "60", "-n", f"{name}@localhost", *words)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"rabbitmqctl {words[0]}: {done.stdout} {done.stderr}"
    return done.stdout.strip()


@contextmanager
def memory_alarm(node: PrivateNode) -> Iterator[None]:
    """Let a node think that its memory is full: it reads nothing more from connections that publish."""
    rabbitmqctl(node, "set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        yield
    finally:
        rabbitmqctl(node, "set_vm_memory_high_watermark", "absolute", USUAL_WATERMARK)
