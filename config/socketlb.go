package config

// SocketLoadBalancingRemedy names the settings with which kube-proxy replacements leave Services' addresses to
// sidecars.
// https://docs.cilium.io/en/stable/network/servicemesh/istio/
// https://docs.tigera.io/calico/latest/reference/resources/felixconfig
const SocketLoadBalancingRemedy = "Cilium: socketLB.hostNamespaceOnly=true; Calico: bpfConnectTimeLoadBalancing: Disabled"
