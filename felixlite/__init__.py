"""felixlite: addresses, routes, tunnels, BGP and policy for the workloads of one node."""

__version__ = "0.1.0"
