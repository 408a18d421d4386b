"""What Calico's documents say about tiers, order and actions, as cases, in documents as a user writes them."""

from tests.support.truth_documents import documented

TIERS = [
    documented(
        "tiers in their order, whatever their names",
        """
        Tier late: {order: 20}
        Tier soon: {order: 10}
        GlobalNetworkPolicy one: {tier: soon, ingress: [{action: Allow, protocol: TCP}]}
        GlobalNetworkPolicy two: {tier: late, ingress: [{action: Deny, protocol: TCP}]}
        """,
        "b>a tcp/80",
        "b>a udp/53",
    ),
    documented(
        "a tier without an order is the last one",
        """
        Tier audit: {}
        GlobalNetworkPolicy one: {tier: audit, ingress: [{action: Deny}]}
        NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, protocol: TCP}, {action: Pass, protocol: UDP}]}
        """,
        "b>a tcp/80",
        "b>a udp/53, b>a icmp, a>b tcp/80",
    ),
    documented(
        "tiers of one order by their names",
        """
        Tier bb: {order: 5}
        Tier aa: {order: 5}
        GlobalNetworkPolicy one: {tier: bb, ingress: [{action: Deny}]}
        GlobalNetworkPolicy two: {tier: aa, ingress: [{action: Allow, protocol: TCP}, {action: Pass}]}
        """,
        "b>a tcp/80",
        "b>a udp/53",
    ),
    documented(
        "Pass in one tier, Allow in the next, Deny at the end of the default one",
        """
        Tier security: {order: 100}
        Tier platform: {order: 200}
        GlobalNetworkPolicy one: {tier: security, ingress: [{action: Deny, protocol: SCTP}, {action: Pass}]}
        GlobalNetworkPolicy two: {tier: platform, ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}, {action: Pass}]}
        NetworkPolicy red/p: {ingress: [{action: Allow, protocol: UDP}]}
        """,
        "b>a tcp/80, b>a udp/53",
        "b>a sctp/7, b>a tcp/81, b>a icmp",
    ),
    documented(
        "Pass in the last tier leads to the profiles",
        """
        Tier zz: {order: 9000000}
        GlobalNetworkPolicy one: {tier: zz, ingress: [{action: Pass, protocol: TCP}]}
        """,
        "b>a tcp/80, d>e tcp/80",
        "b>a udp/53",
    ),
    documented(
        "a tier is passed over where none of its policies is about the endpoint",
        """
        Tier security: {order: 1}
        GlobalNetworkPolicy one: {tier: security, selector: app == 'zzz', ingress: [{action: Deny}]}
        """,
        "b>a tcp/80, d>e udp/53",
    ),
    documented(
        "a tier is passed over where none of its policies is about the direction",
        """
        Tier security: {order: 1}
        GlobalNetworkPolicy one: {tier: security, selector: app == 'a', types: [Egress], egress: [{action: Allow, protocol: TCP}]}
        """,
        "b>a udp/53, a>b tcp/80",
        "a>b udp/53",
    ),
    documented(
        "the end of a tier with defaultAction Pass, for a direction that is not allowed later",
        """
        Tier security: {order: 1, defaultAction: Pass}
        GlobalNetworkPolicy one: {tier: security, types: [Ingress, Egress], ingress: [{action: Deny, protocol: TCP}], egress: []}
        NetworkPolicy red/p: {selector: app == 'a', types: [Egress], egress: [{action: Allow, destination: {selector: app == 'c'}}]}
        """,
        "b>a udp/53, a>c udp/53",
        "b>a tcp/80, a>b udp/53, a>c tcp/80",
    ),
    documented(
        "kube-admin comes before the default tier, and passes at its end",
        """
        GlobalNetworkPolicy admin: {tier: kube-admin, ingress: [{action: Deny, protocol: SCTP}, {action: Allow, protocol: UDP}]}
        NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, protocol: TCP}]}
        """,
        "b>a udp/53, b>a tcp/80, a>b tcp/80",
        "b>a sctp/7, b>a icmp, a>b sctp/7",
    ),
    documented(
        "kube-baseline comes after the default tier, and is not asked where that decided",
        """
        GlobalNetworkPolicy base: {tier: kube-baseline, ingress: [{action: Deny, protocol: TCP}]}
        NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, protocol: TCP}]}
        """,
        "b>a tcp/80, a>b udp/53",
        "a>b tcp/80, b>a udp/53",
    ),
    documented(
        "policies of Kubernetes have order 1000: a Deny before them holds",
        """
        k8s red/p: {podSelector: {matchLabels: {app: a}}, ingress: [{}]}
        NetworkPolicy red/early: {order: 999, selector: app == 'a', ingress: [{action: Deny, protocol: TCP}]}
        """,
        "b>a udp/53",
        "b>a tcp/80",
    ),
    documented(
        "policies of Kubernetes have order 1000: a Deny after them does not hold against what they allow",
        """
        k8s red/p: {podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}]}]}
        NetworkPolicy red/late: {order: 1001, selector: app == 'a', ingress: [{action: Deny, protocol: TCP}, {action: Allow}]}
        """,
        "b>a tcp/80, b>a udp/53",
        "b>a tcp/81",
    ),
    documented(
        "a policy of Calico opens what one of Kubernetes closed",
        """
        k8s red/closed: {podSelector: {}}
        NetworkPolicy red/open: {order: 2000, selector: app == 'a', ingress: [{action: Allow, protocol: TCP}]}
        """,
        "b>a tcp/80",
        "b>a udp/53, a>b tcp/80",
    ),
    documented(
        "an order may be a fraction or below zero",
        """
        GlobalNetworkPolicy a: {order: 0.5, ingress: [{action: Deny, protocol: TCP}]}
        GlobalNetworkPolicy b: {order: 0.25, ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]}
        GlobalNetworkPolicy c: {order: -1, ingress: [{action: Deny, protocol: UDP}]}
        GlobalNetworkPolicy d: {order: 7, ingress: [{action: Allow}]}
        """,
        "b>a tcp/80, b>a icmp",
        "b>a tcp/81, b>a udp/53",
    ),
    documented(
        "global and namespaced policies of one order by their names",
        """
        GlobalNetworkPolicy b-all: {order: 5, ingress: [{action: Deny}]}
        NetworkPolicy red/a-own: {order: 5, selector: app == 'a', ingress: [{action: Allow, protocol: TCP}]}
        """,
        "b>a tcp/80",
        "b>a udp/53, a>b tcp/80",
    ),
    documented(
        "Log changes nothing, wherever it stands",
        """
        GlobalNetworkPolicy p:
          types: [Ingress, Egress]
          ingress: [{action: Log}, {action: Allow, protocol: TCP}, {action: Log, protocol: UDP}, {action: Deny, protocol: UDP}, {action: Log}]
          egress: [{action: Log, protocol: TCP}, {action: Pass}]
        """,
        "b>a tcp/80",
        "b>a udp/53, b>a icmp",
    ),
    documented(
        "Pass in egress is about egress only",
        """
        Tier security: {order: 1}
        GlobalNetworkPolicy one: {tier: security, types: [Ingress, Egress], egress: [{action: Pass}], ingress: [{action: Allow, protocol: TCP}]}
        """,
        "b>a tcp/80",
        "b>a udp/53",
    ),
    documented(
        "Deny before Allow and Allow before Deny in one policy",
        """
        NetworkPolicy red/p:
          selector: app == 'a'
          ingress:
          - {action: Deny, source: {selector: app == 'c'}}
          - {action: Allow, protocol: TCP}
          - {action: Deny, source: {selector: app == 'b'}}
          - {action: Allow}
        """,
        "b>a tcp/80",
        "c>a tcp/80, b>a udp/53, c>a udp/53",
    ),
    documented(
        "a policy without rules denies, one without types is about what comes in",
        "NetworkPolicy red/p: {selector: app == 'a'}",
        "a>b tcp/80",
        "b>a tcp/80",
    ),
    documented(
        "types are taken from the rules when they are left out",
        """
        NetworkPolicy red/p: {selector: app == 'a', egress: [{action: Allow, protocol: TCP}]}
        NetworkPolicy red/q: {selector: app == 'b', egress: [{action: Allow}], ingress: [{action: Allow, protocol: TCP}]}
        """,
        "c>a udp/53, a>b tcp/80, b>a udp/53",
        "a>c udp/53, c>b udp/53",
    ),
    documented(
        "the order of a policy in a tier that nobody has defined",
        """
        GlobalNetworkPolicy one: {tier: gone, order: 1, ingress: [{action: Allow, protocol: TCP}, {action: Deny}]}
        NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Pass, protocol: TCP}, {action: Pass, protocol: UDP}]}
        """,
        "b>a tcp/80, b>e tcp/80",
        "b>a udp/53, b>a icmp",
    ),
]
