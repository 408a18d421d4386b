"""What commands write to the store and show of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from felixlite.cli.main import run
from felixlite.cli.session import Session
from felixlite.datastore.store import Bookmark, Changed, Deleted, Document, Entry, Event, Key
from felixlite.errors import Conflict, Unreachable
from tests.support.command import POLICY, POOL, Felixlite, Lasting, labels_of, spec_of


def test_apply_creates_then_leaves_alone_then_changes(call: Felixlite, written: Callable[..., str]) -> None:
    assert call("apply", "-f", written(POOL)).out == "ippool/p created\n"
    assert call("apply", "-f", written(POOL)).out == "ippool/p unchanged\n"
    assert call("apply", "-f", written(POOL.replace("CrossSubnet", "Always"))).out == "ippool/p configured\n"


def test_what_is_stored_shows_its_defaults(call: Felixlite, store: Lasting, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL))
    entry = store.get(Key("IPPool", "p"))
    assert entry is not None
    assert entry.document["spec"]["blockSize"] == 26
    assert entry.document["spec"]["nodeSelector"] == "all()"


def test_nothing_is_written_if_anything_is_wrong(call: Felixlite, store: Lasting, written: Callable[..., str]) -> None:
    ran = call("apply", "-f", written(POOL, POLICY.replace("app == 'web'", "app =")))
    assert ran.code == 1
    assert "NetworkPolicy default/web: spec.selector: 'app =': is not a selector: at column 5" in ran.err
    assert not store.list("IPPool").entries


def test_all_that_is_wrong_is_said_at_once_one_line_each(call: Felixlite, written: Callable[..., str]) -> None:
    ran = call(
        "apply", "-f", written(POOL.replace("10.42.0.0/16", "10.42.0.1/16"), POLICY.replace("selector:", "selektor:"))
    )
    assert ran.err.splitlines() == [
        "felixlite: IPPool p: spec.cidr: '10.42.0.1/16': has bits set beyond its prefix length; write 10.42.0.0/16",
        "felixlite: NetworkPolicy default/web: spec.selektor: '': there is no such field; did you mean selector?",
    ]


def test_an_immutable_field_is_refused(call: Felixlite, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL))
    ran = call("apply", "-f", written(POOL.replace("10.42", "10.43")))
    assert ran.code == 1
    assert "spec.cidr: '10.43.0.0/16': cannot be changed; it is '10.42.0.0/16'" in ran.err


def test_overlapping_pools_are_refused_in_the_store_and_in_the_batch(
    call: Felixlite, written: Callable[..., str]
) -> None:
    other = POOL.replace("name: p", "name: q").replace("10.42.0.0/16", "10.42.128.0/17")
    ran = call("apply", "-f", written(POOL, other))
    assert "IPPool q: spec.cidr: '10.42.128.0/17': overlaps IPPool p, 10.42.0.0/16" in ran.err
    call("apply", "-f", written(POOL))
    assert "overlaps IPPool p" in call("create", "-f", written(other)).err


def test_create_refuses_what_exists_unless_told_to_pass_over_it(call: Felixlite, written: Callable[..., str]) -> None:
    call("create", "-f", written(POOL))
    assert "IPPool p: exists already; apply or replace it" in call("create", "-f", written(POOL)).err
    assert call("create", "--skip-exists", "-f", written(POOL)).out == "ippool/p skipped\n"


def test_replace_refuses_what_does_not_exist(call: Felixlite, written: Callable[..., str]) -> None:
    ran = call("replace", "-f", written(POOL))
    assert (ran.code, ran.out) == (1, "")
    assert "IPPool p: does not exist" in ran.err


def test_a_stale_resource_version_is_refused(call: Felixlite, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL))
    read = call("get", "ippool", "p", "-o", "yaml").out
    call("apply", "-f", written(POOL.replace("CrossSubnet", "Always")))
    assert "metadata.resourceVersion" in call("replace", "-f", written(read)).err


def test_a_lost_race_is_run_again(call: Felixlite, store: Lasting, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL))
    honest, lost = store.update, []

    def beaten(key: Key, document: Document, revision: str) -> Entry:
        if not lost:
            lost.append(key)
            raise Conflict("somebody was faster")
        return honest(key, document, revision)

    store.update = beaten  # type: ignore[method-assign]
    assert call("apply", "-f", written(POOL.replace("CrossSubnet", "Always"))).out == "ippool/p configured\n"


def test_a_failure_in_the_middle_names_what_is_written_and_what_is_not(
    call: Felixlite, store: Lasting, written: Callable[..., str]
) -> None:
    honest = store.create

    def failing(key: Key, document: Document) -> Entry:
        if key.kind == "NetworkPolicy":
            raise Unreachable("nobody answers")
        return honest(key, document)

    store.create = failing  # type: ignore[method-assign]
    ran = call("apply", "-f", written(POOL, POLICY))
    assert ran.code == 1
    assert ran.out == "ippool/p created\n"
    assert ran.err == ("felixlite: nobody answers; written: IPPool p; not written: NetworkPolicy default/web\n")


def test_dry_run_writes_nothing(call: Felixlite, store: Lasting, written: Callable[..., str]) -> None:
    assert call("apply", "--dry-run", "-f", written(POOL)).out == "ippool/p would be created\n"
    assert not store.list("IPPool").entries


def test_a_folder_is_read_in_order_and_deeper_only_when_asked(
    call: Felixlite, written: Callable[..., str], tmp_path: Path
) -> None:
    written(POOL, name="1.yaml")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "2.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": []}))
    (tmp_path / "sub" / "3.yml").write_text(POLICY)
    (tmp_path / "readme.txt").write_text("{{{")
    assert call("apply", "-f", str(tmp_path)).out == "ippool/p created\n"
    assert "networkpolicy/web" in call("apply", "-R", "-f", str(tmp_path)).out


def test_stdin_is_read(call: Felixlite, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(POOL.encode())))
    assert call("apply", "-f", "-").out == "ippool/p created\n"


def test_a_list_of_many_documents_is_taken_apart(call: Felixlite, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL, POLICY))
    everything = call("get", "ippools,networkpolicies", "-A", "-o", "json").out
    assert json.loads(everything)["kind"] == "List"
    assert (
        call("apply", "-f", written(everything)).out == "ippool/p unchanged\nnetworkpolicy/web -n default unchanged\n"
    )


def test_the_custom_resources_form_is_the_same_object(call: Felixlite, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL))
    crd = POOL.replace("projectcalico.org/v3", "crd.projectcalico.org/v1")
    assert call("apply", "-f", written(crd)).out == "ippool/p unchanged\n"


def test_get_shows_a_table_and_more_of_it_when_asked(call: Felixlite, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL, POLICY))
    assert call("get", "ippools").out.splitlines()[0].split() == ["NAME", "CIDR", "SELECTOR"]
    wide = call("get", "pool", "-o", "wide").out.splitlines()
    assert wide[0].split() == (
        ["NAME", "CIDR", "NAT", "IPIPMODE", "VXLANMODE", "DISABLED", "DISABLEBGPEXPORT", "SELECTOR", "ASSIGNMENTMODE"]
    )
    assert wide[1].split() == [
        "p",
        "10.42.0.0/16",
        "false",
        "CrossSubnet",
        "Never",
        "false",
        "false",
        "all()",
        "Automatic",
    ]
    assert call("get", "ippools", "-o", "name").out == "ippool/p\n"
    assert call("get", "ippool/p", "networkpolicy/web", "-o", "name").out == "ippool/p\nnetworkpolicy/web\n"


@pytest.mark.parametrize("labels", ["team=shop", "team == 'shop'", "team", "team!=other", "!canary,team=shop"])
def test_get_chooses_by_label_in_both_ways_of_writing(
    call: Felixlite, written: Callable[..., str], labels: str
) -> None:
    call("apply", "-f", written(POLICY))
    assert call("get", "networkpolicies", "-l", labels, "-o", "name").out == "networkpolicy/web\n"
    assert call("get", "networkpolicies", "-l", "team=food", "-o", "name").out == ""


def test_namespaces_are_kept_apart(call: Felixlite, written: Callable[..., str]) -> None:
    call("apply", "-n", "shop", "-f", written(POLICY))
    assert call("get", "networkpolicies", "-o", "name").out == ""
    assert call("get", "networkpolicies", "-n", "shop", "-o", "name").out == "networkpolicy/web\n"
    assert call("get", "networkpolicies", "-A").out.splitlines()[1].split()[:2] == ["shop", "web"]
    placed = POLICY.replace("name: web", "name: web, namespace: food")
    assert "metadata.namespace: 'food': is not -n shop" in call("apply", "-n", "shop", "-f", written(placed)).err


class Recorded:
    """A watch of which the events are known, and which ends after them."""

    def __init__(self, *events: Event) -> None:
        self.events = events

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def close(self) -> None:
        pass


def test_get_watches_what_changes(call: Felixlite, store: Lasting, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL))
    entry = store.get(Key("IPPool", "p"))
    assert entry is not None
    events = (Changed(entry), Bookmark("2"), Deleted(Key("IPPool", "p"), "3"), Deleted(Key("IPPool", "q"), "4"))
    store.watch = lambda *_: Recorded(*events)  # type: ignore[method-assign]
    assert call("get", "ippool", "p", "-w", "-o", "name").out == "ippool/p\nippool/p\nippool/p deleted\n"
    assert call("get", "ippools", "-w").out.splitlines()[2].split() == ["p", "10.42.0.0/16", "all()"]
    assert call("get", "ippools,nodes", "-w").code == 2


def test_a_node_keeps_what_its_agent_wrote_when_it_is_applied(
    call: Felixlite, store: Lasting, written: Callable[..., str]
) -> None:
    node = "{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: n1}, spec: {bgp: {ipv4Address: 192.0.2.1/24%s}}}"
    call("apply", "-f", written(node % ", ipv4IPIPTunnelAddr: 10.42.0.1"))
    call("apply", "-f", written(node % ", asNumber: 65001"))
    assert spec_of(store, "Node", "n1")["bgp"]["ipv4IPIPTunnelAddr"] == "10.42.0.1"
    call("patch", "node", "n1", "-p", "{spec: {bgp: {ipv4IPIPTunnelAddr: null}}}")
    assert "ipv4IPIPTunnelAddr" not in spec_of(store, "Node", "n1")["bgp"]


def test_a_finalizer_stays_when_applied_and_goes_when_patched(
    call: Felixlite, store: Lasting, written: Callable[..., str]
) -> None:
    call("apply", "-f", written(POOL.replace("{name: p}", "{name: p, finalizers: [a/b]}")))
    call("apply", "-f", written(POOL.replace("CrossSubnet", "Always")))
    assert "a/b" in call("get", "ippool", "p", "-o", "yaml").out
    call("patch", "ippool", "p", "-p", "{metadata: {finalizers: null}}")
    assert "a/b" not in call("get", "ippool", "p", "-o", "yaml").out


def test_export_leaves_out_what_belongs_to_this_cluster(call: Felixlite, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL))
    assert "resourceVersion" not in call("get", "ippool", "p", "-o", "yaml", "--export").out


def test_patch_merges_and_json_patch_operates(call: Felixlite, store: Lasting, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL))
    assert call("patch", "ippool", "p", "-p", "{spec: {natOutgoing: true}}").out == "ippool/p configured\n"
    operation = '[{"op": "replace", "path": "/spec/ipipMode", "value": "Always"}]'
    assert call("patch", "ippool", "p", "-t", "json", "-p", operation).code == 0
    spec = spec_of(store, "IPPool", "p")
    assert (spec["natOutgoing"], spec["ipipMode"]) == (True, "Always")


def test_a_patch_that_makes_it_wrong_is_refused(call: Felixlite, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL))
    assert "must be from 20 to 32" in call("patch", "ippool", "p", "-p", "{spec: {blockSize: 99}}").err
    assert "operation 0: /spec/x: there is no 'x'" in (
        call("patch", "ippool", "p", "-t", "json", "-p", "[{op: remove, path: /spec/x}]").err
    )
    assert "metadata.name" in call("patch", "ippool", "p", "-p", "{metadata: {name: q}}").err


def test_labels_are_set_kept_overwritten_and_removed(
    call: Felixlite, store: Lasting, written: Callable[..., str]
) -> None:
    call("apply", "-f", written(POOL))
    call("label", "ippool", "p", "a=b")
    assert "--overwrite" in call("label", "ippool", "p", "a=c").err
    call("label", "ippool", "p", "a=c", "--overwrite")
    assert labels_of(store) == {"a": "c"}
    call("label", "ippool", "p", "a-")
    assert labels_of(store) == {}


def test_delete_by_name_and_by_file(call: Felixlite, store: Lasting, written: Callable[..., str]) -> None:
    call("apply", "-f", written(POOL, POLICY))
    assert call("delete", "ippool", "p").out == "ippool/p deleted\n"
    assert call("delete", "-f", written(POLICY)).out == "networkpolicy/web -n default deleted\n"
    assert "IPPool p: does not exist" in call("delete", "ippool", "p").err
    assert call("delete", "ippool", "p", "--skip-not-exists").code == 0


def test_a_pool_whose_addresses_are_in_use_is_not_deleted_by_mistake(
    call: Felixlite, store: Lasting, written: Callable[..., str]
) -> None:
    call("apply", "-f", written(POOL))
    store.create(
        Key("IPAMBlock", "b"), {"kind": "IPAMBlock", "spec": {"cidr": "10.42.0.0/26", "allocations": [0, None]}}
    )
    assert "1 addresses of it are in use" in call("delete", "ippool", "p").err
    assert call("delete", "ippool", "p", "--force").code == 0


def test_built_in_tiers_and_tiers_with_policies_stay(call: Felixlite, written: Callable[..., str]) -> None:
    tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: %s}, spec: {order: %s}}"
    call("apply", "-f", written(tier % ("default", 1_000_000)))
    call("apply", "-f", written(tier % ("secure", 1)))
    call("apply", "-f", written(POLICY.replace("{selector", "{tier: secure, selector")))
    assert "Tier default: is built in" in call("delete", "tier", "default").err
    assert "has 1 policies (NetworkPolicy default/web)" in call("delete", "tier", "secure").err


def test_a_policy_needs_its_tier(call: Felixlite, written: Callable[..., str]) -> None:
    ran = call("apply", "-f", written(POLICY.replace("{selector", "{tier: nowhere, selector")))
    assert "spec.tier: 'nowhere': there is no such tier; there are default, kube-admin, kube-baseline" in ran.err


def test_diff_says_what_would_change_by_its_exit_code(call: Felixlite, written: Callable[..., str]) -> None:
    assert call("diff", "-f", written(POOL)).code == 1
    call("apply", "-f", written(POOL))
    assert (call("diff", "-f", written(POOL)).code, call("diff", "-f", written(POOL)).out) == (0, "")
    changed = call("diff", "-f", written(POOL.replace("CrossSubnet", "Always")))
    assert changed.code == 1
    assert "-  ipipMode: CrossSubnet\n+  ipipMode: Always" in changed.out
    assert call("diff", "-f", written("{")).code == 2


def test_validate_needs_no_store(written: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    def refused(_: str) -> Any:
        raise Unreachable("nobody answers")

    assert run(["validate", "-f", written(POOL)], Session(connect=refused)) == 0
    assert capsys.readouterr().out == "1 resource is right\n"


def test_settings_that_mean_nothing_here_are_kept_with_a_warning(
    call: Felixlite, store: Lasting, written: Callable[..., str]
) -> None:
    document = "{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: default}, spec: {bpfEnabled: true}}"
    ran = call("apply", "-f", written(document))
    assert ran.code == 0
    assert "warning: FelixConfiguration default: spec.bpfEnabled: kept, but it means nothing here" in ran.err
    assert spec_of(store, "FelixConfiguration", "default") == {"bpfEnabled": True}


def test_edit_writes_what_the_editor_leaves(
    call: Felixlite, store: Lasting, written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call("apply", "-f", written(POOL))
    monkeypatch.setattr("felixlite.cli.change._edited", lambda text: text.replace("CrossSubnet", "Always"))
    assert call("edit", "ippool", "p").out == "ippool/p configured\n"
    assert spec_of(store, "IPPool", "p")["ipipMode"] == "Always"


def test_edit_comes_again_with_what_is_wrong(
    call: Felixlite, written: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call("apply", "-f", written(POOL))
    seen: list[str] = []

    def editor(text: str) -> str:
        seen.append(text)
        return text.replace("CrossSubnet", "Sometimes") if len(seen) == 1 else text.replace("Sometimes", "Always")

    monkeypatch.setattr("felixlite.cli.change._edited", editor)
    assert call("edit", "ippool", "p").code == 0
    assert seen[1].startswith("# IPPool p: spec.ipipMode: 'Sometimes': must be")


def test_routes_of_another_node_are_read_from_its_report(
    call: Felixlite, store: Lasting, written: Callable[..., str]
) -> None:
    unasked = call("bgp", "routes", "--node", "n2")
    assert unasked.code == 1
    assert "node n2 does not report its routes: nobody has asked it to" in unasked.err
    request = unasked.err.split("'")[1]  # of `echo ... | felixlite apply -f -`
    assert call("apply", "-f", written(request)).code == 0
    assert "it has not answered yet" in call("bgp", "routes", "--node", "n2").err

    entry = store.get(Key("CalicoNodeStatus", "n2"))
    assert entry is not None
    own = {"type": "FIB", "destination": "10.1.0.0/26", "learnedFrom": {"sourceType": "Static"}}
    by = {"sourceType": "BGPPeer", "peerIP": "10.0.0.8"}
    learned = {"type": "RIB", "destination": "10.2.0.0/26", "gateway": "10.0.0.9", "learnedFrom": by}
    status = {"lastUpdated": "2026-01-01T00:00:00Z", "routes": {"routesV4": [own, learned], "routesV6": []}}
    store.update(entry.key, {**entry.document, "status": status}, entry.revision)

    rows = call("bgp", "routes", "--node", "n2").out.splitlines()[1:]
    assert [row.split() for row in rows] == [["10.2.0.0/26", "10.0.0.9", "10.0.0.8", "no"]]
