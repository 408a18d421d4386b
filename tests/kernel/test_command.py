"""The installed command against a real etcd: what an operator types, and what he sees when things are wrong."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.etcd import Etcd, free_port

FELIXLITE = str(Path(sys.executable).with_name("felixlite"))
POOL = "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.42.0.0/16}}"


def felixlite(*words: str, store: str = "", stdin: str = "", editor: str = "") -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("FELIXLITE")}
    environment |= {"FELIXLITE_STORE": store} if store else {}
    environment |= {"KUBE_EDITOR": editor} if editor else {}
    return subprocess.run(
        [FELIXLITE, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def test_a_pool_goes_in_is_changed_in_an_editor_and_comes_out(empty_etcd: Etcd, tmp_path: Path) -> None:
    url = empty_etcd.url
    assert felixlite("apply", "-f", "-", store=url, stdin=POOL).stdout == "ippool/p created\n"
    sed = f"{shutil.which('sed')} -i 's/ipipMode: Never/ipipMode: CrossSubnet/'"
    assert felixlite("edit", "ippool", "p", store=url, editor=sed).stdout == "ippool/p configured\n"
    shown = felixlite("get", "ippool", "p", "-o", "yaml", store=url)
    assert yaml.safe_load(shown.stdout)["spec"]["ipipMode"] == "CrossSubnet"
    assert "/calico/resources/v3/projectcalico.org/ippools/p" in empty_etcd.ctl(
        "get", "/calico", "--prefix", "--keys-only"
    )
    assert felixlite("diff", "-f", "-", store=url, stdin=shown.stdout).returncode == 0
    assert felixlite("delete", "ippool", "p", store=url).stdout == "ippool/p deleted\n"


def test_ipam_objects_are_read_and_written_like_any_other(empty_etcd: Etcd) -> None:
    document = (
        "{apiVersion: projectcalico.org/v3, kind: IPAMConfiguration, metadata: {name: default}, "
        "spec: {strictAffinity: true, maxBlocksPerHost: 4}}"
    )
    assert felixlite("apply", "-f", "-", store=empty_etcd.url, stdin=document).returncode == 0
    shown = yaml.safe_load(felixlite("get", "ipamconfig", "default", "-o", "yaml", store=empty_etcd.url).stdout)
    assert shown["spec"]["strictAffinity"] is True
    assert shown["spec"]["maxBlocksPerHost"] == 4
    again = felixlite("apply", "-f", "-", store=empty_etcd.url, stdin=document)
    assert again.stdout == "ipamconfiguration/default unchanged\n"


@pytest.mark.parametrize(
    ("words", "store", "code", "says"),
    [
        (("get", "ippools"), "etcd://127.0.0.1:{closed}", 1, "127.0.0.1:{closed}"),
        (("get", "ippools"), "gopher://x", 2, "must be etcd://"),
        (("get", "ippools"), "etcd://", 2, "etcd://"),
        (("--colour",), "", 2, "No such option"),
        (("apply", "-f", "/nowhere"), "memory://", 1, "/nowhere: No such file or directory"),
    ],
)
def test_what_cannot_work_is_one_line_and_an_exit_code(
    words: tuple[str, ...], store: str, code: int, says: str
) -> None:
    port = str(free_port())
    ran = felixlite(*words, store=store.replace("{closed}", port))
    assert ran.returncode == code, ran.stderr
    assert says.replace("{closed}", port) in ran.stderr
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert ran.stdout == ""


def test_a_reader_that_goes_away_early_is_no_error() -> None:
    ran = subprocess.run(
        ["sh", "-c", f'"{FELIXLITE}" --help | head -1; exit "$?"'],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_table_in_a_pipe_has_no_colours(empty_etcd: Etcd) -> None:
    felixlite("apply", "-f", "-", store=empty_etcd.url, stdin=POOL)
    assert "\x1b" not in felixlite("get", "ippools", store=empty_etcd.url).stdout


def test_a_file_that_is_no_text_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    ran = felixlite("validate", "-f", str(path))
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1)


def test_a_port_where_nobody_speaks_etcd_is_explained() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        ran = felixlite("get", "ippools", store=f"etcd://127.0.0.1:{port}")
    assert ran.returncode == 1
    assert str(port) in ran.stderr


def test_the_handbook_of_resources_is_up_to_date() -> None:
    written = Path(__file__).parents[2] / "docs" / "resources.md"
    assert written.read_text() == felixlite("explain", "--markdown").stdout, (
        "run `felixlite explain --markdown >docs/resources.md`"
    )
