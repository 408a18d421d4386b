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
]
