"""The life of a service process: settings, logs, telemetry, serving, and the orderly end of all of it."""

import asyncio
import gc
import logging
import sys
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from fastapi import FastAPI
from pydantic import SecretStr, ValidationError

from shared.contract.errors import WrongSetting
from shared.service import logs
from shared.service import providers as setup
from shared.service.server import bind, is_loopback, serve
from shared.service.span_export import redaction
from shared.service.telemetry_settings import TelemetrySettings
from shared.service.wrong_settings import sentences

_log = logging.getLogger(__name__)


class ServiceSettings(Protocol):
    """What every service's settings have."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to serve on."""

    @property
    def log_level(self) -> str:
        """Least severe level that is logged."""

    @property
    def order_api_key(self) -> SecretStr | None:
        """What whoever writes must send; None where nothing is asked for."""


Settings = TypeVar("Settings", bound=ServiceSettings)
Read = TypeVar("Read")


def run(
    name: str,
    settings_type: Callable[[], Settings],
    create_app: Callable[[Settings, TelemetrySettings, str], FastAPI],
    to_say: Iterable[str] = (),
) -> int:
    """Run a service until SIGTERM or SIGINT; gives its exit code: 0, 1 for a failed start or end, 2 for wrong settings.

    `to_say` is what the environment held that is not as it should be, and is logged first.
    """
    settings, telemetry_settings = _read(name, settings_type), _read(name, TelemetrySettings)
    if settings is None or telemetry_settings is None:
        return 2
    host, port = settings.address
    try:
        # Before anything else: a second process on a taken port touches neither broker nor database.
        sockets = bind(host, port)
    except (OSError, ValueError) as error:  # ValueError: of a host that no name service would be asked for
        why = getattr(error, "strerror", None) or error
        print(f"{name}: cannot serve on {host}, port {port}: {why}", file=sys.stderr)
        return 1
    logs.configure(name, settings.log_level, redaction=redaction(telemetry_settings))
    for sentence in to_say:
        _log.warning(sentence)
    if settings.order_api_key is None and not all(is_loopback(each) for each in sockets):
        _log.warning("whoever reaches %s, port %d, may write: ORDER_API_KEY is not set", host, port)
    telemetry = setup.start(name, telemetry_settings)
    try:
        with asyncio.Runner(loop_factory=_event_loop()) as runner:
            try:
                app = create_app(settings, telemetry_settings, telemetry.instance)
            except WrongSetting as error:
                _log.critical("%s", error)
                return 2
            # Before the first order: a rate needs a sample to start from.
            telemetry.report()
            _relax_garbage_collection()
            return 0 if runner.run(serve(name, app, sockets)) else 1
    finally:
        telemetry.shutdown()


def _read(name: str, settings_type: Callable[[], Read]) -> Read | None:
    """Read settings; None where they are wrong, which is said."""
    try:
        return settings_type()
    except ValidationError as error:
        for sentence in sentences(error):
            print(f"{name}: {sentence}", file=sys.stderr)
        return None


def _relax_garbage_collection() -> None:
    """Collect less often: what a request makes holds few cycles, and each collection walks all that a service keeps.

    At 64 connections this took a sixth off the CPU time of the order API.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
