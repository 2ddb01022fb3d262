// Package api is the protocol between the CNI plugin and its node's process: HTTP on a Unix socket that only root of
// the node can open. The plugin has no credentials. It asks whether and how to capture a pod.
//
// It may import internal/capture, for the capture settings.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/capture"
)

// Paths of the requests. POST of a Pod asks about a pod and returns an Answer. POST of a Report reports the result.
const (
	PodPath    = "/pod"
	ReportPath = "/report"
	// AlivePath identifies the process that listens: it answers with the word that the process chose at its start.
	AlivePath = "/alive"
)

// MaxBody bounds the size of a body that either side reads.
const MaxBody = 64 << 10

// timeout of one request. The kubelet gives up on a pod only after minutes, and blocks a worker meanwhile.
const timeout = 10 * time.Second

// Pod is a pod as the container runtime names it.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// Answer says what to do with a pod.
type Answer struct {
	// Capture is nil for a pod that is not captured.
	Capture *capture.Settings `json:"capture,omitempty"`
	// Reason says why the pod is not captured.
	Reason string `json:"reason,omitempty"`
}

// Report is the result of a pod's capture, for the log.
type Report struct {
	Pod   Pod    `json:"pod"`
	Text  string `json:"text"`
	Error bool   `json:"error,omitempty"`
}

// Client sends requests over one socket.
type Client struct{ Socket string }

// Ask asks what to do with a pod.
func (c Client) Ask(ctx context.Context, p Pod) (Answer, error) {
	var a Answer
	err := c.post(ctx, PodPath, p, &a)
	return a, err
}

// Tell reports the result.
func (c Client) Tell(ctx context.Context, r Report) error { return c.post(ctx, ReportPath, r, nil) }

// Alive returns the word of the process that listens.
func (c Client) Alive(ctx context.Context) (string, error) {
	var word string
	err := c.post(ctx, AlivePath, struct{}{}, &word)
	return word, err
}

func (c Client) post(ctx context.Context, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://mizzen-cni"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
	}
	res, err := (&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, MaxBody))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return &StatusError{Code: res.StatusCode, Text: strings.TrimSpace(string(b))}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("answer to %s: %w", path, err)
	}
	return nil
}

// StatusError is an answer with an error status.
type StatusError struct {
	Code int
	Text string
}

func (e *StatusError) Error() string { return e.Text }
