"""BGP: whom to speak with (plan.py), what to say (announcing.py), what was heard (update.py, rib.py), and exabgp that does the talking (exabgp.py).

How the agent holds it:

    speaker = Speaker(run_dir / "bgp", loop.put, loop.touched)      # bgp/exabgp.py
    tables = (..., routes, speaker.peers, speaker.announcements)    # "bgp peers", "announcements": last, in this order
    threads.start("bgp", speaker.run)                               # starts, reads and supervises the exabgp child
    speaker.planned()                                               # once: the other sources are in sync, a round is done

    peering = plan.peers(here, nodes, bgp_peers, effective bgp configuration, filters, secrets)   # .rows and .notes
    plan.announcements(here, peering.rows, affinities, local_workloads, pools, configuration, learned)
    plan.gateways(here, bgp_peers.values())                         # routes of `reachableBy`

The source is called "bgp": it is in sync when all peers told everything they have, or after a bound (bgp/sessions.py),
so that no route of the agent before is removed before it could be heard again.
"""
