"""A policy that is written past every check, and one in a tier that is not there: agents say so, and pods still talk."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from felixlite.datastore import connect
from felixlite.datastore.store import Key, Store
from felixlite.lab import world
from felixlite.lab.lab import Lab
from felixlite.lab.world import within

OPEN = [{"action": "Allow"}]
WRONG = [{"action": "Alow"}]


def key(name: str) -> Key:
    return Key("GlobalNetworkPolicy", name)


def document(name: str, **spec: Any) -> dict[str, Any]:
    head = {"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": name}}
    return {**head, "spec": {"tier": "default", "types": ["Ingress"], **spec}}


def written(lab: Lab, name: str, **spec: Any) -> None:
    put(lab, key(name), document(name, **spec))


def put(lab: Lab, key: Key, document: dict[str, Any] | None) -> None:
    """Into the store as it is, as another program might; None: out of it."""

    def write(store: Store) -> None:
        entry = store.get(key)
        if entry and document:
            store.update(entry.key, document, entry.revision)
        elif entry:
            store.delete(entry.key, entry.revision)
        elif document:
            store.create(key, document)

    def connected() -> None:
        with closing(connect(lab.store_url)) as store:
            write(store)

    within(lab.topology.switch, connected)


@pytest.fixture
def scribbled(lab: Lab) -> Iterator[Lab]:
    yield lab
    lab.felixlite("delete", "globalnetworkpolicy", "once-good", "never-good", "--skip-not-exists")
    world.wait_for(lambda: not said(lab, "-good"), "n1 to have nothing to say", 60.0)
    lab.wait_until_green()


def said(lab: Lab, words: str) -> str:
    status = lab.status("n1")
    return "\n".join(line for line in [*status["degraded"], *status["notes"]] if words in line)


def test_what_is_invalid_is_named_and_what_was_in_force_stays(scribbled: Lab) -> None:
    written(scribbled, "once-good", selector="all()", tier="gone", ingress=OPEN)
    world.wait_for(lambda: bool(said(scribbled, "'gone'")), "a word about the tier", 60.0)
    written(scribbled, "once-good", selector="all()", tier="gone", ingress=WRONG)
    written(scribbled, "never-good", selector="role == 'nobody'", ingress=WRONG)
    for name in ("once-good", "never-good"):
        world.wait_for(lambda name=name: bool(said(scribbled, f"{name} is kept out")), f"a word about {name}", 60.0)
    assert "Alow" in said(scribbled, "once-good is kept out")
    scribbled.wait_until_green()


def test_one_that_was_never_good_closes_what_it_selects(scribbled: Lab) -> None:
    written(scribbled, "never-good", selector="all()", ingress=WRONG)
    assert to_pods(scribbled)
    world.wait_for(lambda: not any(to_pods(scribbled)), "nobody to be let in", 60.0)


ODD = {
    "never-good-account": {"ingress": [{"action": "Allow", "source": {"serviceAccounts": {"names": ["a'\"b"]}}}]},
    "never-good-tier": {"tier": 'x"\naccept #', "ingress": [{"action": "Log"}]},
}
UPLINK = Key("WorkloadEndpoint", "odd", "default")


def endpoint() -> dict[str, Any]:
    head = {
        "apiVersion": "projectcalico.org/v3",
        "kind": UPLINK.kind,
        "metadata": {"name": "odd", "namespace": "default"},
    }
    spec = {"node": "n1", "interfaceName": "eth0", "ipNetworks": ["192.0.2.99/32"], "mac": "02:00:00:00:00:99"}
    return {**head, "spec": spec}


def test_no_object_however_odd_ends_the_agent_or_touches_the_nodes_own_link(scribbled: Lab) -> None:
    pid = scribbled.status("n1")["pid"]
    try:
        for name, spec in ODD.items():
            put(scribbled, key(name), document(name, **{"selector": "role == 'nobody'", **spec}))
        put(scribbled, UPLINK, endpoint())
        for words in (*(f"{name} is kept out" for name in ODD), "WorkloadEndpoint default/odd"):
            world.wait_for(lambda words=words: bool(said(scribbled, words)), f"a word about {words}", 60.0)
        scribbled.wait_until_green()
        assert scribbled.status("n1")["pid"] == pid
    finally:
        for each in (*map(key, ODD), UPLINK):
            put(scribbled, each, None)
        world.wait_for(lambda: not said(scribbled, "/odd"), "n1 to have nothing to say", 60.0)


def test_what_is_stored_and_not_enforced_is_named_while_it_is_there(scribbled: Lab) -> None:
    written(scribbled, "once-good", selector="all()", ingress=OPEN, doNotTrack=True, applyOnForward=True)
    world.wait_for(lambda: "doNotTrack" in said(scribbled, "once-good"), "a word about doNotTrack", 60.0)
    written(scribbled, "once-good", selector="all()", ingress=OPEN)
    world.wait_for(lambda: not said(scribbled, "once-good"), "no word about a policy that is in force", 60.0)


def to_pods(lab: Lab) -> list[bool]:
    """Who was answered of those that called a pod."""
    pods = {pod.name for pod in lab.pods()}
    return [cell.answered > 0 for cell in lab.ping(patience=0.2) if cell.target.name in pods]
