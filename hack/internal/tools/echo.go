package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"

	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
	"github.com/mizzen-mesh/mizzen/hack/internal/pki"
)

// EchoImage is the name that the mesh manifests of the Gateway API's
// conformance suite use; test/conformance checks that it is the only one.
// Upstream's image of this name is Istio's echo application as released:
// https://github.com/kubernetes-sigs/gateway-api/blob/v1.6.3/docker/Dockerfile.echo-advanced
const EchoImage = "registry.k8s.io/gateway-api/echo-advanced:v1.5.1"

// echoVersion changes when the archive would come out differently.
const echoVersion = "1"

// echoModule is not among Modules, as the cluster runs without it.
var echoModule = Module{
	Name: "echo", Packages: []string{"istio.io/istio/pkg/test/echo/cmd/client", "istio.io/istio/pkg/test/echo/cmd/server"},
}

// Echo returns the archive of the conformance suite's application: paths, user
// and entry point are those of
// https://github.com/istio/istio/blob/master/pkg/test/echo/docker/Dockerfile.app.
// The suite runs `client` in its pods.
func (b *Builder) Echo() (string, error) {
	bin, err := b.Build(echoModule)
	if err != nil {
		return "", err
	}
	// The directory's name has a hash of what was built.
	sum := sha256.Sum256([]byte(EchoImage + echoVersion + filepath.Base(bin)))
	dir, err := b.cached("echo-image", hex.EncodeToString(sum[:])[:16], func(dir, _ string) error {
		files, err := echoFiles(bin)
		if err != nil {
			return err
		}
		return ociimage.FromFiles(filepath.Join(dir, "echo.tar"), EchoImage, files, map[string]any{
			"Entrypoint": []string{"/usr/local/bin/server"}, "User": "1338", "Env": []string{"PATH=/usr/local/bin"},
		})
	})
	return filepath.Join(dir, "echo.tar"), err
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
