"""A self-made CA and certificates, by the openssl command."""

import subprocess
from itertools import count
from pathlib import Path

from tests.support.etcd import Certificates


class Authority:
    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder, self.name = folder, name
        self.cert, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        _openssl(
            "req", "-x509", *_NEW, "-keyout", self.key, "-out", self.cert, "-days", "2", "-subj", f"/CN=test {name}"
        )

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """Certificate and key for IP addresses; for servers and clients."""
        cert, key, request = (self.folder / f"{self.name}-{name}.{end}" for end in ("pem", "key", "csr"))
        extensions = self.folder / f"{name}.ext"
        alternatives = "".join(f"subjectAltName=IP:{',IP:'.join(hosts)}\n" if hosts else "")
        extensions.write_text(f"extendedKeyUsage=serverAuth,clientAuth\n{alternatives}")
        _openssl("req", *_NEW, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signed = ["-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days", "2", "-extfile", extensions]
        _openssl("x509", "-req", "-in", request, "-out", cert, *signed)
        return cert, key

    def server(self, *hosts: str, wants_clients: bool = False) -> Certificates:
        """In files of its own: a server that runs reads its certificate again with every connection."""
        cert, key = self.issue(f"server{next(_numbers)}", *hosts)
        return Certificates(self.cert, cert, key, self.cert if wants_clients else None)


_numbers = count()
_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=20)
