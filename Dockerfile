# The images of Mizzen, from binaries built beforehand:
#
#   make bin
#   docker build --target controller -t mizzen/controller .
#   docker build --target cni        -t mizzen/cni .
#   docker build --target proxy      -t mizzen/proxy .
#
# `make images` does the same without a Docker daemon or a registry.
# No RUN anywhere: no image has or needs a shell.

# Envoy needs glibc, and a Gateway whose BackendTLSPolicy trusts the system's CAs needs ca-certificates. Any base with both will do.
ARG BASE_IMAGE=debian:bookworm-slim

FROM scratch AS controller
ARG VERSION=dev
LABEL org.opencontainers.image.title="mizzen-controller" \
      org.opencontainers.image.description="Control plane of the Mizzen service mesh" \
      org.opencontainers.image.source="https://github.com/mizzen-mesh/mizzen" \
      org.opencontainers.image.version="${VERSION}"
COPY .build/bin/mizzen-controller /usr/local/bin/mizzen-controller
# A number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/mizzen-controller"]

FROM scratch AS cni
ARG VERSION=dev
LABEL org.opencontainers.image.title="mizzen-cni" \
      org.opencontainers.image.description="CNI plugin of the Mizzen service mesh, and its process on each node" \
      org.opencontainers.image.source="https://github.com/mizzen-mesh/mizzen" \
      org.opencontainers.image.version="${VERSION}"
COPY .build/bin/mizzen-cni-node /usr/local/bin/mizzen-cni-node
COPY .build/bin/mizzen-cni /usr/local/bin/mizzen-cni
# It writes into directories of the node that belong to root.
USER 0:0
ENTRYPOINT ["/usr/local/bin/mizzen-cni-node"]

FROM ${BASE_IMAGE} AS proxy
ARG VERSION=dev
LABEL org.opencontainers.image.title="mizzen-proxy" \
      org.opencontainers.image.description="Sidecar of the Mizzen service mesh: agent and Envoy" \
      org.opencontainers.image.source="https://github.com/mizzen-mesh/mizzen" \
      org.opencontainers.image.version="${VERSION}"
# Envoy first: it changes rarely, and so its large layer stays the same.
COPY .build/bin/envoy /usr/local/bin/envoy
COPY .build/bin/mizzen-proxy /usr/local/bin/mizzen-proxy
# A directory of the agent's own, for bootstrap and sockets. COPY needs something to copy.
COPY --chown=1337:1337 cmd/mizzen-proxy/directory /run/mizzen
# The traffic capture excludes this UID.
USER 1337:1337
ENTRYPOINT ["/usr/local/bin/mizzen-proxy"]
