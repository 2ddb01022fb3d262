// Package golden compares what a test produced with files kept beside it, one directory a case:
//
//	testdata/<telling-name>/in.yaml   what goes in, written by people
//	testdata/<telling-name>/out.yaml  all that comes out, written by `go test <package> -update`
//
// Only tests import it; it imports nothing of this module.
package golden

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// Case is one directory below testdata.
type Case struct {
	Name string
	Dir  string
	used map[string]bool
}

// Run runs test once for each directory in root, then reports the files of that directory that the
// test has neither read nor checked: a golden that nothing compares looks like a test and is none.
// With -update such files are removed if they begin with "out" or "err", the names of outputs.
func Run(t *testing.T, root string, test func(t *testing.T, c *Case)) {
	t.Helper()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, entry := range entries {
		if !entry.IsDir() || entry.Name() == "fuzz" { // testdata/fuzz belongs to the go command
			continue
		}
		ran++
		t.Run(entry.Name(), func(t *testing.T) {
			c := &Case{Name: entry.Name(), Dir: filepath.Join(root, entry.Name()), used: map[string]bool{}}
			test(t, c)
			c.orphans(t)
		})
	}
	if ran == 0 {
		t.Fatalf("%s holds no case", root)
	}
}

// Read gives the content of a file that the case must have.
func (c *Case) Read(t testing.TB, name string) []byte {
	t.Helper()
	b, ok := c.ReadOptional(t, name)
	if !ok {
		t.Fatalf("%s: no %s", c.Dir, name)
	}
	return b
}

// ReadOptional gives the content of a file, and false if the case has none of that name.
func (c *Case) ReadOptional(t testing.TB, name string) ([]byte, bool) {
	t.Helper()
	c.used[name] = true
	b, err := os.ReadFile(filepath.Join(c.Dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return b, true
}

// Check compares got with the case's file of that name.
func (c *Case) Check(t testing.TB, name string, got []byte) {
	t.Helper()
	c.used[name] = true
	Check(t, filepath.Join(c.Dir, name), got)
}

// Check compares got with the file at path, or writes it there with -update.
func Check(t testing.TB, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (write it with -update)", err)
	}
	if !bytes.Equal(want, got) {
		t.Errorf("%s differs (-want +got); accept with -update:\n%s", path, cmp.Diff(string(want), string(got)))
	}
}

// CheckSection compares got with the part of the file at path between the lines "<!-- begin name -->" and
// "<!-- end name -->", or writes that part with -update. So several tests can share a page.
func CheckSection(t testing.TB, path, name string, got []byte) {
	t.Helper()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := []byte("<!-- begin "+name+" -->\n"), []byte("<!-- end "+name+" -->\n")
	before, rest, began := bytes.Cut(file, begin)
	want, after, ended := bytes.Cut(rest, end)
	switch {
	case !began || !ended:
		t.Fatalf("%s: want a section between the lines %q and %q", path, bytes.TrimSpace(begin), bytes.TrimSpace(end))
	case bytes.Equal(want, got):
	case *update:
		if err := os.WriteFile(path, slices.Concat(before, begin, got, end, after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s: section %s differs (-want +got); accept with -update:\n%s", path, name, cmp.Diff(string(want), string(got)))
	}
}

func (c *Case) orphans(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if c.used[name] {
			continue
		}
		if *update && (strings.HasPrefix(name, "out") || strings.HasPrefix(name, "err")) {
			if err := os.Remove(filepath.Join(c.Dir, name)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("%s: nothing reads or checks %s", c.Dir, name)
	}
}
