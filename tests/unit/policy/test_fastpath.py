"""The fast path's rows: which devices, how they are spelled, and how they are read back."""

from felixlite.mirrors import seats
from felixlite.policy.fastpath import RULES, Device, Key, Rules, devices_text, fast_path, listed, made_anew
from felixlite.policy.flowtable import FlowTable
from felixlite.policy.nftables_text import RENDERING

LINKS = {"cali1", "cali2", "eth0", "tunl0", "docker0"}
WANTED = fast_path(("cali",), ["cali1", "cali2", "cali3", "tunl0", "eth0"], LINKS)

# as nft 1.0.6 lists it
LISTED = """table inet felixlite-flows {
	flowtable pods {
		hook ingress priority filter
		devices = { cali1, cali2, eth0, tunl0 }
	}

	chain forwarded {
		type filter hook forward priority 1000; policy accept;
		iifname "cali*" goto established comment "fl@:DIGEST:0"
		oifname "cali*" goto established comment "fl@:DIGEST:1"
	}

	chain established {
		ct state established ct status assured meta l4proto { 6, 17 } fib saddr . mark . iif oif != 0 flow add @pods comment "fl@:DIGEST:2."
	}
}
""".replace("@:DIGEST", f"{RENDERING}:{WANTED[RULES].digest}")


def device(name):
    return Key("device", name)


def test_only_devices_that_are_there_and_take_part():
    assert set(WANTED) == {RULES, *map(device, ("cali1", "cali2", "tunl0", "eth0"))}


def test_what_is_listed_is_what_was_wanted():
    assert listed(LISTED) == WANTED


def test_a_flowtable_without_devices():
    assert listed(LISTED.replace("\t\tdevices = { cali1, cali2, eth0, tunl0 }\n", "")) == {RULES: WANTED[RULES]}


def test_rules_that_somebody_changed_are_not_what_was_wanted():
    lines = LISTED.splitlines(keepends=True)
    flow_add = next(at for at, line in enumerate(lines) if "flow add" in line)
    for changed in (
        "".join(lines[:flow_add] + lines[flow_add + 1 :]),  # a rule is gone
        LISTED.replace("\t\toifname", "\t\taccept\n\t\toifname"),  # one is new
        LISTED.replace("\n}\n", "\n\tchain more {\n\t}\n}\n"),
        LISTED[: LISTED.index("\tchain established")] + "}\n",
    ):
        assert listed(changed)[RULES] != WANTED[RULES]
    assert listed("table inet felixlite-flows {\n}\n") == {RULES: Rules("broken")}


def test_another_prefix_is_another_set_of_rules():
    assert fast_path(("cali", "tap"), [], ())[RULES] != WANTED[RULES]


def test_only_what_lasts_and_comes_back_by_the_same_way_is_taken_and_after_everybody_elses_rules():
    text = "\n".join(made_anew(WANTED[RULES], ["cali1"]))

    assert "hook forward priority 1000" in text
    (flow_add,) = [line for line in text.splitlines() if "flow add" in line]
    assert (
        "ct state established ct status assured meta l4proto { tcp, udp } fib saddr . mark . iif oif != 0" in flow_add
    )
    assert text.endswith('flowtable inet felixlite-flows pods { hook ingress priority filter; devices = { "cali1" }; }')


def test_a_transaction_names_no_more_devices_at_a_time_than_the_kernel_takes():
    lines = [*devices_text("add", [f"cali{number}" for number in range(450)])]

    assert [line.count("cali") for line in lines] == [200, 200, 50]
    assert list(devices_text("delete", [])) == []


def test_rows_as_a_person_reads_them():
    assert str(WANTED[RULES]) == "flows of cali*"
    assert str(Rules("x")) == "x"
    assert f"{device('eth0')} {Device()}" == "device eth0 "


def test_a_link_that_is_made_anew_has_to_be_put_in_again():
    upon = seats(FlowTable())
    assert upon
    assert upon.upon(["cali1"], WANTED) == [Key("device", "cali1")]
