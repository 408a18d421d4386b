"""What commands say: of mistakes and malformed files, as help, as completion."""

from collections.abc import Callable

import pytest

from felixlite.cli.main import COMMANDS, felixlite
from tests.support.command import POOL, Felixlite, Lasting, spec_of


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nonsense",), 2, "there is no command 'nonsense'; see `felixlite --help`"),
        (("aply",), 2, "there is no command 'aply'; did you mean 'apply'?; see `felixlite --help`"),
        (("get", "gizmos"), 2, "there is no kind 'gizmos'"),
        (("get", "ipools"), 2, "did you mean ippools?"),
        (("get", "ippool", "nope"), 1, "there is no IPPool nope"),
        (("get", "ippools", "--colour"), 2, "No such option"),
        (("apply",), 2, "say which files: -f FILE"),
        (("apply", "-f", "/nowhere/x.yaml"), 1, "/nowhere/x.yaml: No such file or directory"),
        (("delete", "ippool"), 2, "say which ippools to delete by name"),
        (("delete",), 2, "say which resources: KIND NAME... or -f FILE"),
        (("get", "ippools", "-l", "a in b"), 2, "--selector"),
    ],
)
def test_a_mistake_gets_one_line_and_an_exit_code(
    call: Felixlite, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ran = call(*arguments)
    assert ran.code == code
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("felixlite: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "line 2, column 1: "),
        ("- 1", "must be a mapping"),
        ("kind: IPPool", "apiVersion: None: must be projectcalico.org/v3"),
        ("{apiVersion: v9, kind: IPPool, metadata: {name: p}}", "apiVersion: 'v9': must be projectcalico.org/v3"),
        ("{apiVersion: projectcalico.org/v3, kind: IPPol}", "did you mean IPPool?"),
        ("a: 1\na: 2", "line 2, column 1: 'a' is given twice"),
        ("", "there is no document in it"),
        ("{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: 3, spec: x}", "metadata: 3: must be a mapping"),
        ("{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: [1]}, spec: {}}", "metadata.name: [1]"),
        ("&a [*a]", "must be a mapping"),
    ],
)
def test_a_malformed_file_is_explained(call: Felixlite, written: Callable[..., str], text: str, message: str) -> None:
    ran = call("apply", "-f", written(text))
    assert ran.code == 1
    assert message in ran.err


def test_yaml_is_read_as_kubernetes_reads_it(call: Felixlite, store: Lasting, written: Callable[..., str]) -> None:
    document = """
apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default, annotations: {when: 2026-01-01}}
spec:
  prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [65000:30]}]
"""
    assert call("apply", "-f", written(document)).code == 0
    assert spec_of(store, "BGPConfiguration", "default")["prefixAdvertisements"][0]["communities"] == ["65000:30"]


def test_every_command_has_help_with_an_example(call: Felixlite) -> None:
    for name in COMMANDS:
        command = felixlite.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert f"felixlite {name}" in (command.help or ""), name


def test_completion_is_offered_for_three_shells(call: Felixlite) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert "_FELIXLITE_COMPLETE" in call("completion", shell).out


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("felixlite appl", ["apply"]),
        ("felixlite get ipp", ["ippools"]),
        ("felixlite get ippools ", ["p"]),
        ("felixlite delete ippool x", []),
        ("felixlite edit ippool p", ["p"]),
        ("felixlite get gizmos p", []),
    ],
)
def test_commands_kinds_and_names_are_completed(
    call: Felixlite, written: Callable[..., str], monkeypatch: pytest.MonkeyPatch, words: str, offered: list[str]
) -> None:
    call("apply", "-f", written(POOL))
    monkeypatch.setenv("_FELIXLITE_COMPLETE", "fish_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", words.rsplit(" ", maxsplit=1)[-1])
    monkeypatch.setattr("sys.exit", lambda _: None)
    lines = call().out.split()
    assert [line.partition(",")[2] for line in lines if line.startswith("plain,")] == offered


def test_explain_says_what_a_kind_and_a_field_are(call: Felixlite) -> None:
    assert "cidr" in call("explain", "ippool.spec").out
    said = " ".join(call("explain", "ippool.spec.ipipMode").out.split())
    assert "Type: Never | Always | CrossSubnet. Default: Never." in said
    assert "IPPool has no field 'spec.x'" in call("explain", "ippool.spec.x").err


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{kind: HostEndpoint, metadata: {name: h}, spec: {node: n1, interfaceName: eth0}}", "HostEndpoint h: host endpoints are stored and not enforced"),
        ("{kind: GlobalNetworkPolicy, metadata: {name: p}, spec: {applyOnForward: true, preDNAT: true}}", "GlobalNetworkPolicy p: spec.preDNAT: is about host endpoints, which are not enforced"),
        ("{kind: GlobalNetworkPolicy, metadata: {name: p}, spec: {applyOnForward: true, doNotTrack: true}}", "spec.doNotTrack: is about host endpoints"),
        ("{kind: NetworkPolicy, metadata: {name: p, namespace: a}, spec: {ingress: [{action: Allow, http: {methods: [GET]}}]}}", "NetworkPolicy a/p: spec.ingress[0].http: requests are not looked into"),
    ],
)  # fmt: skip
def test_who_writes_what_is_not_enforced_is_told(
    call: Felixlite, written: Callable[..., str], document: str, said: str
) -> None:
    done = call("apply", "-f", written("{apiVersion: projectcalico.org/v3, " + document[1:]))
    assert (done.code, said in done.err) == (0, True)


def test_the_admin_policy_api_is_refused_by_name(call: Felixlite, written: Callable[..., str]) -> None:
    text = "{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: p}, spec: {}}"
    done = call("apply", "-f", written(text))
    assert (done.code, "AdminNetworkPolicy" in done.err) == (1, True)
