"""What an etcd:// address says: endpoints, certificates, who we are.

    etcd://host:port[,host:port...]?cacert=FILE&cert=FILE&key=FILE&user=NAME&passwordfile=FILE&timeout=SECONDS

A password comes from passwordfile=, from FELIXLITE_ETCD_PASSWORD, or, seen by everybody who sees the address, from
password=.  It is in no text that an address or an error of this module makes.  Certificates are read here, so that a
wrong file is told at the start and not by the first request.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

from felixlite.errors import Misconfigured

PORT = 2379
PASSWORD_VARIABLE = "FELIXLITE_ETCD_PASSWORD"  # noqa: S105  the name of a variable
_PARAMETERS = ("cacert", "cert", "key", "user", "password", "passwordfile", "timeout")


@dataclass(frozen=True, slots=True)
class Tls:
    cacert: str
    cert: str | None = None
    key: str | None = None

    def context(self) -> ssl.SSLContext:
        """Checks the files; Misconfigured says which is wrong."""
        try:
            context = ssl.create_default_context(cafile=self.cacert)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(
                f"cacert={self.cacert}: {_reason(error)}; must be a file of CA certificates in PEM"
            ) from None
        if self.cert:
            try:
                context.load_cert_chain(self.cert, self.key)
            except (OSError, ssl.SSLError) as error:
                remedy = "must be the files of a certificate and its key in PEM"
                raise Misconfigured(f"cert={self.cert}, key={self.key}: {_reason(error)}; {remedy}") from None
        context.set_alpn_protocols(["h2"])
        return context


@dataclass(frozen=True, slots=True)
class EtcdAddress:
    endpoints: tuple[str, ...]  # host:port
    tls: Tls | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout: float = 5.0

    def __str__(self) -> str:
        return f"etcd://{','.join(self.endpoints)}"

    @classmethod
    def parse(cls, url: str, environ: Mapping[str, str]) -> "EtcdAddress":
        hosts, _, query = url.removeprefix("etcd://").partition("?")
        if "@" in hosts:
            raise Misconfigured(f"etcd://...@{hosts.rpartition('@')[2]}: give the user as ?user=NAME&passwordfile=FILE")
        said = dict(parse_qsl(query, keep_blank_values=True))
        for name in said.keys() - set(_PARAMETERS):
            raise Misconfigured(f"etcd://{hosts}: there is no parameter {name!r}; there are {', '.join(_PARAMETERS)}")
        endpoints = tuple(_endpoint(host) for host in hosts.rstrip("/").split(","))
        user, password = said.get("user"), _password(said, environ)
        if user and password is None:
            raise Misconfigured(
                f"etcd://{hosts}: user={user} needs a password: passwordfile=FILE or {PASSWORD_VARIABLE}"
            )
        return cls(endpoints, _tls(said, hosts), user or None, password if user else None, _timeout(said))


def split(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def _endpoint(text: str) -> str:
    host, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        host, port = text, str(PORT)
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536 or (":" in host and not bracketed) or "/" in host:
        raise Misconfigured(
            f"etcd://{text}: is no endpoint; must be host:port, such as 127.0.0.1:{PORT} or [::1]:{PORT}"
        )
    return f"{host}:{port}"


def _tls(said: Mapping[str, str], hosts: str) -> Tls | None:
    cacert, cert, key = said.get("cacert"), said.get("cert"), said.get("key")
    if bool(cert) != bool(key):
        raise Misconfigured(f"etcd://{hosts}: cert= and key= go together")
    if not cacert:
        if cert:
            raise Misconfigured(f"etcd://{hosts}: cert= and key= need cacert=, the CA that signed etcd's certificate")
        return None
    tls = Tls(cacert, cert, key)
    tls.context()
    return tls


def _password(said: Mapping[str, str], environ: Mapping[str, str]) -> str | None:
    if file := said.get("passwordfile"):
        try:
            return Path(file).read_text().rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise Misconfigured(f"passwordfile={file}: {_reason(error)}") from None
    return said.get("password", environ.get(PASSWORD_VARIABLE))


def _timeout(said: Mapping[str, str]) -> float:
    text = said.get("timeout", "5")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 300:
        raise Misconfigured(f"timeout={text}: must be seconds, more than 0 and at most 300")
    return seconds


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "is not such a file" if not error.reason else error.reason.lower().replace("_", " ")
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
