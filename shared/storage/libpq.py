"""The parameters that libpq takes in the URL of a PostgreSQL, for a driver that takes most of them itself.

asyncpg hands what it does not know on to the server, which refuses the connection: so it is decided here what of
https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS is honoured, by whom, and what cannot be.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext, create_default_context
from typing import Any

from sqlalchemy import URL

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_DRIVERS = {
    *(
        "host",
        "port",
        "dbname",
        "user",
        "password",
        "passfile",
        "service",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
    ),
    *("sslmode", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
}
_SERVERS = {"application_name", "options"}
_NOT_DEMANDED = {
    "channel_binding": {"disable", "prefer"},
    "gssencmode": {"disable", "prefer", "allow"},
    "require_auth": {""},
}
"""What this driver cannot do, and the values that leave it open."""
_WITHOUT_EFFECT = {
    *(
        "client_encoding",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
    ),
    *(
        "sslcompression",
        "sslsni",
        "load_balance_hosts",
        "prepared_statement_cache_size",
        "statement_cache_size",
        "pgbouncer",
    ),
}
_FILES = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a PostgreSQL is and how it is reached, as asyncpg takes it."""

    dsn: str = field(repr=False)
    timeout: float | None = None
    """Seconds to connect, where the URL says so."""
    tls: SSLContext | None = None
    without_effect: tuple[str, ...] = ()


def address_of(url: URL) -> PostgresAddress:
    """Read a URL; raises ValueError, with a clause that says which parameter cannot be honoured and why."""
    given = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    unknown = given.keys() - _DRIVERS - _SERVERS - _NOT_DEMANDED.keys() - _WITHOUT_EFFECT
    if unknown := unknown - {"connect_timeout", "fallback_application_name"}:
        raise ValueError(
            f"{sorted(unknown)[0]} is no parameter of libpq; the server's own go into options=-c name=value"
        )
    _check(given)
    timeout = float(given.get("connect_timeout") or 0)
    passed_on = {name: value for name, value in given.items() if name in _DRIVERS | _SERVERS}
    if "fallback_application_name" in given:
        passed_on.setdefault("application_name", given["fallback_application_name"])
    context = None
    if passed_on.get("sslrootcert") == "system":
        context = create_default_context()
        del passed_on["sslrootcert"]
    return PostgresAddress(
        url.set(drivername="postgresql", query=passed_on).render_as_string(hide_password=False),
        timeout if timeout > 0 else None,
        context,
        tuple(sorted(given.keys() & _WITHOUT_EFFECT)),
    )


def _check(given: Mapping[str, Any]) -> None:
    if given.get("sslmode", "prefer") not in SSL_MODES:
        raise ValueError(f"sslmode is one of {', '.join(SSL_MODES)}")
    if not given.get("connect_timeout", "0").isdecimal():
        raise ValueError("connect_timeout is a whole number of seconds")
    for name, values in _NOT_DEMANDED.items():
        if given.get(name) is not None and given[name] not in values:
            raise ValueError(f"{name}={given[name]} is more than the driver can do")
    for name in _FILES:
        if (file := given.get(name)) and not (name == "sslrootcert" and file == "system") and not Path(file).is_file():
            raise ValueError(f"{name} names no file: {file}")
