"""The agent's own little door: one JSON question a connection over a unix socket that only root may open.

The commands `status`, `show`, `plan` and `bgp` ask here; nothing that is asked changes anything.
Questions: {"ask": NAME, ...arguments}; answers: {"answer": ...} or {"error": "one sentence"}.
"""

import json
import socket
import socketserver
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from felixlite.errors import FelixliteError, Misconfigured, Unreachable

LONGEST_QUESTION = 16 * 1024 * 1024
PATIENCE = 15.0

Answers = Mapping[str, Callable[[dict[str, Any]], Any]]


def bound(path: Path) -> socket.socket:
    """A listening socket at `path` with mode 0600; the leftover of a dead process is taken over, a live one is not."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise Misconfigured(f"{path}: another agent answers there; stop it first or choose another --run-dir")
        path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o600)  # before listen(): nobody can have connected yet
    listening.listen(128)
    return listening


class Control:
    def __init__(self, path: Path, answers: Answers) -> None:
        self.path = path
        self._server = _Server(bound(path), answers)
        self._closing, self._ended = Event(), Event()
        self._ended.set()

    def run(self) -> None:
        """Until `close`. Not serve_forever: that wakes up twice a second only to see whether it is to end."""
        self._ended.clear()
        while not self._closing.is_set():
            self._server.handle_request()
        self._ended.set()

    def close(self) -> None:
        self._closing.set()
        self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes `run`
        self._ended.wait()  # who still waited for a descriptor that is closed would get what the next file is given
        self._server.server_close()
        with suppress(FileNotFoundError):
            self.path.unlink()


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, listening: socket.socket, answers: Answers) -> None:
        super().__init__(str(listening.getsockname()), _Conversation, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.answers = answers


class _Conversation(socketserver.StreamRequestHandler):
    timeout = PATIENCE
    server: _Server

    def handle(self) -> None:
        with suppress(OSError):  # whoever asked went away
            line = self.rfile.readline(LONGEST_QUESTION)
            self.wfile.write(json.dumps(self._answer(line), default=str).encode() + b"\n")

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            question = json.loads(line)
            name = question["ask"]
        except (ValueError, KeyError, TypeError):
            return {"error": "a question is one line of JSON with the member 'ask'"}
        if name not in self.server.answers:
            return {"error": f"{name!r} is no question; known are {', '.join(sorted(self.server.answers))}"}
        try:
            return {"answer": self.server.answers[name](question)}
        except FelixliteError as error:
            return {"error": str(error)}


def ask(path: Path, name: str, **arguments: Any) -> Any:
    """Put one question to the agent of this machine."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
        talk.settimeout(PATIENCE)
        try:
            talk.connect(str(path))
            talk.sendall(json.dumps({"ask": name, **arguments}).encode() + b"\n")
            with talk.makefile("rb") as lines:
                answer = json.loads(lines.readline() or b'{"error": "the agent closed the connection"}')
        except (FileNotFoundError, ConnectionRefusedError):
            raise Unreachable(
                f"no agent answers at {path}: is `felixlite agent` running with this --run-dir?"
            ) from None
        except PermissionError:
            raise Unreachable(f"{path}: permission denied; the agent answers to root only") from None
        except TimeoutError:
            raise Unreachable(f"the agent at {path} did not answer within {PATIENCE:.0f} s") from None
    if "error" in answer:
        raise FelixliteError(answer["error"])
    return answer["answer"]
