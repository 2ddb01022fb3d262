package release

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Source is what is built.
type Source struct {
	Root   string // of the checkout
	Commit string
	Time   time.Time // of the commit: whatever needs a date has this one
	Dirty  bool      // the tree has changes that the commit does not
	Files  []string  // all that git knows or would add
}

// ReadSource asks git. A tree with changes is refused unless it is allowed, and a tag that is there has to be of the
// commit that is built. A date in epoch, seconds since 1970, takes precedence over the commit's.
func ReadSource(root, tag, epoch string, allowDirty bool) (Source, error) {
	s := Source{Root: root}
	git := func(args ...string) (string, error) {
		cmd := exec.Command("git", append([]string{"-C", root}, args...)...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			err = fmt.Errorf("git %s: %w\n%s", strings.Join(args, " "), err, errs.Bytes())
		}
		return string(out), err
	}
	head, err1 := git("rev-parse", "HEAD")
	date, err2 := git("show", "--no-patch", "--format=%ct", "HEAD")
	status, err3 := git("status", "--porcelain")
	files, err4 := git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return s, err
	}
	s.Commit = strings.TrimSpace(head)
	if epoch == "" {
		epoch = strings.TrimSpace(date)
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil || seconds < 0 {
		return s, fmt.Errorf("SOURCE_DATE_EPOCH %q: allowed are seconds since 1970", epoch)
	}
	s.Time = time.Unix(seconds, 0).UTC()
	if s.Dirty = status != ""; s.Dirty && !allowDirty {
		return s, fmt.Errorf("the tree has changes that commit %.12s does not have; commit them, or set ALLOW_DIRTY=1 for a build that nobody else can repeat:\n%s", s.Commit, status)
	}
	if at, err := git("rev-parse", "--verify", "--quiet", "refs/tags/"+tag+"^{commit}"); err == nil && strings.TrimSpace(at) != s.Commit {
		return s, fmt.Errorf("tag %s is of commit %.12s, and not of %.12s, which is checked out", tag, at, s.Commit)
	}
	for _, f := range strings.Split(strings.TrimRight(files, "\x00"), "\x00") {
		// A file that was deleted, but not from the index, is none.
		if _, err := os.Lstat(filepath.Join(root, f)); err == nil {
			s.Files = append(s.Files, f)
		}
	}
	return s, nil
}

// Copy copies the source, and what lies below one of its directories if under is not "", to another place. All files
// are from the commit's time there.
func (s Source) Copy(under, to string) error {
	for _, f := range s.Files {
		name := f
		if under != "" {
			var ok bool
			if name, ok = strings.CutPrefix(f, under+"/"); !ok {
				continue
			}
		}
		from, target := filepath.Join(s.Root, f), filepath.Join(to, name)
		st, err := os.Lstat(from)
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() {
			return fmt.Errorf("%s: %s, allowed is a regular file", f, st.Mode())
		}
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if st.Mode()&0o111 != 0 {
			mode = 0o755
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(target), 0o755), os.WriteFile(target, data, mode), os.Chtimes(target, s.Time, s.Time)); err != nil {
			return err
		}
	}
	return nil
}
