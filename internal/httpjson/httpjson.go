// Package httpjson writes JSON as the answer to an HTTP request. It may import the standard library only.
package httpjson

import (
	"encoding/json"
	"net/http"
)

// Write answers with v. An error usually means that the client is gone, which few need to be told.
func Write(w http.ResponseWriter, status int, v any) error { return write(w, status, v, "") }

// WriteIndented answers with v in lines that a person can read.
func WriteIndented(w http.ResponseWriter, v any) error { return write(w, http.StatusOK, v, "  ") }

func write(w http.ResponseWriter, status int, v any, indent string) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}
