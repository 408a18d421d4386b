"""What the pages and the recipes about Kubernetes' NetworkPolicy show, as cases, in documents as a user writes them."""

from tests.support.truth_documents import documented

RECIPES = [
    documented(
        "an application that nobody may talk to",
        "k8s red/p: {podSelector: {matchLabels: {app: a}}, ingress: []}",
        "a>b tcp/80, b>c tcp/80",
        "b>a tcp/80, d>a tcp/80, c>a icmp",
    ),
    documented(
        "pods with a label may talk to an application in the same namespace",
        "k8s red/p: {podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {tier: front}}}]}]}",
        "c>a tcp/80, c>a udp/53",
        "b>a tcp/80, e>a tcp/80",
    ),
    documented(
        "an application is open to all although its namespace is closed",
        """
        k8s red/closed: {podSelector: {}, ingress: []}
        k8s red/open: {podSelector: {matchLabels: {app: a}}, ingress: [{}]}
        """,
        "b>a tcp/80, e>a udp/9, c>a icmp",
        "a>b tcp/80, e>c tcp/80",
    ),
    documented(
        "an empty podSelector as a peer keeps other namespaces out",
        "k8s red/p: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}",
        "b>a tcp/80, a>c udp/53, d>e tcp/80, a>d tcp/80",
        "d>a tcp/80, e>c udp/53",
    ),
    documented(
        "an empty namespaceSelector lets in the pods of every namespace",
        "k8s red/p: {podSelector: {matchLabels: {app: a}}, ingress: [{from: [{namespaceSelector: {}}]}]}",
        "b>a tcp/80, d>a tcp/80, e>a udp/7",
    ),
    documented(
        "a namespace by the label that has its name",
        "k8s red/p: {podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: blue}}}]}]}",
        "d>a tcp/80, e>b udp/53",
        "b>a tcp/80, a>c tcp/80",
    ),
    documented(
        "several namespaces by one expression",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          policyTypes: [Egress]
          egress: [{to: [{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [x, y]}]}}]}]
        k8s red/q:
          podSelector: {matchLabels: {app: b}}
          policyTypes: [Egress]
          egress: [{to: [{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [y, z]}]}}]}]
        """,
        "a>b tcp/80, a>d tcp/80, b>d tcp/80, b>e udp/9",
        "b>a tcp/80, b>c tcp/80",
    ),
    documented(
        "namespaces by NotIn and DoesNotExist",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}]}}]}]
        k8s red/q:
          podSelector: {matchLabels: {app: b}}
          ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}]}]
        """,
        "d>a tcp/80, e>a tcp/80",
        "b>a tcp/80, a>b tcp/80, d>b tcp/80",
    ),
    documented(
        "some pods of some namespaces, by labels of both, in one element",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          ingress:
          - from: [{namespaceSelector: {matchLabels: {team: x}}, podSelector: {matchLabels: {app: b}}}]
        """,
        "b>a tcp/80",
        "c>a tcp/80, d>a tcp/80, e>a tcp/80",
    ),
    documented(
        "the same two selectors in two elements",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          ingress:
          - from: [{namespaceSelector: {matchLabels: {team: y}}}, {podSelector: {matchLabels: {tier: front}}}]
        """,
        "c>a tcp/80, d>a tcp/80, e>a tcp/80",
        "b>a tcp/80",
    ),
    documented(
        "the example of all parts: block, exception, namespace, pods and ports in; a block and a port out",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          policyTypes: [Ingress, Egress]
          ingress:
          - from:
            - ipBlock: {cidr: 10.65.0.4/31, except: [10.65.0.5/32]}
            - podSelector: {matchLabels: {tier: front}}
            ports: [{protocol: TCP, port: 6379}]
          egress:
          - to: [{ipBlock: {cidr: 10.65.0.2/32}}]
            ports: [{protocol: TCP, port: 5978}]
        """,
        "d>a tcp/6379, c>a tcp/6379, a>b tcp/5978",
        "e>a tcp/6379, b>a tcp/6379, c>a tcp/80, c>a udp/6379, a>b tcp/5979, a>c tcp/5978, a>b udp/5978",
    ),
    documented(
        "only one port of an application is reached, from anywhere",
        "k8s red/p: {podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 5000}]}]}",
        "b>a tcp/5000, e>a tcp/5000, e>a tcp/5000/6",
        "b>a tcp/8000, b>a udp/5000",
    ),
    documented(
        "several applications may use one, by one label each",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          ingress:
          - from: [{podSelector: {matchLabels: {app: b}}}, {podSelector: {matchLabels: {app: c, tier: front}}}]
        """,
        "b>a tcp/80, c>a tcp/80",
        "d>a tcp/80, e>a tcp/80",
    ),
    documented(
        "several labels of one selector have to be there together",
        "k8s red/p: {podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: b, tier: front}}}]}]}",
        "",
        "b>a tcp/80, c>a tcp/80, e>a tcp/80",
    ),
    documented(
        "matchLabels and matchExpressions of one selector add up",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: c}, matchExpressions: [{key: tier, operator: In, values: [front, mid]}]}
        k8s red/q:
          podSelector: {matchLabels: {app: b}, matchExpressions: [{key: tier, operator: Exists}]}
        """,
        "a>b tcp/80",
        "a>c tcp/80",
    ),
    documented(
        "an application that may talk to nobody",
        "k8s red/p: {podSelector: {matchLabels: {app: a}}, policyTypes: [Egress], egress: []}",
        "b>a tcp/80",
        "a>b tcp/80, a>d udp/53, a>b icmp",
    ),
    documented(
        "an application that may ask for names and nothing else",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          policyTypes: [Egress]
          egress: [{ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]}]
        """,
        "a>d udp/53, a>d tcp/53, a>b udp/53",
        "a>d tcp/80, a>d udp/54, a>d icmp",
    ),
    documented(
        "names are asked of the servers of one namespace only",
        """
        k8s red/p:
          podSelector: {}
          policyTypes: [Egress]
          egress:
          - to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: blue}}, podSelector: {matchLabels: {app: a}}}]
            ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
        """,
        "a>d udp/53, b>d tcp/53",
        "a>e udp/53, a>d tcp/80, a>b udp/53",
    ),
    documented(
        "no traffic leaves the cluster, pods are reached",
        "k8s red/p: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}]}]}",
        "a>b tcp/80, a>d udp/53, b>e icmp",
    ),
    documented(
        "out to everywhere but one range",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          policyTypes: [Egress]
          egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.65.0.2/31, 192.0.2.0/24]}}]}]
        """,
        "a>d tcp/80, a>e udp/53",
        "a>b tcp/80, a>c udp/9, a>d tcp/80/6",
    ),
    documented(
        "everywhere is one block of each family",
        "k8s red/p: {podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]}]}",
        "b>a tcp/80, d>a udp/53, e>b tcp/80/6",
    ),
    documented(
        "endPort of other protocols, and a range of one port",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          ingress:
          - ports: [{port: 32000, endPort: 32768, protocol: UDP}, {port: 7, endPort: 7, protocol: SCTP}]
        """,
        "b>a udp/32000, b>a udp/32768, b>a sctp/7",
        "b>a udp/31999, b>a udp/32769, b>a tcp/32100, b>a sctp/8",
    ),
    documented(
        "endPort in egress",
        """
        k8s red/p:
          podSelector: {matchLabels: {app: a}}
          policyTypes: [Egress]
          egress: [{to: [{ipBlock: {cidr: 10.65.0.0/24}}], ports: [{port: 32000, endPort: 32768}]}]
        """,
        "a>b tcp/32000, a>d tcp/32768",
        "a>b tcp/31999, a>b udp/32100",
    ),
    documented(
        "SCTP, one port of it",
        "k8s red/p: {podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 7777, protocol: SCTP}]}]}",
        "b>a sctp/7777, b>a sctp/7777/6",
        "b>a sctp/7778, b>a tcp/7777, b>a udp/7777",
    ),
    documented(
        "one name of a port in two protocols",
        "k8s blue/p: {podSelector: {}, ingress: [{ports: [{port: dns, protocol: UDP}]}]}",
        "a>d udp/53, a>d udp/53/6",
        "a>d tcp/53, a>e udp/53",
    ),
    documented(
        "a rule with ports and no peers is for all peers, one with neither for everything",
        """
        k8s red/p: {podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80}], from: []}]}
        k8s red/q: {podSelector: {matchLabels: {app: b}}, ingress: [{ports: [], from: []}]}
        """,
        "e>a tcp/80, d>b tcp/80, d>b icmp",
        "e>a tcp/81",
    ),
    documented(
        "a policy for what comes in leaves what goes out alone, and the other way round",
        """
        k8s red/p: {podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress]}
        k8s red/q: {podSelector: {matchLabels: {app: b}}, policyTypes: [Egress]}
        """,
        "a>c tcp/80, c>b tcp/80",
        "c>a tcp/80, b>c tcp/80",
    ),
    documented(
        "an empty list of egress rules with types of ingress only changes nothing about egress",
        "k8s red/p: {podSelector: {matchLabels: {app: a}}, policyTypes: [Ingress], egress: [], ingress: [{}]}",
        "a>b tcp/80, b>a tcp/80, a>d icmp",
    ),
    documented(
        "policies of other namespaces do not matter",
        """
        k8s blue/p: {podSelector: {}, policyTypes: [Ingress, Egress]}
        k8s nowhere/q: {podSelector: {}, policyTypes: [Ingress, Egress]}
        """,
        "a>b tcp/80, b>c udp/53",
        "d>e tcp/80, a>d tcp/80, d>a tcp/80",
    ),
    documented(
        "a policy that cannot be read closes what it selects",
        """
        k8s red/p: {podSelector: {matchLabels: {app: a}}, ingress: [{ports: [{port: 80, endPort: 70}]}]}
        """,
        "d>e tcp/80",
        "b>a tcp/80, d>a tcp/80",
        broken=True,
    ),
]
