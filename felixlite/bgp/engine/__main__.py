"""The child's main: put every correction in place, then be exabgp."""

import ctypes
import os
import signal
import socket
import sys

from exabgp.configuration.configuration import Configuration
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.reactor import loop as exabgp_loop

from felixlite.bgp.engine import connecting, orders, sessions
from felixlite.bgp.engine.channel import Channel


def main() -> None:
    link = socket.socket(fileno=int(sys.argv[1]))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the thread that started us is gone with its agent
    env = getenv()
    env.log.enable = env.log.all = bool(os.environ.get("FELIXLITE_EXABGP_LOG"))
    env.log.level = "DEBUG" if env.log.enable else env.log.level
    env.api.ack = False
    env.daemon.user = "root" if os.getuid() == 0 else env.daemon.user
    env.daemon.drop = False
    env.reactor.speed = 5.0
    log.init(env)  # log.silence() breaks exabgp's timers: what it puts in place takes other arguments
    channel = Channel(link)
    exabgp_loop.Processes = lambda: channel
    sessions.pass_updates_on()
    connecting.pace_connections(channel.say)
    connecting.bound_pauses()
    sessions.turn_slowly_at_rest()
    sessions.nudge_silent_announcers()
    sessions.tell_why_sessions_end()
    connecting.guard_accepted_connections()
    connecting.refuse_the_held()
    sessions.remember_ranges()
    orders.take_commands_first()
    sys.exit(exabgp_loop.Reactor(Configuration([sys.argv[2]])).run())


if __name__ == "__main__":
    main()
