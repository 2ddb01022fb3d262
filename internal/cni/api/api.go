// Package api is what the CNI plugin and its node's process say to each other: HTTP on a Unix socket that only root of the
// node can open. The plugin holds no credential, and asks which pod is captured, and how.
//
// It may import internal/capture, for what a pod's traffic is captured by.
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

// Paths. A pod is asked about with POST of a Pod, which is answered with an Answer; what became of it is told with POST of a Report.
const (
	PodPath    = "/pod"
	ReportPath = "/report"
	// AlivePath answers who listens: with the word that the process chose at its start.
	AlivePath = "/alive"
)

// MaxBody bounds what either side reads.
const MaxBody = 64 << 10

// timeout of one question. The kubelet gives up on a pod after minutes, and meanwhile holds a worker for it.
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
	// Capture is nil for a pod that is left alone.
	Capture *capture.Settings `json:"capture,omitempty"`
	// Reason says why it is left alone.
	Reason string `json:"reason,omitempty"`
}

// Report says what became of a pod, for the log.
type Report struct {
	Pod   Pod    `json:"pod"`
	Text  string `json:"text"`
	Error bool   `json:"error,omitempty"`
}

// Client asks over one socket.
type Client struct{ Socket string }

// Ask asks what to do with a pod.
func (c Client) Ask(ctx context.Context, p Pod) (Answer, error) {
	var a Answer
	err := c.post(ctx, PodPath, p, &a)
	return a, err
}

// Tell says what became of it.
func (c Client) Tell(ctx context.Context, r Report) error { return c.post(ctx, ReportPath, r, nil) }

// Alive gives the word of the process that listens.
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

// StatusError is an answer that says no.
type StatusError struct {
	Code int
	Text string
}

func (e *StatusError) Error() string { return e.Text }
