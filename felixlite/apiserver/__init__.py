"""The store served as a Kubernetes-style API, so that kubectl works where there is no Kubernetes. ADR 14."""
