// Package replicas asks the other replicas of the control plane, over mTLS where the mesh has identities and
// over plain HTTP elsewhere. It may import the standard library and logr only.
package replicas

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-logr/logr"
)

// maxAnswer is the size of an answer in bytes.
const maxAnswer = 1 << 20

// Options of New. All but TLS are required.
type Options struct {
	// List gives their addresses, "<host>:<port>".
	List func(context.Context) ([]string, error)
	// TLS is spoken with them, and says which certificate is one of theirs. Nil is plain HTTP.
	TLS *tls.Config
	Log logr.Logger
}

// Replicas are the other ones.
type Replicas struct {
	opt    Options
	scheme string
	client *http.Client
}

// New gives them.
func New(o Options) *Replicas {
	r := &Replicas{opt: o, scheme: "http"}
	if o.TLS != nil {
		r.scheme = "https"
	}
	// To a replica itself, whatever proxy the environment names.
	r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: o.TLS, IdleConnTimeout: time.Minute}}
	return r
}

// Ask sends each replica "GET path?query" and gives their answers, decoded from JSON, in any order, and
// how many replicas gave none until ctx ended. If they cannot be listed that is one.
func Ask[T any](ctx context.Context, r *Replicas, path string, query url.Values) (answers []T, silent int) {
	addresses, err := r.opt.List(ctx)
	if err != nil {
		r.opt.Log.Error(err, "list the other replicas")
		return nil, 1
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, address := range addresses {
		wg.Go(func() {
			u := url.URL{Scheme: r.scheme, Host: address, Path: path, RawQuery: query.Encode()}
			var answer T
			err := r.get(ctx, u.String(), &answer)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.opt.Log.V(1).Info("a replica did not answer", "url", u.String(), "error", err.Error())
				silent++
				return
			}
			answers = append(answers, answer)
		})
	}
	wg.Wait()
	return answers, silent
}

func (r *Replicas) get(ctx context.Context, url string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := r.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	return json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(answer)
}
