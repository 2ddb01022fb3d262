package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
)

// Media types of charts in registries: https://helm.sh/docs/topics/registries/
const (
	chartConfig  = "application/vnd.cncf.helm.config.v1+json"
	chartContent = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// chart packages the chart, and writes it again as an archive that can be copied into a registry. Only what git knows
// gets into it.
func (b Build) chart(dir, work string) (named, error) {
	chart := filepath.Join(work, "chart")
	if err := b.Copy("charts/mizzen", chart); err != nil {
		return named{}, err
	}
	out, err := exec.Command(b.Helm, "package", chart, "--version", b.Version, "--app-version", b.Version, "--destination", dir).CombinedOutput()
	if err != nil {
		return named{}, fmt.Errorf("helm package: %w\n%s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, "mizzen-"+b.Version+".tgz"))
	if err != nil {
		return named{}, err
	}
	artifact, err := chartArtifact(data, b.Time)
	if err != nil {
		return named{}, err
	}
	n := named{"mizzen:" + b.Version, artifact}
	return n, writeImages(filepath.Join(dir, "mizzen-chart-"+b.Version+".tar"), []named{n})
}

// chartArtifact returns what `helm push` makes of a packaged chart.
func chartArtifact(tgz []byte, created time.Time) (ociimage.Artifact, error) {
	meta, err := chartMetadata(tgz)
	if err != nil {
		return ociimage.Artifact{}, err
	}
	config, err := yaml.YAMLToJSON(meta)
	if err != nil {
		return ociimage.Artifact{}, err
	}
	var about struct{ Name, Version, Description string }
	if err := json.Unmarshal(config, &about); err != nil {
		return ociimage.Artifact{}, err
	}
	return ociimage.Manifest(ociimage.Blob{MediaType: chartConfig, Data: config}, map[string]string{
		v1.AnnotationTitle: about.Name, v1.AnnotationVersion: about.Version, v1.AnnotationDescription: about.Description,
		v1.AnnotationCreated: created.UTC().Format(time.RFC3339),
	}, ociimage.Blob{MediaType: chartContent, Data: tgz})
}

// chartMetadata returns the Chart.yaml of a packaged chart.
func chartMetadata(tgz []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(tgz))
	if err != nil {
		return nil, err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("a packaged chart without mizzen/Chart.yaml")
		}
		if err != nil {
			return nil, err
		}
		if h.Name == "mizzen/Chart.yaml" {
			return io.ReadAll(r)
		}
	}
}
