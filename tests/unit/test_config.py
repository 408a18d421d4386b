import pytest

from felixlite.config import duration, effective


def test_a_flag_wins_over_environment_node_default_and_built_in():
    stored = {
        "default": {"vxlanPort": 1, "vxlanVNI": 5},
        "node.n1": {"vxlanPort": 2, "ipipMTU": 1400},
        "node.n2": {"ipipMTU": 9},
    }
    found = effective({"vxlanPort": 4}, {"FELIXLITE_VXLANPORT": "3", "FELIXLITE_VXLANMTU": "1450"}, stored, "n1").values

    assert found["vxlanPort"] == (4, "flag")
    assert found["vxlanMTU"] == (1450, "environment")
    assert found["ipipMTU"] == (1400, "FelixConfiguration node.n1")
    assert found["vxlanVNI"] == (5, "FelixConfiguration default")
    assert found["nftablesMode"] == ("Auto", "built in")


def test_a_bad_value_falls_back_to_the_next_layer_with_a_warning():
    settings = effective({}, {"FELIXLITE_VXLAN_PORT": "seventy"}, {"default": {"vxlanPort": 4790}}, "n1")

    assert settings["vxlanPort"] == 4790
    assert settings.warnings == ("environment: vxlanPort: 'seventy': must be a number from 1 to 65535; ignored",)


def test_an_unknown_field_is_named_in_a_warning():
    assert "bpfEnabled" in effective({}, {}, {"default": {"bpfEnabled": True}}, "n1").warnings[0]


@pytest.mark.parametrize(("given", "seconds"), [("90s", 90), ("1m30s", 90), ("250ms", 0.25), (15, 15), ("1.5h", 5400)])
def test_durations_are_read_as_go_writes_them(given, seconds):
    assert duration(given) == pytest.approx(seconds)


@pytest.mark.parametrize("given", ["", "5 parsecs", "s", "-3s", None, "9999h", 10**30, float("inf"), 400 * "9" + "s"])
def test_what_is_no_duration_is_refused(given):
    with pytest.raises(ValueError, match="duration"):
        duration(given)


def test_a_ttl_of_ipips_own_without_df_is_ignored_with_a_warning_that_names_both():
    stored = {"default": {"ipipTTL": 64}, "node.n2": {"ipipPMTUDiscovery": True}}
    here, there = effective({}, {}, stored, "n1"), effective({}, {}, stored, "n2")

    assert here.values["ipipTTL"] == (0, "built in")
    assert here.warnings == (
        "FelixConfiguration default: ipipTTL: 64: needs ipipPMTUDiscovery: true; without it only ipipTTL 0 goes; ignored",
    )
    assert (there["ipipTTL"], there["ipipPMTUDiscovery"], there.warnings) == (64, True, ())


@pytest.mark.parametrize("given", ["", ",", [], ["cali", 'eth0" accept; '], "fifteen-letters", ["a b"], ["$x"]])
def test_without_a_prefix_of_interfaces_policy_would_be_off_so_the_next_layer_counts(given):
    stored = {"node.n1": {"interfacePrefix": given}, "default": {"interfacePrefix": "tap,cali"}}
    settings = effective({}, {}, stored, "n1")

    assert settings.values["interfacePrefix"] == (("tap", "cali"), "FelixConfiguration default")
    assert "node.n1: interfacePrefix" in settings.warnings[0]


@pytest.mark.parametrize(
    ("given", "taken"),
    [("eth0", "eth0"), ("eth+", "eth+"), ("", ""), ('eth0" accept; ', ""), ("+", ""), ("e+h", ""), (16 * "x", "")],
)
def test_the_filter_of_interfaces_for_nat_is_one_name_or_its_beginning(given, taken):
    settings = effective({}, {}, {"default": {"iptablesNATOutgoingInterfaceFilter": given}}, "n1")
    assert settings["iptablesNATOutgoingInterfaceFilter"] == taken


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("vxlanPort", float("inf")),
        ("vxlanPort", float("nan")),
        ("mtuIfacePattern", "a{99999999999}"),
        ("mtuIfacePattern", 9999 * "(" + 9999 * ")"),
        ("mtuIfacePattern", "("),
        ("skipInterfaces", ["lo", "("]),
        ("iptablesMarkMask", float("inf")),
        ("natPortRange", float("inf")),
        ("reportingInterval", float("inf")),
    ],
)
def test_what_no_parser_expects_is_a_warning_like_any_other(name, given):
    assert name in effective({}, {}, {"default": {name: given}}, "n1").warnings[0]
