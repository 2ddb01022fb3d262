package secrets

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// What a secret looks like in a file: a private key in PEM with something in it, also with escaped line breaks, a
// JSON Web Token, or the same in base64, as in a Secret's data.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----(\\n|\\r|\s)+[A-Za-z0-9+/]{40}`),
	regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/]{0,12}UFJJVkFURSBLRVkt`), // "-----BEGIN … PRIVATE KEY-"
	regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/]*(QUklWQVRFIEtFWS|BSSVZBVEUgS0VZL)`),
	regexp.MustCompile(`eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}`),
}

// hidden are .git, and what is built.
func hidden(path string, d fs.DirEntry) bool {
	return path != root && strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci"
}

func secretIn(text []byte) string {
	for _, s := range secrets {
		if found := s.Find(text); found != nil {
			return string(found[:min(len(found), 40)])
		}
	}
	return ""
}

// Keys of tests are made when they run.
func TestRepositoryHasNoSecrets(t *testing.T) {
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if hidden(path, d) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > 8<<20 {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		if found := secretIn(content); found != "" {
			t.Errorf("%s: %s…", strings.TrimPrefix(path, root+"/"), found)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 500 {
		t.Errorf("%d files looked at", files)
	}
}

// The patterns find what they are for.
func TestSecretsAreFound(t *testing.T) {
	const body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"
	begin := "-----BEGIN " + "EC PRIVATE KEY-----"
	plain := "-----BEGIN " + "PRIVATE KEY-----"
	for name, text := range map[string]string{
		"PEM":       begin + "\n" + body,
		"indented":  "  key: |\n    " + plain + "\n    " + body,
		"escaped":   `"key": "` + plain + `\n` + body + `"`,
		"in base64": encode(plain + "\n" + body),
		"a token":   "Bearer eyJhbGciOiJSUzI1NiJ9." + "eyJhdWQiOlsibWl6emVuIl19.AAAAAAAAAAAAAAAAAAAAAAAAAA",
	} {
		if secretIn([]byte(text)) == "" {
			t.Errorf("%s: not found in %q", name, text)
		}
	}
	if found := secretIn([]byte(plain + "\"\n-----BEGIN CERTIFICATE-----\n" + body)); found != "" {
		t.Errorf("found %q", found)
	}
	if bytes.Contains([]byte(body), []byte(" ")) {
		t.Fatal("the example is none")
	}
}
