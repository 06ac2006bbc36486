"""One real single-node Kubernetes on a bare Debian machine, from package registries alone."""
