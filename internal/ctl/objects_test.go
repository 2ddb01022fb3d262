package ctl

import "testing"

// "ſ" is an "s" for encoding/json, which takes fields for equal whatever their case; the API server does not.
func TestItemsOfLists(t *testing.T) {
	const item = "[{apiVersion: v1, kind: Service, metadata: {name: cart}}]\n"
	for content, want := range map[string]int{
		"kind: List\nitems: " + item:              1,
		"kind: List\nItems: " + item:              0,
		"kind: List\nitems: []\nitemſ: " + item:   0,
		"kind: List\nitems: {}\nITEMS: " + item:   0,
		"kind: List\nitems: null\nItems: " + item: 0,
	} {
		if r := readObjects([]source{{"in.yaml", []byte(content)}}, "default"); len(r.objects) != want {
			t.Errorf("%q: %d objects, want %d", content, len(r.objects), want)
		}
	}
}
