package dockerfile

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	stages, err := Parse([]byte(`# A comment.
ARG BASE=debian
FROM scratch AS one
ARG VERSION=dev
LABEL org.opencontainers.image.title="a title" \
      org.opencontainers.image.version="${VERSION}"
COPY .build/bin/x /usr/local/bin/x
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/x", "-v"]
FROM ${BASE} AS two
COPY --chown=1337:1337 dir /run/x
`), map[string]string{"VERSION": "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	want := []Stage{
		{
			Name: "one", Base: "scratch",
			Labels:     map[string]string{"org.opencontainers.image.title": "a title", "org.opencontainers.image.version": "1.2.3"},
			Copies:     []Copy{{From: ".build/bin/x", To: "/usr/local/bin/x"}},
			User:       "65532:65532",
			Entrypoint: []string{"/usr/local/bin/x", "-v"},
		},
		{Name: "two", Base: "debian", Labels: map[string]string{}, Copies: []Copy{{From: "dir", To: "/run/x", Owner: "1337:1337"}}},
	}
	if !reflect.DeepEqual(stages, want) {
		t.Errorf("got  %+v\nwant %+v", stages, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"FROM scratch\n", "FROM image AS name"},
		{"COPY a /b\nFROM scratch AS x\n", "ARG or FROM at the beginning"},
		{"FROM scratch AS x\nRUN true\n", "line 2"},
		{"FROM scratch AS x\nCOPY --from=y a /b\n", "--chown"},
		{"FROM scratch AS x\nCOPY a b /c/\n", "COPY from to"},
		{"FROM scratch AS x\nENTRYPOINT /x\n", `["program", "argument"]`},
	} {
		if _, err := Parse([]byte(c.text), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: error %v, want one with %q", c.text, err, c.want)
		}
	}
}

// The Dockerfile of this repository has nothing that the release would lose.
func TestParseOurs(t *testing.T) {
	text, err := os.ReadFile("../../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	stages, err := Parse(text, map[string]string{"VERSION": "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range stages {
		names = append(names, s.Name)
		if s.User == "" || len(s.Entrypoint) != 1 || len(s.Copies) == 0 || s.Labels["org.opencontainers.image.version"] != "1.2.3" {
			t.Errorf("stage %+v lacks something", s)
		}
	}
	if !reflect.DeepEqual(names, []string{"controller", "cni", "proxy"}) {
		t.Errorf("stages %v", names)
	}
}
