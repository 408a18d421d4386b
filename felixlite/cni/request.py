"""What the runtime asks, read from what the plugin sent, with the refusals that the specification wants. Pure.

Before this is the socket (server.py); after it are attachments.py and checks.py, which see only Requests that are well formed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any, Final

from felixlite.cni.errors import CniError, Code
from felixlite.cni.names import handle_id

VERSIONS: Final = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST: Final = VERSIONS[-1]
NETWORK_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
LONGEST_CONTAINER: Final = 200  # with the interface it becomes the name of a file, which ends at 255
SINCE: Final = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
NEEDED: Final = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
}
IPAM_TYPES: Final = (None, "", "felixlite", "felixlite-ipam", "calico-ipam")


@dataclass(frozen=True, slots=True)
class Request:
    command: str
    config: Mapping[str, Any]
    container: str = ""
    interface: str = ""  # in the pod
    netns: str = ""
    args: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        return str(self.config["cniVersion"])

    @property
    def network(self) -> str:
        return str(self.config["name"])

    @property
    def handle(self) -> str:
        return handle_id(self.network, self.container, self.interface)

    @property
    def previous(self) -> Mapping[str, Any] | None:
        """The result of the plugins before us (ADD), or of the ADD (CHECK, DEL)."""
        found: Mapping[str, Any] | None = self.config.get("prevResult")
        return found

    def given(self, name: str) -> Any:
        """A value that the runtime gave for this container: a capability, or args.cni (CONVENTIONS.md of CNI)."""
        for place in (self.config.get("runtimeConfig"), (self.config.get("args") or {}).get("cni")):
            if isinstance(place, dict) and place.get(name):
                return place[name]
        return None


def version_of(data: bytes) -> str:
    """The version to answer in, whatever else is wrong with the request."""
    try:
        version = json.loads(data.partition(b"\0\0")[2])["cniVersion"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return NEWEST
    return version if version in VERSIONS else NEWEST


def parse(data: bytes) -> Request:
    """The request in the bytes that the plugin sent; CniError with what is wrong with it."""
    head, _, config = data.partition(b"\0\0")
    try:
        pairs = (line.partition("=") for line in head.decode().split("\0"))
    except UnicodeDecodeError as error:
        raise CniError(Code.INVALID_ENVIRONMENT, "a CNI_ variable is not UTF-8", str(error)) from None
    environment: dict[str, str] = {}
    for name, _, value in pairs:
        environment.setdefault(name, value)  # of a variable that is there twice, the plugin too takes the first
    command = environment.get("CNI_COMMAND", "")
    if command not in NEEDED:
        raise CniError(
            Code.INVALID_ENVIRONMENT, "CNI_COMMAND must be ADD, DEL, CHECK, GC, STATUS or VERSION", repr(command)
        )
    _check_environment(command, environment)
    return Request(
        command,
        _config(command, config),
        environment.get("CNI_CONTAINERID", ""),
        environment.get("CNI_IFNAME", ""),
        environment.get("CNI_NETNS", ""),
        _arguments(environment.get("CNI_ARGS", "")),
    )


def _check_environment(command: str, environment: Mapping[str, str]) -> None:
    if missing := [name for name in NEEDED[command] if not environment.get(name)]:
        raise CniError(Code.INVALID_ENVIRONMENT, f"required variables are missing: {', '.join(missing)}", command)
    if not NEEDED[command]:
        return
    container, interface = environment["CNI_CONTAINERID"], environment["CNI_IFNAME"]
    if len(container) > LONGEST_CONTAINER or not NETWORK_NAME.fullmatch(container):
        allowed = f"a letter or digit, then letters, digits, '_', '.', '-', at most {LONGEST_CONTAINER} in all"
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_CONTAINERID {container!r} is no container ID", allowed)
    if why := _bad_interface(interface):
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_IFNAME {interface!r} is no interface name", why)


def _bad_interface(name: str) -> str:
    if len(name.encode()) > 15:
        return "it is longer than 15 characters"
    if name in (".", ".."):
        return "it is a directory"
    if name in ("all", "default"):
        return "the kernel keeps its settings for every link under that name"
    if any(c in "/:%" or c.isspace() for c in name):  # of % the kernel makes a number
        return "it must not contain '/', ':', '%' or white space"
    return ""


def _arguments(text: str) -> dict[str, str]:
    """`K8S_POD_NAME=a;K8S_POD_NAMESPACE=b`. Names that we do not know are somebody else's."""
    pairs = [pair for pair in text.split(";") if pair]
    if bad := [pair for pair in pairs if "=" not in pair]:
        raise CniError(Code.INVALID_ENVIRONMENT, "CNI_ARGS is no list of KEY=VALUE;...", repr(bad[0]))
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _config(command: str, text: bytes) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        raise CniError(Code.UNDECODABLE, "the network configuration is not JSON", str(error)) from None
    except RecursionError:
        raise CniError(Code.UNDECODABLE, "the network configuration is nested too deeply") from None
    if not isinstance(config, dict):
        raise CniError(Code.UNDECODABLE, "the network configuration is no JSON object", type(config).__name__)
    _check_version(command, config.get("cniVersion"))
    if not isinstance(config.get("name"), str) or not NETWORK_NAME.fullmatch(config["name"]):
        raise CniError(Code.INVALID_CONFIG, "name: the network needs a name", repr(config.get("name")))
    _check_fields(command, config)
    return config


def _check_version(command: str, version: Any) -> None:
    known = f"known are {', '.join(VERSIONS)}"
    if version not in VERSIONS:
        raise CniError(Code.INCOMPATIBLE_VERSION, f"cniVersion {version!r} is not supported", known)
    if VERSIONS.index(version) < VERSIONS.index(SINCE.get(command, VERSIONS[0])):
        raise CniError(Code.INCOMPATIBLE_VERSION, f"cniVersion {version} has no {command}", f"since {SINCE[command]}")


def _check_fields(command: str, config: Mapping[str, Any]) -> None:
    for name in ("ipam", "args", "runtimeConfig", "prevResult", "dns", "container_settings"):
        if not isinstance(config.get(name) or {}, dict):
            raise CniError(Code.INVALID_CONFIG, f"{name}: must be an object", repr(config[name]))
    if command == "CHECK" and not config.get("prevResult"):
        raise CniError(Code.INVALID_CONFIG, "prevResult: CHECK needs the result of the ADD")
    if command != "DEL":
        _check_previous(config.get("prevResult") or {})
        _check_dns(config)
    kind = (config.get("ipam") or {}).get("type")
    if kind not in IPAM_TYPES:
        raise CniError(
            Code.UNSUPPORTED_FIELD, f"ipam.type: {kind!r} is not supported", "leave ipam out, or say felixlite-ipam"
        )
    mtu = config.get("mtu", 0)
    if not isinstance(mtu, int) or isinstance(mtu, bool) or (mtu and not 68 <= mtu <= 65535):
        raise CniError(Code.INVALID_CONFIG, f"mtu: {mtu!r} must be 0 (follow the pools) or a number from 68 to 65535")


def _check_dns(config: Mapping[str, Any]) -> None:
    places = {name: config.get(name) for name in ("prevResult", "runtimeConfig")}
    places["args.cni"] = (config.get("args") or {}).get("cni")
    for place, found in places.items():
        dns = found.get("dns") if isinstance(found, dict) else None
        if not isinstance(dns or {}, dict):
            raise CniError(Code.INVALID_CONFIG, f"{place}.dns: must be an object", repr(dns))


def _check_previous(previous: Mapping[str, Any]) -> None:
    for name in ("interfaces", "ips", "routes"):
        items = previous.get(name) or []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise CniError(Code.INVALID_CONFIG, f"prevResult.{name}: must be a list of objects", repr(items))
    for number, item in enumerate(previous.get("ips") or []):
        try:
            ip_interface(str(item.get("address")))  # as a text: a number would be an address, too
        except ValueError:
            raise CniError(
                Code.INVALID_CONFIG,
                f"prevResult.ips[{number}].address: must be an address with a prefix length",
                repr(item.get("address")),
            ) from None
