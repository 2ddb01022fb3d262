package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/webhook"
)

var goodProbeKey = regexp.MustCompile("^[A-Za-z0-9]{16,128}$")

type injectOptions struct {
	files       []string
	meshConfig  string
	image       string
	trustBundle string
	probeKey    string
	output      string
}

// run writes only if everything succeeded, because kubectl would apply a partial output.
func (o *injectOptions) run(stdin io.Reader, stdout, stderr io.Writer) error {
	mesh, err := o.mesh()
	if err != nil {
		return err
	}
	bundle, err := o.bundle(mesh)
	if err != nil {
		return err
	}
	if o.probeKey == "" {
		o.probeKey = webhook.NewProbeKey()
	} else if !goodProbeKey.MatchString(o.probeKey) {
		return errors.New("--probe-key: want 16 to 128 letters and digits")
	}
	in := injection{mesh: mesh, trustBundle: bundle, probeKey: o.probeKey}
	sources, err := readSources(o.files, stdin)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	var errs []error
	workloads := 0
	for _, src := range sources {
		for i, doc := range splitDocuments(src.content) {
			result, notes, err := in.document(doc)
			place := fmt.Sprintf("%s: document %d", src.name, i+1)
			for _, note := range notes {
				fmt.Fprintf(stderr, "%s: %s\n", place, note)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", place, err))
			}
			workloads += len(notes)
			appendDocument(&out, result)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if workloads == 0 {
		fmt.Fprintln(stderr, "no workload found")
	}
	if o.output == "-" {
		_, err := stdout.Write(out.Bytes())
		return err
	}
	return os.WriteFile(o.output, out.Bytes(), 0o644)
}

func (o *injectOptions) mesh() (*config.Mesh, error) {
	mesh, err := loadMesh(o.meshConfig)
	if err != nil {
		return nil, err
	}
	if o.image != "" {
		mesh.Sidecar.Image = o.image
	}
	if mesh.Sidecar.Image == "" {
		return nil, errors.New("no sidecar image: pass --image, or --mesh-config with sidecar.image")
	}
	if err := mesh.ValidateForInjection(); err != nil {
		return nil, fmt.Errorf("--image: %w", err) // the file was found valid by Load
	}
	return mesh, nil
}

// identitySaid names the source of the setting that sidecars have identities.
func (o *injectOptions) identitySaid() string {
	if o.meshConfig == "" {
		return "without --mesh-config, sidecars have identities (identity.enabled)"
	}
	return o.meshConfig + " has identity.enabled"
}

// bundle reads the mesh's roots, nil for a mesh without identity.
func (o *injectOptions) bundle(mesh *config.Mesh) ([]byte, error) {
	if o.trustBundle == "" {
		if *mesh.Identity.Enabled {
			return nil, fmt.Errorf("%s: pass the mesh's roots with --trust-bundle; docs/mizzenctl.md says where to find them", o.identitySaid())
		}
		return nil, nil
	}
	b, err := os.ReadFile(o.trustBundle)
	if err != nil {
		return nil, fmt.Errorf("--trust-bundle: %w", err)
	}
	if err := webhook.CheckTrustBundle(b); err != nil {
		return nil, fmt.Errorf("--trust-bundle: %s: %w", o.trustBundle, err)
	}
	return b, nil
}
