"""The CNI plugin in Python, for machines where shim.c could not be compiled. The same protocol, the same answers.

A container runtime execs it once a pod, so only posix, sys and _socket are imported (6 ms in all, 19 ms with json and socket);
what else it needs is imported where the agent is away and time does not matter.  shim.c says what is sent and what is
answered, pythonplugin.py how this becomes the plugin.
"""

import _socket
import posix
import sys

DEFAULT_SOCKET = "/run/felixlite/cni.sock"
VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
NOTES = "cni-notes"
LONGEST_INPUT = 4 << 20
LONGEST_CONTAINER = 200
GREETING = 1.5
ANSWER = 60.0
ESCAPES = ((b"\\u0026", b"&"), (b"\\u003c", b"<"), (b"\\u003e", b">"), (b"\\/", b"/"), (b'\\"', b'"'))
PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"


class Away(Exception):
    """There is no answer to be had, and why."""


def variable(name: str) -> bytes:
    return posix.environ.get(name.encode(), b"")


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[posix.write(fd, data) :]


def member(json: bytes, name: bytes) -> bytes:
    """The string member of the outermost object; b"" if there is none. The agent complains about malformed JSON."""
    at = depth = 0
    wanted = False
    while at < len(json):
        c = json[at : at + 1]
        at += 1
        depth += (c in b"{[") - (c in b"}]")
        if c == b",":
            wanted = False
        if c != b'"':
            continue
        start = at
        while at < len(json) and json[at] != 0x22:
            at += 2 if json[at] == 0x5C else 1
        value = json[start:at]
        at += 1
        if wanted and depth == 1:
            return unescaped(value) if b"\\" in value else value
        wanted = depth == 1 and value == name and json[at:].lstrip()[:1] == b":"
    return b""


def unescaped(value: bytes) -> bytes:
    parts = value.split(b"\\\\")
    for written, meant in ESCAPES:
        parts = [part.replace(written, meant) for part in parts]
    return b"\\".join(parts)


def quoted(text: str) -> str:
    safe = [c if " " <= c < "\x7f" and c not in '"\\' else f"\\u{ord(c):04x}" for c in text]
    return '"' + "".join(safe) + '"'


def version_of(config: bytes) -> str:
    """The version that was asked for, or our newest if we do not know that one."""
    version = member(config, b"cniVersion").decode("latin-1")
    return version if version in VERSIONS else VERSIONS[-1]


def say_versions(config: bytes) -> int:
    versions = ",".join(f'"{version}"' for version in VERSIONS)
    write_all(1, f'{{"cniVersion":"{version_of(config)}","supportedVersions":[{versions}]}}\n'.encode())
    return 0


def say_error(config: bytes, code: int, message: str, details: str) -> int:
    members = f'"cniVersion":"{version_of(config)}","code":{code},"msg":{quoted(message)},"details":{quoted(details)}'
    write_all(1, b"{" + members.encode() + b"}\n")
    return 1


def read_config() -> bytes:
    config = b""
    while len(config) <= LONGEST_INPUT and (chunk := posix.read(0, 65536)):
        config += chunk
    return config


def request_of(config: bytes) -> bytes:
    given = [k + b"=" + v + b"\0" for k, v in posix.environ.items() if k.startswith(b"CNI_")]
    return b"".join(given) + b"\0" + config


def ask(path: bytes, request: bytes) -> bytes:
    """The greeting, the exit code and the output; Away."""
    talk = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    talk.settimeout(GREETING)
    try:
        connect(talk, path)
        send(talk, request)
        talk.shutdown(_socket.SHUT_WR)
        answer = b""
        while chunk := talk.recv(65536):
            if not answer:
                talk.settimeout(ANSWER)
            answer += chunk
    except OSError as error:
        raise Away(error.strerror or str(error)) from None
    if len(answer) < 2:
        raise Away("it went away while it worked on this")
    return answer


def connect(talk: _socket.socket, path: bytes) -> None:
    for attempt in range(100):
        try:
            return talk.connect(path)
        except BlockingIOError:  # its backlog is full (unix(7))
            if attempt == 99:
                raise
            import time

            time.sleep(0.015)
    return None


def send(talk: _socket.socket, request: bytes) -> None:
    """All of it, the open network namespace with the first byte."""
    try:
        namespace = posix.open(variable("CNI_NETNS"), posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:
        talk.sendall(request)
        return
    rights = namespace.to_bytes(4, sys.byteorder)
    sent = talk.sendmsg([request], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    talk.sendall(request[sent:])


# -- without the agent


def is_plain(name: bytes) -> bool:
    return name[:1].isalnum() and not name.translate(None, PLAIN)


def leave_note(path: bytes, request: bytes) -> None:
    """Written beside and renamed: the agent finds all of the note or nothing. The same DEL again is the same note."""
    run, slash, _ = path.rpartition(b"/")
    run = run if slash else b"."
    directory = run + b"/" + NOTES.encode()
    for needed in (run or b"/", directory):
        try:  # noqa: SIM105  contextlib costs as much as all of this program
            posix.mkdir(needed, 0o700)
        except FileExistsError:
            pass
    draft = directory + b"/.%d" % posix.getpid()
    fd = posix.open(draft, posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC, 0o600)
    write_all(fd, request)
    posix.close(fd)
    posix.rename(draft, directory + b"/" + variable("CNI_CONTAINERID") + b"." + variable("CNI_IFNAME"))


def delete_interface() -> None:
    """In the pod, and with it the host's end. What fails here is done by the agent from the note."""
    import ctypes
    import struct

    try:
        namespace = posix.open(variable("CNI_NETNS"), posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    except OSError:  # it is gone, and with it the interface
        return
    here, there = posix.stat("/proc/self/ns/net"), posix.fstat(namespace)
    if (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) or ctypes.CDLL(None).setns(namespace, 0x40000000):
        return
    name = struct.pack("=HH16s", 20, 3, variable("CNI_IFNAME"))  # IFLA_IFNAME
    link = struct.pack("=BxHiII", 0, 0, 0, 0, 0)
    header = struct.pack("=IHHII", 16 + len(link) + len(name), 17, 1, 1, 0)  # RTM_DELLINK, NLM_F_REQUEST
    netlink = _socket.socket(16, _socket.SOCK_RAW, 0)
    netlink.send(header + link + name)


def without_agent(command: bytes, path: bytes, why: str, request: bytes, config: bytes) -> int:
    details = f"no answer at {path.decode('latin-1')} ({why}); is `felixlite agent` running on this node?"
    details += " See `felixlite status` and its log"
    if command == b"STATUS":
        return say_error(config, 50, "the felixlite agent is not available", details)
    if command != b"DEL":
        return say_error(config, 11, "the felixlite agent is away, try again later", details)
    container, interface = variable("CNI_CONTAINERID"), variable("CNI_IFNAME")
    if not is_plain(container) or len(container) > LONGEST_CONTAINER:
        return say_error(config, 4, "CNI_CONTAINERID is missing or not a container ID", container.decode("latin-1"))
    if not 0 < len(interface) < 16 or b"/" in interface:
        return say_error(config, 4, "CNI_IFNAME is missing or not an interface name", interface.decode("latin-1"))
    try:
        leave_note(path, request)
    except OSError as error:
        return say_error(
            config, 5, "the felixlite agent is away, and its run directory takes no note", str(error.strerror)
        )
    try:
        delete_interface()
    except OSError as error:
        posix.write(2, f"felixlite: deleting the pod's interface: {error.strerror}\n".encode())
    return 0


def main() -> int:
    command = variable("CNI_COMMAND")
    if command not in (b"VERSION", b"ADD", b"DEL", b"CHECK", b"GC", b"STATUS"):
        return say_error(
            b"", 4, "CNI_COMMAND must be ADD, DEL, CHECK, GC, STATUS or VERSION", command.decode("latin-1")
        )
    try:
        config = read_config()
    except OSError as error:
        return say_error(b"", 5, "reading the network configuration from stdin failed", str(error.strerror))
    if len(config) > LONGEST_INPUT:
        return say_error(config, 7, "the network configuration is longer than 4 MiB", "")
    if command == b"VERSION":
        return say_versions(config)
    path = member(config, b"socket") or DEFAULT_SOCKET.encode()
    request = request_of(config)
    try:
        answer = ask(path, request)
    except Away as error:
        return without_agent(command, path, str(error), request, config)
    write_all(1, answer[2:])
    return answer[1] - ord("0")


def exit_code() -> int:
    try:
        return main()
    except BrokenPipeError:  # nobody reads our answer any more
        return 1


if __name__ == "__main__":
    posix._exit(exit_code())  # noqa: SLF001  a public name; tearing the interpreter down takes 2 ms
