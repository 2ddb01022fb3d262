package identity

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

// Keep is where the newest roots are kept for a container that restarts. Other containers of the pod may write there, too, so
// what is kept is sealed with a key that they do not know, and nothing of theirs is followed, waited for or read at length.
type Keep struct {
	File string
	// Key seals the file. Empty is to keep nothing.
	Key string
}

var errNotOurs = errors.New("another user than the sidecar has written it")

// sealed begins with a line that tells who has written the rest.
func (k Keep) sealed(text string) string {
	mac := hmac.New(sha256.New, []byte(k.Key))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil)) + "\n" + text
}

// read gives an empty text where nothing is kept.
func (k Keep) read() (string, error) {
	if k.Key == "" {
		return "", nil
	}
	f, err := os.OpenFile(k.File, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", errors.Join(err, errNotOurs)
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(len(k.sealed(""))+api.MaxBody)))
	if err != nil {
		return "", err
	}
	_, text, _ := strings.Cut(string(b), "\n")
	if !hmac.Equal(b, []byte(k.sealed(text))) {
		return "", errNotOurs
	}
	return text, nil
}

// save replaces the file as a whole: a container that is killed leaves the old one or the new one.
func (k Keep) save(r roots) error {
	if old, err := k.read(); k.Key == "" || (err == nil && old == r.pem) {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(k.File), filepath.Base(k.File)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(k.sealed(r.pem))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), k.File)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the roots: %w", err), os.Remove(f.Name()))
	}
	return nil
}
