"""Who may speak to this server, and how they know that it is this one: a CA of its own, a token, client certificates.

Made on the first start in a folder that only its owner can read, and kept: a client's kubeconfig stays good.  The keys are
made by the openssl command, so that no cryptography of our own is needed.
"""

import hmac
import ipaddress
import json
import os
import secrets
import ssl
import subprocess
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from felixlite.apiserver.requests import User
from felixlite.errors import Misconfigured

ADMIN = User("felixlite-admin", ("system:masters", "system:authenticated"))
DAYS = 3650
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class Identity:
    """The files of a server."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    def pair(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    def made(self, hosts: Sequence[str]) -> "Identity":
        """With everything in it; what is there is kept, and the server's certificate is made anew for other hosts."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.ca.exists():
            self._make_ca()
        if not all(path.exists() for path in self.pair("admin")):
            self._issue("admin", f"/O={ADMIN.groups[0]}/CN={ADMIN.name}", ["extendedKeyUsage=clientAuth"])
        wanted = "\n".join(hosts)
        noted = self.folder / "server.hosts"
        if not all(path.exists() for path in self.pair("server")) or _text(noted) != wanted:
            names = ",".join(f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts)
            self._issue("server", f"/CN={hosts[0]}", ["extendedKeyUsage=serverAuth", f"subjectAltName={names}"])
            noted.write_text(wanted)
        if not self.token_file.exists():
            _write_secret(self.token_file, secrets.token_urlsafe(32))
        return self

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        cert, key = self.pair("server")
        try:
            context.load_cert_chain(cert, key)
            context.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"{self.folder}: {error}; remove the folder to have new certificates made") from None
        context.verify_mode = ssl.CERT_OPTIONAL
        context.set_alpn_protocols(["http/1.1"])
        return context

    def kubeconfig(self, url: str) -> str:
        """JSON, which is YAML. Two users: by token, and by certificate."""
        cert, key = self.pair("admin")
        cluster = {"server": url, "certificate-authority-data": _base64(self.ca)}
        by_cert = {"client-certificate-data": _base64(cert), "client-key-data": _base64(key)}
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "felixlite", "cluster": cluster}],
            "users": [
                {"name": "token", "user": {"token": self.token_file.read_text().strip()}},
                {"name": "certificate", "user": by_cert},
            ],
            "contexts": [
                {"name": "felixlite", "context": {"cluster": "felixlite", "user": "token"}},
                {"name": "felixlite-certificate", "context": {"cluster": "felixlite", "user": "certificate"}},
            ],
            "current-context": "felixlite",
        }
        return json.dumps(config, indent=2) + "\n"

    def write_kubeconfig(self, path: Path, url: str) -> None:
        _write_secret(path, self.kubeconfig(url))

    def user_of_token(self, token: str) -> User | None:
        """The file is read every time: a new token is good, and an old one bad, at once."""
        known = _text(self.token_file).strip()
        return ADMIN if known and hmac.compare_digest(known.encode(), token.encode()) else None

    def _make_ca(self) -> None:
        cert, key = self.pair("ca")
        words = ["req", "-x509", *_KEY, "-days", str(DAYS), "-subj", "/CN=felixlite apiserver CA"]
        _openssl([*words, "-keyout", str(key), "-out", str(cert)])

    def _issue(self, name: str, subject: str, extensions: Sequence[str]) -> None:
        cert, key = self.pair(name)
        ca, ca_key = self.pair("ca")
        request, told = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        told.write_text("\n".join(("basicConstraints=CA:FALSE", *extensions, "")))
        _openssl(["req", *_KEY, "-subj", subject, "-keyout", str(key), "-out", str(request)])
        signed = ["x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key)]
        serial = str(secrets.randbits(63))
        _openssl([*signed, "-set_serial", serial, "-days", str(DAYS), "-extfile", str(told), "-out", str(cert)])
        request.unlink()
        told.unlink()


def user_of_certificate(certificate: Any) -> User | None:
    """Of a certificate that TLS has verified: its common name and its organizations, as Kubernetes does."""
    if not certificate:
        return None
    said = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for field, value in said if field == "commonName"), "")
    groups = tuple(value for field, value in said if field == "organizationName")
    return User(name, (*groups, "system:authenticated")) if name else None


def _openssl(words: Sequence[str]) -> None:
    try:
        done = subprocess.run(["openssl", *words], capture_output=True, text=True, timeout=60, check=False, umask=0o077)
    except FileNotFoundError:
        raise Misconfigured(
            "the openssl command makes this server's certificates and is not there: install openssl"
        ) from None
    if done.returncode:
        raise Misconfigured(f"openssl {words[0]}: {done.stderr.strip().splitlines()[-1:]}")


def _write_secret(path: Path, text: str) -> None:
    """Never readable by others, not even for a moment; whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _base64(path: Path) -> str:
    return b64encode(path.read_bytes()).decode()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
