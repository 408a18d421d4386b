"""The exabgp child: exabgp itself, with the corrections that docs/adr/0050 lists, driven over one inherited socket.

Runs as a program of its own (`python -m felixlite.bgp.engine FD FILE`), never inside the agent.  exabgp keeps the
sessions: connections, state machine, capabilities, timers, adj-RIB-out.  Each file here is one thing that is other than
in exabgp: channel.py (the socket in the place of its helper process), telling.py (what is announced to whom), orders.py
(what exabgp has no command for), connecting.py (how connections come about), sessions.py (how sessions go and end).

Before this: bgp/config_text.py and the commands of bgp/exabgp.py.  After: its lines, read by bgp/wire.py.
"""
