package proc

import (
	"os"
	"testing"
)

func TestParseStatWithBlanksInTheName(t *testing.T) {
	start, state, err := parseStat("12 (a) b) (c) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1")
	if err != nil || start != 4711 || state != "S" {
		t.Fatalf("got %d, %q, %v", start, state, err)
	}
	if _, _, err := parseStat("garbage"); err == nil {
		t.Error("garbage accepted")
	}
}

func TestAliveTellsAReusedPIDApart(t *testing.T) {
	self, err := Of(os.Getpid())
	if err != nil || !self.Alive() {
		t.Fatalf("own process: %v, %v", self, err)
	}
	self.Start++
	if self.Alive() {
		t.Error("another process with our PID counts as alive")
	}
}
