package identity

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

// Where the roots are kept other containers of the pod may write, too.
func TestKeep(t *testing.T) {
	for name, c := range map[string]struct {
		// before is what another container has done to the file.
		before func(k Keep) error
		err    bool
		// saved is false where the other one's doing cannot be undone.
		saved bool
	}{
		"nothing there": {func(Keep) error { return nil }, false, true},
		"another's file": {func(k Keep) error {
			return os.WriteFile(k.File, []byte("roots"), 0o644)
		}, true, true},
		"sealed with another key": {func(k Keep) error {
			return os.WriteFile(k.File, []byte(Keep{k.File, "guessed"}.sealed("roots")), 0o644)
		}, true, true},
		"a link": {func(k Keep) error {
			if err := os.WriteFile(k.File+"-target", []byte(k.sealed("roots")), 0o644); err != nil {
				return err
			}
			return os.Symlink(k.File+"-target", k.File)
		}, true, true},
		"a pipe": {func(k Keep) error { return unix.Mkfifo(k.File, 0o666) }, true, true},
		"a large file": {func(k Keep) error {
			return os.WriteFile(k.File, []byte(k.sealed(strings.Repeat("x", api.MaxBody+1))), 0o644)
		}, true, true},
		"a directory": {func(k Keep) error { return os.MkdirAll(filepath.Join(k.File, "x"), 0o755) }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			k := Keep{filepath.Join(t.TempDir(), "roots"), "a key"}
			if err := c.before(k); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				if text, err := k.read(); text != "" || (err != nil) != c.err {
					t.Errorf("read %q, %v", text, err)
				}
				if err := k.save(roots{pem: "newer"}); (err == nil) != c.saved {
					t.Errorf("save: %v", err)
				}
				if text, err := k.read(); c.saved && (text != "newer" || err != nil) {
					t.Errorf("read again %q, %v", text, err)
				}
			}()
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Fatal("it waits")
			}
			if left, _ := filepath.Glob(k.File + ".*"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if target, err := os.ReadFile(k.File + "-target"); err == nil && strings.Contains(string(target), "newer") {
				t.Error("the link was followed")
			}
		})
	}
}

// Without a key nothing is read and nothing is written.
func TestKeepWithoutKey(t *testing.T) {
	k := Keep{File: filepath.Join(t.TempDir(), "roots")}
	if err := k.save(roots{pem: "roots"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(k.File); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file: %v", err)
	}
}
