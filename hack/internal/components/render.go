// Package components says how each program of the cluster is run: flags,
// configuration files, users, and how to see that it is ready.
package components

import (
	"bytes"
	"embed"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"text/template"

	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/pki"
	"github.com/mizzen-mesh/mizzen/hack/internal/tools"
)

// PauseImage is the sandbox image; it is imported when containerd is up.
const PauseImage = "docker.io/mizzen/pause:dev"

//go:embed files
var files embed.FS

// Input is all that the configuration depends on.
type Input struct {
	layout.Layout
	layout.Network
	Tools   tools.Set
	Version Version
}

// Constants for the templates.

func (Input) PauseImage() string    { return PauseImage }
func (Input) NodeName() string      { return layout.NodeName }
func (Input) ClusterDomain() string { return layout.ClusterDomain }
func (Input) OutsideName() string   { return layout.OutsideName }

// targets maps each template to its place below the state's config directory.
var targets = map[string]string{
	"containerd.toml": "containerd.toml",
	"cni.conflist":    "cni/10-mizzen.conflist",
	"kubelet.yaml":    "kubelet.yaml",
	"kube-proxy.yaml": "kube-proxy.yaml",
	"Corefile":        "Corefile",
	"bootstrap.yaml":  "bootstrap.yaml",
}

// Render returns the configuration files by their path below the state's
// config directory.
func Render(in Input) (map[string][]byte, error) {
	out := map[string][]byte{
		// Pods get the cluster's DNS; nothing of the host's resolver applies.
		"resolv.conf": fmt.Appendf(nil, "nameserver %s\n", in.Node4),
	}
	for name, target := range targets {
		t, err := template.New(name).Option("missingkey=error").ParseFS(files, "files/"+name)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, in); err != nil {
			return nil, fmt.Errorf("render %s: %w", name, err)
		}
		out[target] = b.Bytes()
	}
	return out, nil
}

// Write makes everything the components read: certificates, kubeconfigs and
// configuration.
func Write(in Input) error {
	for _, dir := range []string{"pki", "config/cni", "cni-bin", "log"} {
		if err := os.MkdirAll(in.State(dir), 0o755); err != nil {
			return err
		}
	}
	rendered, err := Render(in)
	if err != nil {
		return err
	}
	for name, data := range rendered {
		if err := os.WriteFile(in.State("config", name), data, 0o644); err != nil {
			return err
		}
	}
	return writePKI(in)
}

func writePKI(in Input) error {
	dir := in.State("pki")
	ca, err := pki.NewCA(dir, "ca")
	if err != nil {
		return err
	}
	if err := pki.WriteKeyPair(dir, "service-account"); err != nil {
		return err
	}
	for _, l := range leaves(in) {
		if _, _, err := ca.Issue(l); err != nil {
			return err
		}
	}
	for name, l := range users() {
		cert, key, err := ca.Issue(l)
		if err != nil {
			return err
		}
		path := in.State("config", name+".kubeconfig")
		if name == "admin" {
			path = in.Kubeconfig()
		}
		if err := os.WriteFile(path, pki.Kubeconfig(in.APIServer(), ca.PEM(), cert, key), 0o600); err != nil {
			return err
		}
	}
	// A CA of its own: who holds its certificates may claim to be anyone.
	front, err := pki.NewCA(dir, "front-proxy-ca")
	if err != nil {
		return err
	}
	_, _, err = front.Issue(pki.Leaf{File: "front-proxy", User: "front-proxy-client"})
	return err
}

// leaves are the certificates used as files.
func leaves(in Input) []pki.Leaf {
	node := []netip.Addr{in.Node4, in.Node6, loopback4, loopback6}
	return []pki.Leaf{
		{
			File: "apiserver", User: "kube-apiserver",
			DNS: []string{
				"kubernetes", "kubernetes.default", "kubernetes.default.svc",
				"kubernetes.default.svc." + layout.ClusterDomain, "localhost", layout.NodeName,
			},
			IPs: append([]netip.Addr{in.API4, in.API6}, node...),
		},
		{File: "apiserver-kubelet-client", User: "kube-apiserver-kubelet-client", Groups: []string{"system:masters"}},
		// The API server dials the node's address, for logs and exec.
		{File: "kubelet", User: "system:node:" + layout.NodeName, Groups: []string{"system:nodes"}, DNS: []string{layout.NodeName}, IPs: node},
	}
}

// users are the clients that get a kubeconfig; the names are those that the
// API server's default RBAC bindings know.
func users() map[string]pki.Leaf {
	return map[string]pki.Leaf{
		"admin":                   {File: "admin", User: "mizzen-admin", Groups: []string{"system:masters"}},
		"kubelet":                 {File: "kubelet-client", User: "system:node:" + layout.NodeName, Groups: []string{"system:nodes"}},
		"kube-controller-manager": {File: "kube-controller-manager", User: "system:kube-controller-manager"},
		"kube-scheduler":          {File: "kube-scheduler", User: "system:kube-scheduler"},
		"kube-proxy":              {File: "kube-proxy", User: "system:kube-proxy"},
		"coredns":                 {File: "coredns", User: "system:coredns"},
		// The default bindings have a role for a cloud's service controller, which this is.
		"load-balancer": {File: "load-balancer", User: "system:serviceaccount:kube-system:service-controller"},
	}
}

// Pki is the path of a file in the pki directory.
func (in Input) Pki(file string) string { return filepath.Join(in.State("pki"), file) }
