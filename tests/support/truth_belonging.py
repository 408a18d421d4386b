"""Who belongs where, and what has a profile: cases of what labels, namespaces, accounts and profiles mean for an endpoint."""

from tests.support.truth_documents import documented

BELONGING = [
    # -- where something belongs is not for its own labels to say
    documented(
        "a network set's own label is no label of its namespace",
        """
        NetworkPolicy red/p: {ingress: [{action: Allow, source: {namespaceSelector: team == 'z'}}]}
        NetworkSet blue/s: {nets: [203.0.113.0/24, '2001:db8::/32'], labels: {pcns.team: z}}
        """,
        "",
        "x>a tcp/80, x>a tcp/80/6, d>a tcp/80",
    ),
    documented(
        "a network set is selected by the labels of its namespace",
        """
        NetworkPolicy red/p: {ingress: [{action: Allow, source: {namespaceSelector: team == 'y'}}]}
        NetworkSet blue/s: {nets: [203.0.113.0/24], labels: {pcns.team: z}}
        """,
        "x>a tcp/80, d>a tcp/80",
        "b>a tcp/80",
    ),
    documented(
        "a global network set is in no namespace, whatever it is labelled",
        """
        NetworkPolicy red/p: {ingress: [{action: Allow, source: {selector: has(from)}}]}
        GlobalNetworkSet s: {nets: [203.0.113.0/24], labels: {from: afar, projectcalico.org/namespace: red}}
        """,
        "",
        "x>a tcp/80, b>a tcp/80",
    ),
    documented(
        "a network set has no service account, whatever it is labelled",
        """
        NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, source: {serviceAccounts: {names: [robot]}}}]}
        NetworkSet red/s: {nets: [203.0.113.0/24], labels: {projectcalico.org/serviceaccount: robot}}
        """,
        "b>a tcp/80",
        "x>a tcp/80, c>a tcp/80",
    ),
    documented(
        "a pod's own labels say nothing of its service account",
        """
        NetworkPolicy red/p: {selector: app == 'a', ingress: [
          {action: Allow, protocol: TCP, source: {serviceAccounts: {selector: role == 'worker'}}},
          {action: Allow, protocol: UDP, source: {serviceAccounts: {names: [robot]}}}]}
        """,
        "b>a tcp/80, b>a udp/80",
        "c>a tcp/80, c>a udp/80",
        c={"labels": {"pcsa.role": "worker", "projectcalico.org/serviceaccount": "robot"}},
    ),
    # -- profiles: the first that decides; one that is not there denies
    documented(
        "a profile that is not there denies, before one that allows",
        "",
        "d>e tcp/80, b>a udp/80",
        "b>c tcp/80, c>b tcp/80, c>d icmp, d>c tcp/80/6",
        c={"profiles": ("nosuch", "kns.red")},
    ),
    documented(
        "a profile that is not there is not asked after one that allows",
        "",
        "b>c tcp/80, c>d tcp/80/6",
        c={"profiles": ("kns.red", "nosuch")},
    ),
    documented(
        "what a policy allows needs no profile",
        "NetworkPolicy red/p: {selector: app == 'c', types: [Ingress], ingress: [{action: Allow, protocol: TCP}]}",
        "b>c tcp/80",
        "b>c udp/80, c>b tcp/80",
        c={"profiles": ("nosuch",)},
    ),
    documented(
        "without a profile nothing passes but what a policy allows",
        "NetworkPolicy red/p: {selector: app == 'c', types: [Ingress], ingress: [{action: Allow, protocol: TCP}]}",
        "b>c tcp/80",
        "b>c udp/80, c>b tcp/80, c>b tcp/80/6",
        c={"profiles": ()},
    ),
    documented(
        "without its namespace's profile an endpoint has no labels of the namespace",
        "NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, source: {namespaceSelector: team == 'x'}}]}",
        "b>a tcp/80",
        "c>a tcp/80",
        c={"profiles": ("projectcalico-default-allow",)},
    ),
    documented(
        "the profile of a namespace needs no document",
        "",
        "b>c tcp/80, c>b tcp/80",
        c={"profiles": ("kns.unheard",)},
    ),
    documented(
        "an invalid profile denies, and hands its labels down",
        """
        Profile locked: {labelsToApply: {sort: odd}, ingress: [{action: Deny, protocol: FROB}], egress: [{action: Allow}]}
        NetworkPolicy red/p: {selector: app == 'a', types: [Ingress], ingress: [{action: Deny, source: {selector: sort == 'odd'}}, {action: Allow}]}
        NetworkPolicy red/q: {selector: app == 'c', types: [Egress], egress: [{action: Allow, protocol: TCP}]}
        """,
        "c>b tcp/80, b>a tcp/80",
        "b>c tcp/80, c>a tcp/80, c>b udp/80",
        broken=True,
        c={"profiles": ("locked", "kns.red")},
    ),
    documented(
        "an invalid profile of a namespace's name closes it",
        "Profile kns.red: {ingress: [{action: Deny, protocol: FROB}]}",
        "d>e tcp/80",
        "b>a tcp/80, a>d tcp/80, d>a udp/80",
        broken=True,
    ),
    # -- a word that says nothing restricts nothing
    documented(
        "notICMP without a type restricts nothing",
        """
        NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, protocol: ICMP, notICMP: {}}]}
        NetworkPolicy red/q: {selector: app == 'b', ingress: [{action: Deny, protocol: ICMPv6, notICMP: {}}, {action: Allow}]}
        """,
        "b>a icmp, b>a icmp/17/0, a>b icmp",
        "b>a icmp/6, b>a tcp/80, a>b icmp/6",
    ),
    documented(
        "icmp without a type restricts nothing but the protocol",
        "NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, protocol: ICMP, icmp: {}}]}",
        "b>a icmp, b>a icmp/17/0",
        "b>a icmp/6, b>a tcp/80",
    ),
]
