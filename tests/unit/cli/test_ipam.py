import json

import pytest

import felixlite.cli.ipam
from felixlite.addresses import Prefix
from felixlite.cli.ipam import shortened
from felixlite.cli.main import run
from felixlite.cli.session import Session
from felixlite.datastore.store import Key
from felixlite.errors import Unreachable
from felixlite.ipam.assign import View, pools_for
from felixlite.ipam.reading import read_pools
from tests.unit.ipam.cluster import Cluster
from tests.unit.ipam.world import wants


class Command:
    def __init__(self, capsys):
        self.cluster, self.capsys = Cluster(), capsys
        self.cluster.now = 1_700_000_000.0
        self.cluster.store.close = lambda: None

    def __call__(self, *arguments):
        session = Session(connect=lambda _: self.cluster.store, url="memory://")
        self.code = run(["ipam", *arguments], session)
        said = self.capsys.readouterr()
        self.err = said.err
        return said.out

    def json(self, *arguments):
        return json.loads(self(*arguments, "-o", "json"))


@pytest.fixture
def ipam(capsys, monkeypatch):
    monkeypatch.setattr(felixlite.cli.ipam, "PAUSE", 0)
    return Command(capsys)


def test_show_counts_by_pool(ipam):
    (pool,) = ipam.json("show")["pools"]

    assert (pool["pool"], pool["total"], pool["used"], pool["free"], pool["blocks"]) == ("default", 256, 4, 252, 2)
    assert "4 (2%)" in ipam("show")
    assert ipam("show", "--borrowed") == "none\n"


def test_show_blocks_of_one_node(ipam):
    found = ipam.json("show", "--blocks", "--node", "n2")["blocks"]

    assert [(block["node"], block["used"]) for block in found] == [("n2", 1)]
    assert "Block" in ipam("show", "--blocks")
    ipam("show", "--node", "n9")
    assert "there is no Node n9" in ipam.err


def test_show_tells_whose_an_address_is(ipam):
    address = str(ipam.cluster.address_of("a").first)

    found = ipam.json("show", "--ip", address)

    assert (found["holder"], found["owner"], found["state"]) == ("pod ns/a", "n1", "in use")
    assert found["endpoints"] == ["WorkloadEndpoint ns/n1-k8s-a-eth0"]
    assert "pod ns/a" in ipam("show", "--ip", address)
    assert "is in no pool" in ipam("show", "--ip", "192.0.2.9")


def test_show_marks_what_is_leaked_and_borrowed(ipam):
    ipam.cluster.node("n2").assign_address(
        wants("k8s.lent", node="n2", pod="lent"), ipam.cluster.block().cidr.address(40)
    )

    assert ipam.json("show")["pools"][0]["leaked"] == 1
    assert [row["node"] for row in ipam.json("show", "--borrowed")] == ["n2"]


def test_a_long_bar_shows_the_worst_of_what_a_character_stands_for():
    assert shortened("....", 64) == "...."
    assert shortened("#..!" + "." * 252, 64) == "!" + "." * 63


def test_check_ends_with_1_when_something_is_wrong_and_0_after_the_repair(ipam):
    assert ipam("check").strip() == "nothing is wrong"
    assert ipam.code == 0
    ipam.cluster.node().release_handle("k8s-pod-network.aa")

    assert "address-not-allocated" in ipam("check")
    assert ipam.code == 1
    assert "repaired: address-not-allocated" in ipam("check", "--fix")
    assert ipam.code == 0


def test_leaks_of_a_report_are_released_and_nothing_else(ipam, tmp_path):
    ipam.cluster.now = 1_000_000.0  # long ago
    (leaked,) = ipam.cluster.node().assign(wants("k8s-pod-network.gone", pod="gone")).addresses
    before = ipam.cluster.live()
    report = tmp_path / "report.json"
    report.write_text(ipam("check", "-o", "json"))

    assert ipam("release", "--from-report", str(report)) == f"{leaked.first} released\n"
    assert ipam("release", "--from-report", str(report)) == f"{leaked.first} free already\n"
    assert ipam.cluster.live() == before


def test_an_address_in_use_is_not_released_without_force(ipam):
    address = str(ipam.cluster.address_of("a").first)

    ipam("release", "--ip", address)
    assert ipam.code == 1
    assert f"{address} is used by WorkloadEndpoint ns/n1-k8s-a-eth0" in ipam.err
    assert ipam("release", "--ip", address, "--force") == f"{address} released\n"


def test_release_and_split_say_in_json_what_became(ipam):
    free, used = "10.0.0.200", str(ipam.cluster.address_of("a").first)

    released = ipam.json("release", "--ip", used, "--ip", free, "--force")
    split = ipam.json("split", "default", "2", "--dry-run")

    assert released == {"released": [used], "free already": [free], "kept": []}
    assert [part["cidr"] for part in split["made"]] == ["10.0.0.0/25", "10.0.0.128/25"]
    assert (split["deleted"], split["dryRun"]) == ("default", True)
    assert pools_that_assign(ipam.cluster.store) == ["default"]


def test_a_file_that_is_no_report_is_refused(ipam, tmp_path):
    (tmp_path / "x").write_text("[]")

    ipam("release", "--from-report", str(tmp_path / "x"))

    assert "is no report of `felixlite ipam check -o json`" in ipam.err


def test_a_pool_is_split_into_equal_parts_without_changing_an_address(ipam):
    before = ipam.cluster.live()

    ipam("split", "default", "4")

    cidrs = [entry.document["spec"]["cidr"] for entry in ipam.cluster.store.list("IPPool").entries]
    assert cidrs == ["10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26", "10.0.0.192/26"]
    assert ipam.cluster.live() == before
    assert ipam.cluster.findings() == []


@pytest.mark.parametrize("made", range(5))
def test_a_split_that_was_cut_off_is_finished_by_the_same_command(ipam, monkeypatch, made):
    """Without transactions; `made` parts exist when the store goes away (4: only the old pool is still to go)."""
    store, before = ipam.cluster.store, ipam.cluster.live()
    store.atomic = False
    create, delete = store.create, store.commit
    left = [made]

    def dying(do):
        def do_or_die(*given):
            left[0] -= 1
            if left[0] < 0:
                raise Unreachable("gone")
            return do(*given)

        return do_or_die

    with monkeypatch.context() as patch:
        patch.setattr(store, "create", dying(create))
        patch.setattr(store, "commit", dying(delete))
        ipam("split", "default", "4")
        assert "gone" in ipam.err
    assert pools_that_assign(store) == ["default"]

    ipam("split", "default", "4")

    assert pools_that_assign(store) == [f"split-default-{number}" for number in range(4)]
    assert ipam.cluster.live() == before
    assert ipam.cluster.findings() == []


def pools_that_assign(store):
    view = View(read_pools(store))
    return [pool.name for pool in pools_for(wants(), 4, view, "n1")]


def test_a_split_does_not_take_over_a_pool_of_the_same_name(ipam):
    ipam.cluster.store.atomic = False
    ipam.cluster.put(Key("IPPool", "split-default-1"), {"spec": {"cidr": "10.9.0.0/26"}}, api="projectcalico.org/v3")

    ipam("split", "default", "4")

    assert "IPPool split-default-1 exists with other settings" in ipam.err
    assert "default" in pools_that_assign(ipam.cluster.store)


@pytest.mark.parametrize(("parts", "complaint"), [("3", "power of two"), ("8", "can be split into 4 pools at most")])
def test_a_pool_is_not_split_into_parts_that_do_not_fit(ipam, parts, complaint):
    ipam("split", "default", parts)

    assert complaint in ipam.err


def test_configure_shows_and_changes(ipam):
    assert "strictAffinity:      false" in ipam("configure")

    changed = ipam.json("configure", "--strict-affinity=true", "--max-blocks-per-host=4")
    again = ipam.json("configure", "--max-blocks-per-host=5")

    assert (changed["strictAffinity"], changed["maxBlocksPerHost"]) == (True, 4)
    assert (again["strictAffinity"], again["maxBlocksPerHost"]) == (True, 5)


def test_configure_refuses_what_makes_no_sense(ipam):
    ipam("configure", "--max-blocks-per-host=4")

    assert ipam.code == 1
    assert "needs strictAffinity" in ipam.err


def test_plan_pool_says_whether_it_will_do(ipam):
    assert "will do: 200 of 1024 blocks" in ipam("plan-pool", "10.42.0.0/16", "--nodes", "100", "--pods", "110")
    assert ipam.code == 0


def test_plan_pool_says_what_would_do_instead(ipam):
    said = ipam("plan-pool", "10.42.0.0/24", "--nodes", "10", "--pods", "10")

    assert ipam.code == 1
    assert "10 blocks are needed and it has 4" in said
    assert "use --block-size 28, or take at least a /22" in said
    document = ipam.json("plan-pool", "10.42.0.0/24", "--nodes", "10", "--pods", "10")
    assert document["smallest"] == "10.42.0.0/22"
    assert (document["asked"]["blocksNeeded"], document["better"]["blockSize"]) == (10, 28)


def test_the_size_that_plan_pool_names_is_enough_and_half_of_it_is_not():
    from felixlite.ipam.planning import plan

    verdict = plan(Prefix.parse("10.0.0.0/30"), 37, 150, 26)

    assert verdict.smallest is not None
    assert plan(verdict.smallest, 37, 150, 26).asked.fits
    assert not plan(Prefix(verdict.smallest.packed, verdict.smallest.length + 1), 37, 150, 26).asked.fits
