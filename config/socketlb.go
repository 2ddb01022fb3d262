package config

// SocketLoadBalancingRemedy says which setting of a kube-proxy replacement leaves Services' addresses to pods.
// https://docs.cilium.io/en/stable/network/servicemesh/istio/
// https://docs.tigera.io/calico/latest/reference/resources/felixconfig
const SocketLoadBalancingRemedy = "Cilium: socketLB.hostNamespaceOnly=true; Calico: bpfConnectTimeLoadBalancing: Disabled"
