package components

import (
	"fmt"
	"net/netip"

	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
)

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.IPv6Loopback()
)

// Component is one program of the cluster.
type Component struct {
	Name string
	Path string
	Args []string
	// After names the components that must be ready before this one is first
	// started. It only saves restarts: each finds the others by itself later.
	After []string
	Ready Probe
}

// Probe says how to see, from inside the node, that a component is ready:
// by a Unix socket that accepts, or a URL that answers 200. The certificate of
// an https URL is not checked: the probe comes from the node itself, and the
// controllers make their own.
type Probe struct {
	Socket string
	URL    string
}

// Version says how the cluster's Kubernetes differs from the newest with its defaults.
type Version struct {
	// Emulated is a minor version, such as "1.34", whose APIs and gates the control plane then has (KEP-4330).
	// The kubelet cannot emulate.
	Emulated string
	// FeatureGates are switched in the control plane and the kubelet, as "Name=true,Other=false".
	FeatureGates string
}

// args returns what a component is told of it.
func (v Version) args(component string) []string {
	var args []string
	switch component {
	case "kube-apiserver", "kube-controller-manager", "kube-scheduler":
		if v.Emulated != "" {
			args = append(args, "--emulated-version="+v.Emulated)
		}
	case "kubelet":
	default:
		return nil
	}
	if v.FeatureGates != "" {
		args = append(args, "--feature-gates="+v.FeatureGates)
	}
	return args
}

// All lists the components in the order in which they are started.
func All(in Input) []Component {
	list := components(in)
	for i, c := range list {
		list[i].Args = append(c.Args, in.Version.args(c.Name)...)
	}
	return list
}

func components(in Input) []Component {
	return []Component{
		{
			Name: "containerd", Path: in.Tools.Bin("containerd", "containerd"),
			Args:  []string{"--config", in.State("config", "containerd.toml")},
			Ready: Probe{Socket: in.ContainerdSocket()},
		},
		{
			Name: "etcd", Path: in.Tools.Bin("kube", "etcd"),
			Args: []string{
				"--data-dir=" + in.State("etcd"),
				// Plain HTTP, but in the node's namespace only.
				"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
				"--listen-peer-urls=http://127.0.0.1:2380",
				// The data does not outlive the cluster, so a crash of the machine may lose it.
				"--unsafe-no-fsync",
			},
			Ready: Probe{URL: "http://127.0.0.1:2379/readyz"},
		},
		apiServer(in),
		controllerManager(in),
		scheduler(in),
		{
			Name: "coredns", Path: in.Tools.Bin("coredns", "coredns"),
			Args:  []string{"-conf", in.State("config", "Corefile")},
			After: []string{"kube-apiserver"},
			Ready: Probe{URL: "http://127.0.0.1:8181/ready"},
		},
		{
			Name: "kubelet", Path: in.Tools.Bin("kube", "kubelet"),
			Args: []string{
				"--config=" + in.State("config", "kubelet.yaml"),
				"--kubeconfig=" + in.State("config", "kubelet.kubeconfig"),
				"--hostname-override=" + layout.NodeName,
				fmt.Sprintf("--node-ip=%s,%s", in.Node4, in.Node6),
			},
			After: []string{"kube-apiserver", "containerd"},
			Ready: Probe{URL: "http://127.0.0.1:10248/healthz"},
		},
		{
			Name: "kube-proxy", Path: in.Tools.Bin("kube", "kube-proxy"),
			Args:  []string{"--config=" + in.State("config", "kube-proxy.yaml")},
			After: []string{"kubelet"},
			Ready: Probe{URL: "http://127.0.0.1:10256/healthz"},
		},
		{
			Name: "load-balancer", Path: in.Tools.Bin("kube", "load-balancer"),
			Args: []string{
				"--kubeconfig=" + in.State("config", "load-balancer.kubeconfig"),
				"--addresses=" + in.LoadBalancers4.String(),
				"--healthz-bind-address=127.0.0.1:10260",
			},
			After: []string{"kube-apiserver"},
			Ready: Probe{URL: "http://127.0.0.1:10260/healthz"},
		},
	}
}

func apiServer(in Input) Component {
	return Component{
		Name: "kube-apiserver", Path: in.Tools.Bin("kube", "kube-apiserver"),
		Args: []string{
			"--etcd-servers=http://127.0.0.1:2379",
			"--bind-address=::", "--secure-port=6443", "--advertise-address=" + in.Node4.String(),
			"--tls-cert-file=" + in.Pki("apiserver.crt"), "--tls-private-key-file=" + in.Pki("apiserver.key"),
			"--client-ca-file=" + in.Pki("ca.crt"),
			// As in a kubeadm cluster; the plugins on by default (PodSecurity,
			// the webhooks and policies, ServiceAccount …) stay on.
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--allow-privileged=true",
			fmt.Sprintf("--service-cluster-ip-range=%s,%s", in.Services4, in.Services6),
			"--service-account-issuer=https://kubernetes.default.svc." + layout.ClusterDomain,
			"--service-account-key-file=" + in.Pki("service-account.pub"),
			"--service-account-signing-key-file=" + in.Pki("service-account.key"),
			"--kubelet-preferred-address-types=InternalIP",
			"--kubelet-certificate-authority=" + in.Pki("ca.crt"),
			"--kubelet-client-certificate=" + in.Pki("apiserver-kubelet-client.crt"),
			"--kubelet-client-key=" + in.Pki("apiserver-kubelet-client.key"),
			"--requestheader-client-ca-file=" + in.Pki("front-proxy-ca.crt"),
			"--requestheader-allowed-names=front-proxy-client",
			"--requestheader-username-headers=X-Remote-User",
			"--requestheader-group-headers=X-Remote-Group",
			"--requestheader-extra-headers-prefix=X-Remote-Extra-",
			"--proxy-client-cert-file=" + in.Pki("front-proxy.crt"), "--proxy-client-key-file=" + in.Pki("front-proxy.key"),
		},
		After: []string{"etcd"},
		Ready: Probe{URL: "https://127.0.0.1:6443/readyz"},
	}
}

func controllerManager(in Input) Component {
	kubeconfig := in.State("config", "kube-controller-manager.kubeconfig")
	return Component{
		Name: "kube-controller-manager", Path: in.Tools.Bin("kube", "kube-controller-manager"),
		Args: []string{
			"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
			"--bind-address=127.0.0.1", "--leader-elect=false",
			"--use-service-account-credentials=true",
			"--service-account-private-key-file=" + in.Pki("service-account.key"),
			"--root-ca-file=" + in.Pki("ca.crt"),
			"--cluster-signing-cert-file=" + in.Pki("ca.crt"), "--cluster-signing-key-file=" + in.Pki("ca.key"),
			// One node, which gets the whole range: so the CNI configuration,
			// written before the node exists, is right.
			"--allocate-node-cidrs=true",
			fmt.Sprintf("--cluster-cidr=%s,%s", in.Pods4, in.Pods6),
			fmt.Sprintf("--node-cidr-mask-size-ipv4=%d", in.Pods4.Bits()), fmt.Sprintf("--node-cidr-mask-size-ipv6=%d", in.Pods6.Bits()),
			fmt.Sprintf("--service-cluster-ip-range=%s,%s", in.Services4, in.Services6),
			// Scale tests make thousands of objects.
			"--kube-api-qps=200", "--kube-api-burst=400",
		},
		After: []string{"kube-apiserver"},
		Ready: Probe{URL: "https://127.0.0.1:10257/healthz"},
	}
}

func scheduler(in Input) Component {
	kubeconfig := in.State("config", "kube-scheduler.kubeconfig")
	return Component{
		Name: "kube-scheduler", Path: in.Tools.Bin("kube", "kube-scheduler"),
		Args: []string{
			"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
			"--bind-address=127.0.0.1", "--leader-elect=false",
			"--kube-api-qps=200", "--kube-api-burst=400",
		},
		After: []string{"kube-apiserver"},
		Ready: Probe{URL: "https://127.0.0.1:10259/healthz"},
	}
}
