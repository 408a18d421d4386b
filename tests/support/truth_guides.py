"""What the guides of Calico show about rules, as cases, in documents as a user writes them."""

from tests.support.truth import Scenario
from tests.support.truth_documents import documented


def selecting(selector: str, passes: str, denied: str) -> Scenario:
    """A global policy for a alone, whose one rule has this selector."""
    text = f"""
        GlobalNetworkPolicy p:
          selector: projectcalico.org/namespace == 'red' && app == 'a'
          ingress: [{{action: Allow, source: {{selector: "{selector}"}}}}]
    """
    return documented(f"selector: {selector}", text, passes, denied)


SLICE = """
        EndpointSlice red/db:
          addressType: IPv4
          endpoints: [{addresses: [10.65.0.1]}, {addresses: [10.65.0.4]}]
          ports: [{name: sql, port: 5432, protocol: TCP}]
"""

GUIDES = [
    documented(
        "a database is reached by its front end on one port, and reaches everything",
        """
        NetworkPolicy red/allow-tcp-6379:
          selector: app == 'a'
          types: [Ingress, Egress]
          ingress:
          - action: Allow
            metadata: {annotations: {from: frontend, to: database}}
            protocol: TCP
            source: {selector: tier == 'front'}
            destination: {ports: [6379]}
          egress: [{action: Allow}]
        """,
        "c>a tcp/6379, a>b tcp/80, a>d udp/53",
        "c>a tcp/80, b>a tcp/6379, d>a tcp/6379, c>a udp/6379",
    ),
    documented(
        "a global default deny closes every pod",
        "GlobalNetworkPolicy deny: {selector: all(), types: [Ingress, Egress]}",
        "",
        "a>b tcp/80, d>e udp/53, a>d icmp, b>a tcp/80/6",
    ),
    documented(
        "a global default deny that leaves some namespaces out",
        """
        GlobalNetworkPolicy deny:
          namespaceSelector: "has(projectcalico.org/name) && projectcalico.org/name not in {'blue', 'system'}"
          types: [Ingress]
        """,
        "a>d tcp/80, d>e tcp/80",
        "a>b tcp/80, d>a tcp/80",
    ),
    documented(
        "default deny with a way to the name servers",
        """
        GlobalNetworkPolicy deny-app-policy:
          namespaceSelector: projectcalico.org/name == 'red'
          types: [Ingress, Egress]
          egress:
          - {action: Allow, protocol: UDP, destination: {namespaceSelector: team == 'y', selector: app == 'a', ports: [53]}}
        """,
        "a>d udp/53, b>d udp/53",
        "a>d tcp/53, a>e udp/53, a>b tcp/80, d>a tcp/80",
    ),
    documented(
        "ping is blocked, everything else passes",
        """
        GlobalNetworkPolicy block-icmp:
          order: 200
          types: [Ingress, Egress]
          ingress: [{action: Deny, protocol: ICMP}, {action: Deny, protocol: ICMPv6}, {action: Allow}]
          egress: [{action: Deny, protocol: ICMP}, {action: Deny, protocol: ICMPv6}, {action: Allow}]
        """,
        "a>b tcp/80, a>d udp/53/6",
        "a>b icmp, a>b icmp/6",
    ),
    documented(
        "ping is allowed, other messages are not",
        """
        GlobalNetworkPolicy allow-ping:
          types: [Ingress]
          ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8}}, {action: Allow, protocol: ICMPv6, icmp: {type: 128, code: 0}}]
        """,
        "a>b icmp, a>b icmp/8/1, a>b icmp/6",
        "a>b icmp/17/0, a>b tcp/80",
    ),
    documented(
        "a type and a code",
        "NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, protocol: ICMP, icmp: {type: 8, code: 1}}]}",
        "b>a icmp/8/1",
        "b>a icmp/8/0, b>a icmp/17/1",
    ),
    documented(
        "every message but one type and code",
        """
        NetworkPolicy red/p:
          selector: app == 'a'
          ingress: [{action: Allow, protocol: ICMP, notICMP: {type: 8, code: 1}}]
        """,
        "b>a icmp/8/0, b>a icmp/17/1",
        "b>a icmp/8/1, b>a tcp/80",
    ),
    documented(
        "service accounts by name, in another namespace",
        """
        NetworkPolicy blue/p:
          selector: app == 'a'
          ingress: [{action: Allow, source: {serviceAccounts: {names: [robot, other]}, namespaceSelector: team == 'x'}}]
        """,
        "b>d tcp/80",
        "a>d tcp/80, e>d tcp/80",
    ),
    documented(
        "service accounts by name mean those of the own namespace",
        "NetworkPolicy blue/p: {selector: app == 'a', ingress: [{action: Allow, source: {serviceAccounts: {names: [robot]}}}]}",
        "",
        "b>d tcp/80, e>d tcp/80",
    ),
    documented(
        "service accounts by name and label have to hold together",
        """
        GlobalNetworkPolicy p:
          selector: app == 'a'
          ingress:
          - {action: Allow, protocol: TCP, source: {serviceAccounts: {names: [robot], selector: role == 'worker'}}}
          - {action: Allow, protocol: UDP, source: {serviceAccounts: {names: [robot], selector: role == 'boss'}}}
        """,
        "b>a tcp/80, b>d tcp/80",
        "b>a udp/53, c>a tcp/80",
    ),
    documented(
        "a global policy for the pods of service accounts",
        "GlobalNetworkPolicy p: {serviceAccountSelector: role == 'worker', ingress: [{action: Deny}]}",
        "b>a tcp/80, a>c tcp/80",
        "a>b tcp/80, d>b udp/53",
    ),
    documented(
        "out to a service: its endpoints and its ports",
        SLICE
        + """
        GlobalNetworkPolicy p:
          selector: app == 'b'
          types: [Egress]
          egress: [{action: Allow, destination: {services: {name: db, namespace: red}}}]
        """,
        "b>a tcp/5432, b>d tcp/5432, e>a tcp/5432",
        "b>a tcp/80, b>c tcp/5432, b>a udp/5432",
    ),
    documented(
        "in from a service: its endpoints, whatever their ports",
        SLICE
        + "        NetworkPolicy red/p: {selector: app == 'b', ingress: [{action: Allow, source: {services: {name: db}}}]}",
        "a>b tcp/80, d>b udp/53, a>b icmp",
        "c>b tcp/80, e>b tcp/80",
    ),
    documented(
        "a service that does not exist is nobody",
        "NetworkPolicy red/p: {selector: app == 'b', types: [Egress], egress: [{action: Allow, destination: {services: {name: gone}}}]}",
        "a>c tcp/80",
        "b>a tcp/80, b>d tcp/5432",
    ),
    documented(
        "addresses outside by a range, with an exception",
        """
        GlobalNetworkPolicy p:
          selector: app == 'b'
          types: [Egress]
          egress: [{action: Allow, destination: {nets: [10.65.0.0/29], notNets: [10.65.0.3/32]}}]
        """,
        "b>a tcp/80, e>d udp/53",
        "b>c tcp/80, b>a tcp/80/6",
    ),
    documented(
        "notNets alone is everywhere else",
        "NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, source: {notNets: [10.65.0.4/31]}}]}",
        "b>a tcp/80, c>a icmp",
        "d>a tcp/80, e>a tcp/80",
    ),
    documented(
        "what is on a list of bad addresses is denied first",
        """
        GlobalNetworkSet bad: {labels: {feed: bad}, nets: [10.65.0.3/32, 10.65.0.5/32, 'fd00::3/128', 198.51.100.0/24]}
        GlobalNetworkPolicy p:
          order: 1
          types: [Ingress, Egress]
          ingress: [{action: Deny, source: {selector: feed == 'bad'}}, {action: Allow}]
          egress: [{action: Deny, destination: {selector: feed == 'bad'}}, {action: Allow}]
        """,
        "b>a tcp/80, a>d udp/53, e>d tcp/80/6",
        "c>a tcp/80, a>c tcp/80, e>d tcp/80, c>a udp/9/6",
    ),
    documented(
        "anywhere but a list of addresses",
        """
        GlobalNetworkSet office: {labels: {kind: office}, nets: [10.65.0.4/31]}
        GlobalNetworkPolicy p: {selector: app == 'a', ingress: [{action: Allow, source: {notSelector: kind == 'office'}}]}
        """,
        "b>a tcp/80, c>a tcp/80",
        "d>a tcp/80, e>a tcp/80, e>d tcp/80",
    ),
    documented(
        "a list in a namespace is selected from another one by the namespace's labels",
        """
        NetworkSet blue/partners: {labels: {kind: partner}, nets: [10.65.0.2/32]}
        NetworkPolicy red/p:
          selector: app == 'a'
          ingress: [{action: Allow, source: {namespaceSelector: team == 'y', selector: kind == 'partner'}}]
        """,
        "b>a tcp/80",
        "c>a tcp/80, d>a tcp/80",
    ),
    documented(
        "overlapping ranges in one list",
        """
        GlobalNetworkSet wide: {labels: {kind: wide}, nets: [10.65.0.0/16, 10.65.0.2/31, 10.65.0.2/32, 'fd00::/64', 'fd00::2/127']}
        GlobalNetworkPolicy p: {selector: app == 'a', ingress: [{action: Allow, source: {selector: kind == 'wide'}}]}
        """,
        "b>a tcp/80, e>a tcp/80, c>d udp/53/6",
    ),
    documented(
        "ports: numbers, ranges and names at once",
        """
        GlobalNetworkPolicy p:
          selector: app == 'a'
          ingress: [{action: Allow, protocol: TCP, destination: {ports: [8080, '9000:9010', web]}}]
        """,
        "b>a tcp/8080, b>a tcp/9000, b>a tcp/9010, b>a tcp/80, b>d tcp/80",
        "b>a tcp/8081, b>a tcp/9011, b>a udp/8080",
    ),
    documented(
        "a named port that is excluded",
        """
        GlobalNetworkPolicy p:
          selector: app in {'a', 'b'}
          ingress: [{action: Allow, protocol: TCP, destination: {notPorts: [web]}}]
        """,
        "b>a tcp/81, a>b tcp/80",
        "b>a tcp/80, b>d tcp/80",
    ),
    documented(
        "a named port of a destination that is selected too",
        """
        GlobalNetworkPolicy p:
          selector: app == 'b'
          types: [Egress]
          egress: [{action: Allow, protocol: UDP, destination: {selector: app == 'a', ports: [dns]}}]
        """,
        "b>d udp/53, e>d udp/53",
        "b>a udp/53, b>d tcp/53",
    ),
    documented(
        "protocols by number",
        "NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, protocol: 17, destination: {ports: [53]}}, {action: Allow, protocol: 132}]}",
        "b>a udp/53, b>a sctp/7",
        "b>a tcp/53, b>a udp/54",
    ),
    documented(
        "a protocol that is excluded by number",
        "NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, notProtocol: 6}]}",
        "b>a udp/53, b>a icmp, b>a sctp/7/6",
        "b>a tcp/80, b>a tcp/80/6",
    ),
    documented(
        "ipVersion with ports",
        "NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, ipVersion: 6, protocol: TCP, destination: {ports: [80]}}]}",
        "b>a tcp/80/6",
        "b>a tcp/80, b>a tcp/81/6",
    ),
    documented(
        "both sides of a rule at once",
        """
        GlobalNetworkPolicy p:
          types: [Ingress]
          ingress:
          - action: Allow
            protocol: TCP
            source: {selector: app == 'b', ports: [1000]}
            destination: {selector: app == 'a', ports: [80]}
        """,
        "b>a tcp/80, e>d tcp/80",
        "c>a tcp/80, b>c tcp/80, b>a tcp/81",
    ),
    documented(
        "the labels that every pod has: namespace, orchestrator, service account",
        """
        GlobalNetworkPolicy one: {selector: projectcalico.org/namespace == 'blue', ingress: [{action: Allow, source: {selector: projectcalico.org/namespace == 'red'}}]}
        GlobalNetworkPolicy two: {selector: projectcalico.org/serviceaccount == 'robot', ingress: [{action: Allow, source: {selector: projectcalico.org/orchestrator == 'k8s'}}]}
        """,
        "a>d tcp/80, b>e tcp/80, d>b tcp/80",
        "d>e tcp/80",
    ),
    documented(
        "labels that are inherited from the namespace and the service account",
        """
        GlobalNetworkPolicy p:
          selector: pcns.team == 'y'
          ingress: [{action: Allow, source: {selector: pcsa.role == 'worker'}}]
        """,
        "b>d tcp/80, b>e udp/53",
        "a>d tcp/80, d>e tcp/80",
    ),
    selecting("app == 'b'", "b>a tcp/80, e>a tcp/80", "c>a tcp/80, d>a tcp/80"),
    selecting("app != 'b'", "c>a tcp/80, d>a tcp/80", "b>a tcp/80, e>a tcp/80"),
    selecting("tier != 'front'", "b>a tcp/80, d>a tcp/80", "c>a tcp/80"),
    selecting("app in {'b', 'c'}", "b>a tcp/80, c>a tcp/80", "d>a tcp/80"),
    selecting("app not in {'b', 'c'}", "d>a tcp/80", "b>a tcp/80, c>a tcp/80, e>a tcp/80"),
    selecting("has(tier)", "c>a tcp/80", "b>a tcp/80"),
    selecting("!has(tier)", "b>a tcp/80, d>a tcp/80", "c>a tcp/80"),
    selecting("tier contains 'ron'", "c>a tcp/80", "b>a tcp/80"),
    selecting("tier starts with 'fr'", "c>a tcp/80", "b>a tcp/80"),
    selecting("tier ends with 'nt'", "c>a tcp/80", "b>a tcp/80"),
    selecting("app == 'a' || has(tier)", "d>a tcp/80, c>a tcp/80", "b>a tcp/80, e>a tcp/80"),
    selecting("app == 'b' && pcns.team == 'y'", "e>a tcp/80", "b>a tcp/80, d>a tcp/80"),
    selecting("!(app == 'b' || has(tier))", "d>a tcp/80", "b>a tcp/80, c>a tcp/80"),
    selecting("all()", "b>a tcp/80, c>a tcp/80, d>a tcp/80", ""),
    documented(
        "a policy that was never valid denies what it selects",
        "NetworkPolicy red/p: {selector: app == 'a', types: [Ingress], ingress: [{action: Alow}]}",
        "a>b tcp/80, d>b tcp/80",
        "b>a tcp/80, d>a icmp",
        broken=True,
    ),
    documented(
        "a rule about HTTP allows nothing, the others of its policy are in force",
        """
        NetworkPolicy red/p:
          selector: app == 'a'
          ingress: [{action: Allow, http: {methods: [GET]}}, {action: Allow, protocol: UDP}]
        """,
        "b>a udp/53",
        "b>a tcp/80",
    ),
    documented(
        "what is for host endpoints alone leaves pods alone",
        "GlobalNetworkPolicy p: {selector: all(), applyOnForward: true, preDNAT: true, ingress: [{action: Deny}]}",
        "b>a tcp/80, a>d udp/53",
    ),
]
