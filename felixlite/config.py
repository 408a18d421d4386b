"""Configuration: what each setting is, where its value may come from, and which value is in force. Pure.

Highest first: command line flag, FELIXLITE_* environment, FelixConfiguration `node.<name>`, FelixConfiguration
`default`, built in.  A value that does not parse is skipped with a warning, as if it were not there; nothing that
changes here restarts the process.  Names, meanings and defaults are those of FelixConfiguration (reference 8.2).
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple

from felixlite.addresses import Prefix


@dataclass(frozen=True, slots=True)
class Setting:
    name: str  # as in FelixConfiguration.spec
    default: Any
    parse: Callable[[Any], Any]
    meaning: str


class Value(NamedTuple):
    value: Any
    origin: str  # "flag", "environment", "FelixConfiguration node.n1", "FelixConfiguration default", "built in"


def boolean(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    match str(given).lower():
        case "true" | "1" | "yes" | "t" | "y":
            return True
        case "false" | "0" | "no" | "f" | "n":
            return False
    raise ValueError("true or false")


def number(low: int, high: int) -> Callable[[Any], int]:
    def parse(given: Any) -> int:
        try:
            value = int(given)
        except (TypeError, ValueError, OverflowError):
            value = low - 1
        if isinstance(given, bool) or not low <= value <= high:
            raise ValueError(f"a number from {low} to {high}")
        return value

    return parse


def mask(given: Any) -> int:
    """A bit mask, in hexadecimal with 0x or as a number, with room for four marks."""
    try:
        value = given if isinstance(given, int) else int(str(given), 0)
    except ValueError:
        value = 0
    if isinstance(given, bool) or not 0 < value < 1 << 32 or value.bit_count() < 4:
        raise ValueError("a mask of at least four bits, such as 0xffff0000")
    return value


def one_of(*choices: str) -> Callable[[Any], str]:
    by_lower = {choice.lower(): choice for choice in choices}

    def parse(given: Any) -> str:
        try:
            return by_lower[str(given).lower()]
        except KeyError:
            raise ValueError("one of " + ", ".join(choices)) from None

    return parse


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST = 366 * 86400.0  # no thread can wait for ever in seconds
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


_INTERFACE_PREFIX = re.compile(r"[a-zA-Z0-9_.-]{1,14}")
_INTERFACE_FILTER = re.compile(r"[a-zA-Z0-9_.-]{1,15}|[a-zA-Z0-9_.-]{1,14}\+")


def duration(given: Any) -> float:
    """Go's form (`90s`, `1m30s`) or a plain number of seconds."""
    text = str(given).strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        text += "s"
    seconds = sum(float(count) * _UNITS[unit] for count, unit in _DURATION.findall(text))
    if not text or _DURATION.sub("", text) or seconds > LONGEST:
        raise ValueError("a duration such as 90s or 5m, below a year")
    return seconds


def text(given: Any) -> str:
    return str(given)


def is_loggable(text: str) -> bool:
    """Whether it may stand in a log prefix: rules are text, in which it is quoted."""
    return text.isprintable() and not set(text) & set('"\\$')


def log_prefix(given: Any) -> str:
    if not is_loggable(str(given)):
        raise ValueError('printable text without ", \\ and $')
    return str(given)


def rate(given: Any) -> str:
    if given and not re.fullmatch(r"[1-9]\d{0,3}/(second|minute|hour|day)", str(given)):
        raise ValueError("a rate such as 10/second, at most 9999, per second, minute, hour or day")
    return str(given)


def pattern(given: Any) -> str:
    try:
        re.compile(str(given))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression ({error})") from None
    return str(given)


def names(given: Any) -> tuple[str, ...]:
    parts = given if isinstance(given, list) else str(given).split(",")
    return tuple(str(part).strip() for part in parts if str(part).strip())


def interface_prefixes(given: Any) -> tuple[str, ...]:
    found = names(given)
    if not found or not all(_INTERFACE_PREFIX.fullmatch(name) for name in found):
        raise ValueError("one or more beginnings of interface names, each at most 14 of a-z A-Z 0-9 _ . -")
    return found


def interface_filter(given: Any) -> str:
    if given and not _INTERFACE_FILTER.fullmatch(str(given)):
        raise ValueError("an interface's name (at most 15 of a-z A-Z 0-9 _ . -), or its beginning followed by +")
    return str(given)


def patterns(given: Any) -> tuple[str, ...]:
    return tuple(map(pattern, names(given)))


def prefixes(given: Any) -> tuple[Prefix, ...]:
    try:
        return tuple(Prefix.parse(name) for name in names(given))
    except ValueError as error:
        raise ValueError(f"a list of CIDRs ({error})") from None


def address_or_empty(given: Any) -> str:
    if given:
        try:
            return str(ip_address(str(given)))
        except ValueError:
            raise ValueError("an IP address") from None
    return ""


def port_range(given: Any) -> tuple[int, int] | None:
    if not given:
        return None
    low, _, high = str(given).partition(":")
    if low.isdigit() and (not high or high.isdigit()) and 0 < int(low) <= int(high or low) < 65536:
        return int(low), int(high or low)
    raise ValueError("ports as min:max")


_HOST_INTERFACES = r"^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)"
_SKIPPED = "docker.*,cbr.*,dummy.*,podman.*,virbr.*,lxcbr.*,veth.*,lo,br-.*,cali.*,tunl.*,flannel.*,kube-ipvs.*,cni.*"

SETTINGS: tuple[Setting, ...] = (
    Setting("interfacePrefix", ("cali",), interface_prefixes, "what names of workload interfaces begin with"),
    Setting("ipipMTU", 0, number(0, 65535), "MTU of tunl0; 0: the uplink's less 20"),
    Setting("ipipTTL", 0, number(0, 255), "TTL of IPIP's outer header, with ipipPMTUDiscovery; 0: the inner packet's"),
    Setting(
        "ipipPMTUDiscovery", False, boolean, "IPIP's outer header always has DF; false: when the inner packet has it"
    ),
    Setting("vxlanMTU", 0, number(0, 65535), "MTU of vxlan.calico; 0: the uplink's less 50"),
    Setting("vxlanMTUV6", 0, number(0, 65535), "MTU of the IPv6 VXLAN; 0: the uplink's less 70"),
    Setting("vxlanPort", 4789, number(1, 65535), "UDP port of VXLAN"),
    Setting("vxlanVNI", 4096, number(1, 2**24 - 1), "network identifier of VXLAN"),
    Setting("mtuIfacePattern", _HOST_INTERFACES, pattern, "interfaces whose MTU bounds the pods'"),
    Setting("routeRefreshInterval", 90.0, duration, "how often all tables are read again; 0: never"),
    Setting("externalNodesList", (), prefixes, "hosts outside of the cluster that may send IPIP and VXLAN"),
    Setting(
        "defaultEndpointToHostAction", "Drop", one_of("Drop", "Return", "Accept"), "pod to its own host, after policy"
    ),
    Setting("workloadSourceSpoofing", "Disabled", one_of("Disabled", "Any"), "whether pods may ask to send as others"),
    Setting("natOutgoingAddress", "", address_or_empty, "source address of masqueraded traffic; empty: the uplink's"),
    Setting("natPortRange", None, port_range, "ports for masqueraded connections, min:max"),
    Setting(
        "natOutgoingExclusions", "IPPoolsOnly", one_of("IPPoolsOnly", "IPPoolsAndHostIPs"), "what is not masqueraded"
    ),
    Setting(
        "iptablesNATOutgoingInterfaceFilter", "", interface_filter, "masquerade only what leaves by these interfaces"
    ),
    Setting(
        "serviceLoopPrevention",
        "Drop",
        one_of("Drop", "Reject", "Disabled"),
        "traffic to service addresses nobody owns",
    ),
    Setting("allowVXLANPacketsFromWorkloads", False, boolean, "let pods send VXLAN"),
    Setting("allowIPIPPacketsFromWorkloads", False, boolean, "let pods send IPIP"),
    Setting("keepPodAddresses", False, boolean, "keep other programs' NAT rules away from what pods send to pods"),
    Setting("iptablesFilterDenyAction", "Drop", one_of("Drop", "Reject"), "what denied packets get, on every backend"),
    Setting("iptablesMarkMask", 0xFFFF0000, mask, "the packet mark bits that policy may use, on every backend"),
    Setting("disableConntrackInvalidCheck", False, boolean, "let pass what connection tracking calls invalid"),
    Setting(
        "logPrefix", "calico-packet", log_prefix, "what the lines of Log rules begin with; %t %k %n %p: the policy"
    ),
    Setting("logActionRateLimit", "", rate, "how many lines Log rules write, as 10/second; empty: one a packet"),
    Setting("logActionRateLimitBurst", 5, number(1, 9999), "how many lines Log rules write before the rate counts"),
    Setting("ipipEnabled", None, boolean, "guard IPIP; unset: when a pool uses it"),
    Setting("vxlanEnabled", None, boolean, "guard VXLAN; unset: when a pool uses it"),
    Setting("nftablesMode", "Auto", one_of("Auto", "Enabled", "Disabled"), "nftables or iptables"),
    Setting(
        "nftablesFlowTableOffload",
        "Disabled",
        one_of("Disabled", "All"),
        "All: forward running TCP and UDP connections of pods past the packet filters (docs/policy.md)",
    ),
    Setting("iptablesBackend", "Auto", one_of("Auto", "Legacy", "NFT"), "which iptables"),
    Setting("chainInsertMode", "Insert", one_of("Insert", "Append"), "our jumps first or last in the kernel's chains"),
    Setting("ipForwarding", "Enabled", one_of("Enabled", "Disabled"), "Disabled: leave the forwarding sysctls alone"),
    Setting("ipv6Support", True, boolean, "handle IPv6"),
    Setting("logSeverityScreen", "Info", one_of("Debug", "Info", "Warning", "Error", "Fatal"), "what is logged"),
    Setting("logFormat", "Text", one_of("Text", "JSON"), "lines for people, or JSON"),
    Setting("reportingInterval", 30.0, duration, "how often a node gives a sign of life in the store; 0: never"),
    Setting("reportingTTL", 90.0, duration, "after which silence a node counts as gone"),
    Setting("healthEnabled", True, boolean, "serve /liveness and /readiness"),
    Setting("healthHost", "localhost", text, "address of the health server"),
    Setting("healthPort", 9099, number(0, 65535), "port of the health server"),
    Setting("prometheusMetricsEnabled", False, boolean, "serve /metrics"),
    Setting("prometheusMetricsHost", "", text, "address of the metrics server; empty: all"),
    Setting("prometheusMetricsPort", 9091, number(0, 65535), "port of the metrics server"),
    Setting("ipAutodetectionMethod", "first-found", text, "how the node's IPv4 address is found"),
    Setting("ip6AutodetectionMethod", "none", text, "how the node's IPv6 address is found"),
    Setting("skipInterfaces", names(_SKIPPED), patterns, "interfaces that first-found does not look at"),
    Setting(
        "ipipCarrier",
        "Auto",
        one_of("Auto", "Kernel", "EBPF", "UserSpace"),
        "what carries IPIP; read at start, from flags and environment",
    ),
    Setting("bgpAcceptDefaultRoute", False, boolean, "install a default route that a BGP peer tells"),
    Setting("bgpAcceptOwnSubnet", False, boolean, "install what a BGP peer tells about the node's own subnet"),
    Setting(
        "bgpMaxPrefixes",
        0,
        number(0, 2**31 - 1),
        "shut a BGP session that tells more, where its BGPPeer names no maximum; 0: never",
    ),
    Setting("waitForAccepts", 10.0, duration, "how long a sender waits for a node to accept a new encapsulation"),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}
_BY_ENVIRONMENT = {setting.name.upper(): setting.name for setting in SETTINGS}
ENVIRONMENT = "FELIXLITE_"


@dataclass(frozen=True, slots=True)
class Settings:
    """The values in force. `settings["vxlanPort"]`; two are equal when nothing differs, origins included."""

    values: Mapping[str, Value]
    warnings: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        return self.values[name].value


def from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """FELIXLITE_VXLANPORT or FELIXLITE_VXLAN_PORT -> vxlanPort. Variables that are no setting are not ours to judge."""
    found = {}
    for variable, given in environment.items():
        if variable.upper().startswith(ENVIRONMENT):
            name = _BY_ENVIRONMENT.get(variable.upper().removeprefix(ENVIRONMENT).replace("_", ""))
            if name:
                found[name] = given
    return found


def effective(
    flags: Mapping[str, Any], environment: Mapping[str, str], configurations: Mapping[str, Mapping[str, Any]], here: str
) -> Settings:
    """Every setting with the value in force and where it came from."""
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("flag", flags),
        ("environment", from_environment(environment)),
        (f"FelixConfiguration node.{here}", configurations.get(f"node.{here}", {})),
        ("FelixConfiguration default", configurations.get("default", {})),
    ]
    warnings: list[str] = []
    values = {setting.name: _first(setting, layers, warnings) for setting in SETTINGS}
    _drop_ttl_without_df(values, warnings)
    return Settings(values, (*warnings, *_unknown(layers[2:])))


def _first(setting: Setting, layers: list[tuple[str, Mapping[str, Any]]], warnings: list[str]) -> Value:
    for origin, given in layers:
        if (value := given.get(setting.name)) is None:
            continue
        try:
            return Value(setting.parse(value), origin)
        except ValueError as error:
            warnings.append(f"{origin}: {setting.name}: {value!r}: must be {error}; ignored")
    return Value(setting.default, "built in")


def fault_of_ttl(ttl: Any, pmtu_discovery: Any) -> str:
    """What is wrong with the two together: the kernel's tunnel sets DF with a TTL of its own (net/ipv4/ip_tunnel.c)."""
    return "needs ipipPMTUDiscovery: true; without it only ipipTTL 0 goes" if ttl and not pmtu_discovery else ""


def _drop_ttl_without_df(values: dict[str, Value], warnings: list[str]) -> None:
    ttl = values["ipipTTL"]
    if fault := fault_of_ttl(ttl.value, values["ipipPMTUDiscovery"].value):
        warnings.append(f"{ttl.origin}: ipipTTL: {ttl.value!r}: {fault}; ignored")
        values["ipipTTL"] = Value(0, "built in")


def _unknown(layers: list[tuple[str, Mapping[str, Any]]]) -> Iterator[str]:
    for origin, given in layers:
        for name in given.keys() - _BY_NAME.keys():
            yield f"{origin}: {name}: no meaning here; kept and ignored"
