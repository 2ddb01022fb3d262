package httpjson_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/httpjson"
)

func TestWrite(t *testing.T) {
	v := map[string]int{"a": 1}
	for want, write := range map[string]func(http.ResponseWriter) error{
		"{\"a\":1}\n":        func(w http.ResponseWriter) error { return httpjson.Write(w, http.StatusTeapot, v) },
		"{\n  \"a\": 1\n}\n": func(w http.ResponseWriter) error { return httpjson.WriteIndented(w, v) },
	} {
		w := httptest.NewRecorder()
		if err := write(w); err != nil || w.Body.String() != want || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%q, %v, %v; want %q", w.Body, err, w.Header(), want)
		}
		if got := w.Code == http.StatusTeapot; got != (want[1] == '"') {
			t.Errorf("%q: status %d", want, w.Code)
		}
	}
	if httpjson.Write(httptest.NewRecorder(), http.StatusOK, func() {}) == nil {
		t.Error("no error for what JSON does not have")
	}
}
