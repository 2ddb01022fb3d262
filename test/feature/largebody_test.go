package feature

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// TestLargeBodiesAreSentAgain: a request whose body is larger than a stream's window goes to another endpoint where the first
// one refuses the connection.
func TestLargeBodiesAreSentAgain(t *testing.T) {
	serveHTTP(t, "10.244.0.5:8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	newMesh(t, map[string]service{"web": {ips: []string{"10.96.0.90"}, port: port("http", 80), endpoints: []string{"10.244.0.5:8080", "10.244.0.6:8080"}}})
	body := bytes.Repeat([]byte("x"), 4_000_000)
	for _, h2 := range []bool{false, true} {
		for range 10 {
			c := client(t, h2)
			res, err := c.Post("http://10.96.0.90/", "text/plain", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(res.Body)
			res.Body.Close()
			if string(got) != fmt.Sprint(len(body)) {
				t.Fatalf("HTTP/2 %t: %d %s", h2, res.StatusCode, got)
			}
		}
	}
}
