package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
	"github.com/mizzen-mesh/mizzen/hack/internal/pki"
)

// The images that the manifests of the Gateway API's conformance suite name; test/conformance checks that these are
// all. Upstream builds them from the same sources.
const (
	// EchoImage is Istio's echo application as released:
	// https://github.com/kubernetes-sigs/gateway-api/blob/v1.6.3/docker/Dockerfile.echo-advanced
	EchoImage = "registry.k8s.io/gateway-api/echo-advanced:v1.5.1"
	DNSImage  = "registry.k8s.io/coredns/coredns:v1.12.2"
)

// EchoBasicImages are names of the suite's own application. All of them are of the version in hack/echo-basic: a later
// one does what an earlier one did.
// https://github.com/kubernetes-sigs/gateway-api/blob/v1.6.3/docker/Dockerfile.echo-basic
var EchoBasicImages = []string{
	"registry.k8s.io/gateway-api/echo-basic:v1.5.1",
	"registry.k8s.io/gateway-api/echo-basic:v1.6.0-dev.2",
	"registry.k8s.io/gateway-api/echo-basic:v1.6.0-dev.3",
}

// conformanceVersion changes when an archive would come out differently.
const conformanceVersion = "2"

// These modules are not among Modules, as the cluster runs without them.
var (
	echoModule = Module{
		Name: "echo", Packages: []string{"istio.io/istio/pkg/test/echo/cmd/client", "istio.io/istio/pkg/test/echo/cmd/server"},
	}
	echoBasicModule = Module{Name: "echo-basic", Packages: []string{"sigs.k8s.io/gateway-api/conformance/echo-basic"}}
)

// Conformance returns the archives of the conformance suite's images.
func (b *Builder) Conformance() ([]string, error) {
	echo, err := b.Build(echoModule)
	if err != nil {
		return nil, err
	}
	basic, err := b.Build(echoBasicModule)
	if err != nil {
		return nil, err
	}
	dns, err := b.Build(module("coredns"))
	if err != nil {
		return nil, err
	}
	// The directory's name has a hash of what was built.
	sum := sha256.Sum256(fmt.Append(nil, conformanceVersion, EchoImage, DNSImage, EchoBasicImages,
		filepath.Base(echo), filepath.Base(basic), filepath.Base(dns)))
	dir, err := b.cached("conformance-images", hex.EncodeToString(sum[:])[:16], func(dir, _ string) error {
		return writeConformance(dir, echo, basic, dns)
	})
	if err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(dir, "*.tar"))
}

// writeConformance writes the archives, given the directories of the binaries.
func writeConformance(dir, echo, basic, dns string) error {
	if err := writeEcho(filepath.Join(dir, "echo-advanced.tar"), echo); err != nil {
		return err
	}
	for i, ref := range EchoBasicImages {
		err := ociimage.FromBinary(filepath.Join(dir, fmt.Sprintf("echo-basic-%d.tar", i)), ref, filepath.Join(basic, "echo-basic"))
		if err != nil {
			return err
		}
	}
	data, err := os.ReadFile(filepath.Join(dns, "coredns"))
	if err != nil {
		return err
	}
	// As root: the suite's pod listens on port 53, for which it has a capability that another user would not get.
	return ociimage.FromFiles(filepath.Join(dir, "coredns.tar"), DNSImage, []ociimage.File{{Name: "coredns", Mode: 0o755, Data: data}},
		map[string]any{"Entrypoint": []string{"/coredns"}})
}

// writeEcho writes the archive of Istio's application: paths, user and entry point are those of
// https://github.com/istio/istio/blob/master/pkg/test/echo/docker/Dockerfile.app.
// The suite runs `client` in its pods.
func writeEcho(archive, bin string) error {
	files, err := echoFiles(bin)
	if err != nil {
		return err
	}
	return ociimage.FromFiles(archive, EchoImage, files, map[string]any{
		"Entrypoint": []string{"/usr/local/bin/server"}, "User": "1338", "Env": []string{"PATH=/usr/local/bin"},
	})
}

func echoFiles(bin string) ([]ociimage.File, error) {
	client, err1 := os.ReadFile(filepath.Join(bin, "client"))
	server, err2 := os.ReadFile(filepath.Join(bin, "server"))
	cert, key, err3 := echoCertificate()
	return []ociimage.File{
		{Name: "usr/local/bin/client", Mode: 0o755, Data: client},
		{Name: "usr/local/bin/server", Mode: 0o755, Data: server},
		{Name: "cert.crt", Mode: 0o644, Data: cert},
		// The server's user reads it; it protects nothing.
		{Name: "cert.key", Mode: 0o644, Data: key},
	}, errors.Join(err1, err2, err3)
}

// echoCertificate makes what the server's TLS port shows; no client of the
// suite looks at it.
func echoCertificate() (cert, key []byte, err error) {
	dir, err := os.MkdirTemp("", "mizzen-echo-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	ca, err := pki.NewCA(dir, "echo-ca")
	if err != nil {
		return nil, nil, err
	}
	return ca.Issue(pki.Leaf{File: "echo", User: "echo", DNS: []string{"echo", "echo-v1", "echo-v2"}})
}
