"""What a kubernetes:// address says: which API servers, and who we are there; read from files, and read again.

    kubernetes://                       inside a pod: its service account; else $KUBECONFIG, else ~/.kube/config
    kubernetes:///PATH/OF/A/KUBECONFIG?context=NAME
    ...?servers=HOST:PORT,HOST:PORT     several API servers of the cluster, tried in turn; else the one of the file
    ...&namespace=NAME                  where our Secrets are; else the one of the service account or the context
    ...&group=projectcalico.org/v3      which form of Calico's kinds; else crd.projectcalico.org/v1, if it is served
    ...&qps=50&burst=100&timeout=10     how much one process asks at most, and how long it waits

A token is replaced on the disk while we run, so `access` is called again from time to time and when we are refused.
Programs that a kubeconfig wants to have started for a token are not started, and TLS is always verified.
"""

import base64
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from felixlite.errors import FelixliteError, Misconfigured
from felixlite.model.kind import CALICO_VERSION, CRD_VERSION
from felixlite.yamltext import values

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PARAMETERS = ("context", "servers", "namespace", "group", "qps", "burst", "timeout")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Server:
    host: str
    port: int
    is_tls: bool = True
    base: str = ""  # a path before /api: a proxy's

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Access:
    """One moment's answer: where to, and as whom. Whatever is secret is not in its repr."""

    servers: tuple[Server, ...]
    authority: str = field(default="", repr=False)  # PEM; empty: the system's
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    server_name: str = ""  # that the certificate is for, if not the host
    namespace: str = "kube-system"

    def context(self) -> ssl.SSLContext:
        try:
            found = ssl.create_default_context(cadata=self.authority or None)
            if self.certificate:
                _load_pair(found, self.certificate, self.key)
        except (ssl.SSLError, ValueError) as error:
            raise Misconfigured(
                f"the certificates for the API server at {self.servers[0]} cannot be read ({error}): they must be in PEM"
            ) from None
        return found


@dataclass(frozen=True, slots=True)
class KubernetesAddress:
    file: Path | None = None  # None: inside a pod
    context: str = ""
    servers: tuple[Server, ...] = ()
    namespace: str = ""
    group: str = ""
    qps: float = 50.0
    burst: int = 100
    timeout: float = 10.0
    service: tuple[str, str] = ("", "")  # the API server's host and port, as a pod is told them
    account: Path = SERVICE_ACCOUNT

    @classmethod
    def parse(cls, url: str, environ: Mapping[str, str], account: Path = SERVICE_ACCOUNT) -> "KubernetesAddress":
        path, _, query = url.removeprefix("kubernetes://").partition("?")
        said = dict(parse_qsl(query, keep_blank_values=True))
        for name in said.keys() - set(PARAMETERS):
            raise Misconfigured(
                f"kubernetes://{path}: there is no parameter {name!r}; there are {', '.join(PARAMETERS)}"
            )
        if path and not path.startswith("/"):
            raise Misconfigured(
                f"kubernetes://{path}: must be kubernetes:// alone or with the absolute path of a kubeconfig"
            )
        if (group := said.get("group", "")) not in ("", CRD_VERSION, CALICO_VERSION):
            raise Misconfigured(f"group={group}: must be {CRD_VERSION} or {CALICO_VERSION}")
        service = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
        found = cls(
            file=Path(path) if path else _usual(environ, account, is_pod=bool(service[0])),
            context=said.get("context", ""),
            servers=tuple(_server(text) for text in filter(None, said.get("servers", "").split(","))),
            namespace=said.get("namespace", ""),
            group=group,
            qps=_number(said, "qps", 50.0),
            burst=int(_number(said, "burst", 100.0)),
            timeout=_number(said, "timeout", 10.0),
            service=service,
            account=account,
        )
        found.access().context()  # what is wrong with it is told now
        return found

    def access(self) -> Access:
        """As the files are now."""
        found = self._from_file(self.file) if self.file else self._from_account()
        servers = self.servers or found.servers
        for server in servers:
            if not server.is_tls and server.host not in LOOPBACK:
                raise Misconfigured(f"http://{server}: an API server elsewhere is asked only over https")
        return Access(
            servers, found.authority, found.certificate, found.key, found.token, found.server_name,
            self.namespace or found.namespace,
        )  # fmt: skip

    def _from_account(self) -> Access:
        host, port = self.service
        servers = (Server(host.strip("[]"), _port(port, host)),) if host else self.servers
        if not servers:
            raise Misconfigured("kubernetes://: KUBERNETES_SERVICE_HOST is not set; give ?servers=HOST:PORT")
        namespace = _text(self.account / "namespace", "") or "kube-system"
        authority, token = _text(self.account / "ca.crt"), _text(self.account / "token").strip()
        return Access(servers, authority=authority, token=token, namespace=namespace.strip())

    def _from_file(self, path: Path) -> Access:
        config = _config(path)
        name = self.context or config.get("current-context") or ""
        context = _named(config, path, "contexts", "context", name)
        cluster = _named(config, path, "clusters", "cluster", str(context.get("cluster", "")))
        user = _named(config, path, "users", "user", str(context.get("user", ""))) if context.get("user") else {}
        for refused in ("exec", "auth-provider"):
            if user.get(refused):
                raise Misconfigured(
                    f"{path}: users[{context['user']}].{refused}: no program is started for a token; give token, "
                    "tokenFile or client-certificate"
                )
        if cluster.get("insecure-skip-tls-verify"):
            raise Misconfigured(f"{path}: insecure-skip-tls-verify: TLS is always verified; give certificate-authority")
        token = user.get("token") or (_text(path.parent / str(user["tokenFile"])) if user.get("tokenFile") else "")
        return Access(
            (_server(str(cluster.get("server", "")), path),),
            authority=_pem(cluster, path, "certificate-authority"),
            certificate=_pem(user, path, "client-certificate"),
            key=_pem(user, path, "client-key"),
            token=str(token).strip(),
            server_name=str(cluster.get("tls-server-name") or ""),
            namespace=str(context.get("namespace") or "kube-system"),
        )


def _usual(environ: Mapping[str, str], account: Path, *, is_pod: bool) -> Path | None:
    if (account / "token").exists() and (is_pod or not environ.get("KUBECONFIG")):
        return None
    named = environ.get("KUBECONFIG", "").partition(":")[0]
    return Path(named) if named else Path(environ.get("HOME", "/root")) / ".kube" / "config"


def _server(text: str, where: object = "servers=") -> Server:
    parts = urlsplit(text if "://" in text else f"https://{text}")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.scheme not in ("https", "http") or not parts.hostname or not port or parts.username or parts.query:
        raise Misconfigured(f"{where}: {text!r} is no API server; must be https://HOST:PORT")
    return Server(parts.hostname, port, parts.scheme == "https", parts.path.rstrip("/"))


def _port(text: str, host: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise Misconfigured(f"KUBERNETES_SERVICE_PORT={text}: is no port (of {host})")
    return int(text)


def _number(said: Mapping[str, str], name: str, default: float) -> float:
    text = said.get(name, "")
    try:
        found = float(text) if text else default
    except ValueError:
        found = 0.0
    if not 1 <= found <= 10_000:
        raise Misconfigured(f"{name}={text}: must be a number from 1 to 10000")
    return found


def _config(path: Path) -> Mapping[str, Any]:
    try:
        documents = values(_text(path), str(path))
    except FelixliteError as error:
        raise Misconfigured(str(error)) from None
    if not documents or not isinstance(documents[0], dict):
        raise Misconfigured(f"{path}: is no kubeconfig: must have clusters, users and contexts")
    return documents[0]


def _named(config: Mapping[str, Any], path: Path, listed: str, inner: str, name: str) -> Mapping[str, Any]:
    every = config.get(listed)
    for one in every if isinstance(every, list) else ():
        if isinstance(one, dict) and one.get("name") == name and isinstance(one.get(inner), dict):
            found: Mapping[str, Any] = one[inner]
            return found
    raise Misconfigured(f"{path}: {listed}: there is none named {name!r}")


def _pem(entry: Mapping[str, Any], path: Path, name: str) -> str:
    """Given itself in base64, or as the name of a file beside the kubeconfig."""
    if data := entry.get(f"{name}-data"):
        try:
            return base64.b64decode(str(data), validate=True).decode()
        except ValueError:
            raise Misconfigured(f"{path}: {name}-data: must be base64 of PEM") from None
    return _text(path.parent / str(entry[name])) if entry.get(name) else ""


def _text(path: Path, default: str | None = None) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        if default is not None:
            return default
        said = error.strerror if isinstance(error, OSError) else "is no text"
        raise Misconfigured(f"{path}: {said}: needed to reach the Kubernetes API; see `felixlite get --help`") from None


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL takes files only: one that has no name and is gone with the descriptor."""
    with os.fdopen(os.memfd_create("client-certificate"), "wb") as file:
        file.write(f"{certificate.rstrip()}\n{key}".encode())
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
