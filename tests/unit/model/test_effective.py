from felixlite.addresses import Prefix
from felixlite.model.effective import bgp_configuration
from felixlite.model.inside import BgpConfiguration, PrefixAdvertisement, SecretRef
from felixlite.model.parse import parse
from tests.unit.model.examples import documents


def test_without_any_the_defaults_are_in_force() -> None:
    assert bgp_configuration({}, "n1") == BgpConfiguration()


def test_everything_that_is_written_is_read() -> None:
    spec = documents()["BGPConfiguration"]["spec"]
    found = bgp_configuration({"default": spec}, "n1")
    assert found.asn == 65546
    assert found.listen_port == 1179
    assert found.bind_to_node_address
    assert found.mesh_password == SecretRef("bgp", "mesh")
    assert found.mesh_restart_time == 60
    assert found.advertisements == (PrefixAdvertisement(Prefix.parse("10.42.0.0/16"), ("65000:1", "65000:2")),)
    assert found.service_cluster_cidrs == (Prefix.parse("10.96.0.0/12"),)
    assert found.ignored_interfaces == ("docker*",)


def test_a_node_overrides_only_what_it_may() -> None:
    configurations = {"default": {"asNumber": 1, "listenPort": 179}, "node.n1": {"asNumber": 2, "listenPort": 180}}
    assert bgp_configuration(configurations, "n1").asn == 1
    assert bgp_configuration(configurations, "n1").listen_port == 180
    assert bgp_configuration(configurations, "n2").listen_port == 179


def test_other_names_mean_nothing() -> None:
    assert bgp_configuration({"mine": {"asNumber": 1}}, "n1") == BgpConfiguration()


def test_peers_mean_what_they_say() -> None:
    document = documents()["BGPPeer"]
    peer = parse(document).inside()
    assert (str(peer.peer_ip), peer.peer_port, peer.asn, peer.local_asn) == ("192.0.2.1", 1179, 65000, 65537)
    assert (peer.hold_time, peer.keepalive, peer.restart_time) == (9, 3, 120)
    assert peer.passive
    assert peer.password == SecretRef("bgp", "tor")
    document["spec"] = {"peerIP": "192.0.2.0/24", "asNumber": "external", "keepOriginalNextHop": True}
    peer = parse(document).inside()
    assert peer.peer_range == Prefix.parse("192.0.2.0/24")
    assert peer.peer_ip is None
    assert peer.passive
    assert (peer.asn, peer.asn_relation, peer.next_hop_mode) == (None, "external", "Keep")


def test_filters_mean_what_they_say() -> None:
    found = parse(documents()["BGPFilter"]).inside()
    (rule,) = found.exports[4]
    assert (rule.accept, rule.operator, rule.min_length, rule.max_length) == (True, "In", 8, 24)
    assert (rule.remote_only, rule.interface, rule.peer_type, rule.community) == (True, "eth*", "eBGP", "65000:1")
    assert rule.as_path_prefix == (65000, 65546)
    assert [o.add_community for o in rule.operations] == ["65000:2:3", "", ""]
    assert [o.prepend for o in rule.operations] == [(), (65000,), ()]
    assert [o.set_priority for o in rule.operations] == [None, None, 5]
    assert found.imports[6][0].accept is False
    assert found.imports[4] == ()
