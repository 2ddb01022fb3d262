// Command release builds all files of a release into .build/release. docs/release.md says what they are; `make release`
// calls it.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
	"github.com/mizzen-mesh/mizzen/hack/internal/release"
)

const usage = `usage: VERSION=v0.1.0 release [-check cached|fresh]

  VERSION              what is released: ` + release.Allowed + `
  ALLOW_DIRTY=1        build a tree that has changes
  MIZZEN_SIGNING_KEY   private key in PEM, or its file: SHA256SUMS gets a signature
  SOURCE_DATE_EPOCH    in place of the commit's date
  MIZZEN_BUILDER       URI that names who builds, for the provenance

`

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() error {
	var o release.Options
	flag.StringVar(&o.Check, "check", "", "build twice and compare: cached, with Go's build cache, or fresh, without")
	flag.Usage = func() { fmt.Fprint(os.Stderr, usage); flag.PrintDefaults() }
	flag.Parse()
	if o.Check != "" && o.Check != "cached" && o.Check != "fresh" {
		return fmt.Errorf("-check %q: allowed is cached or fresh", o.Check)
	}
	root, err := layout.ResolveRoot(".")
	if err != nil {
		return err
	}
	o.Root, o.Tag, o.AllowDirty = root, os.Getenv("VERSION"), os.Getenv("ALLOW_DIRTY") == "1"
	o.Epoch, o.Key = os.Getenv("SOURCE_DATE_EPOCH"), os.Getenv("MIZZEN_SIGNING_KEY")
	o.Builder, o.Run = release.Builder(os.Getenv)
	dir, err := release.Run(o, progress.New(os.Stderr))
	if err != nil {
		return err
	}
	fmt.Println(dir)
	return nil
}
