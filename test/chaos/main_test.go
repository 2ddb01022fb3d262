package main

import (
	"strings"
	"testing"
	"time"
)

func TestReadOptions(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-seed 7 -duration 5m -only pod-deleted,pod-cut", ""},
		{"-list", ""},
		{"-rate 100", "rate: 100: want 1 to 20"},
		{"-duration 0s", "duration: 0s: want more than 0"},
		{"-only fire", `fault "fire": want some of pod-deleted`},
		{"now", `["now"]: want flags alone`},
	} {
		_, _, err := readOptions(strings.Fields(c.args))
		if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.args, err, c.want)
		}
	}
	o, list, err := readOptions(strings.Fields("-seed 7 -duration 5m -only pod-deleted,pod-cut"))
	if err != nil || list || o.Seed != 7 || o.Duration != 5*time.Minute || len(o.Only) != 2 || o.Rate != 20 {
		t.Errorf("%+v, %t, %v", o, list, err)
	}
}
