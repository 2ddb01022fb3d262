package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/internal/agent/probe"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

// patience is how long the kubelet may still wait for an answer after the timeout of its probe.
const patience = 5 * time.Second

// answerProbe makes the kubelet's event read as if the kubelet had called the application itself. The event shows the
// status of an answer but not its text. So if the application does not answer, the kubelet gets no answer either.
//
//   - The application's status is passed on: "HTTP probe failed with statuscode: 500".
//   - Where nobody listens the kubelet is sent there, and is refused itself: "dial tcp 10.0.0.7:8080: connect: connection
//     refused". It takes the key along. If somebody listens by then, the kubelet's call is answered, and is none of a caller
//     in plain text (plaintext.Callers.Redirected).
//   - Where the application says nothing in time the kubelet gets nothing either: "context deadline exceeded".
//   - Where it closes or resets the connection, so does the agent: "EOF", "connection reset by peer".
//
// For all else, as a gRPC service that is not serving, it is 503, with the reason for who asks by hand and in the log.
func answerProbe(w http.ResponseWriter, r *http.Request, h appprobe.Handler, kind appprobe.Kind, err error) {
	var status probe.StatusError
	hook := kind == appprobe.PostStart || kind == appprobe.PreStop
	switch {
	case err == nil, hook && errors.As(err, &status):
		// For the kubelet a hook fails only without an answer, whatever the status.
		// https://github.com/kubernetes/kubernetes/blob/v1.37.2/pkg/kubelet/lifecycle/handlers.go (runHTTPHandler)
		fmt.Fprintln(w, "ok")
	case errors.As(err, &status) && status >= http.StatusBadRequest:
		http.Error(w, err.Error(), int(status))
	case errors.Is(err, unix.ECONNREFUSED):
		http.Redirect(w, r, applicationURL(r, h), http.StatusTemporaryRedirect)
	case errors.Is(err, context.DeadlineExceeded):
		select {
		case <-r.Context().Done():
		case <-time.After(patience):
		}
		panic(http.ErrAbortHandler)
	case errors.Is(err, unix.ECONNRESET):
		reset(w)
	case hook, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		panic(http.ErrAbortHandler)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// applicationURL is what the owner's probe asks for, at the host that the kubelet asked: it follows to no other.
func applicationURL(r *http.Request, h appprobe.Handler) string {
	host := r.Host
	if name, _, err := net.SplitHostPort(r.Host); err == nil {
		host = name
	}
	at := net.JoinHostPort(host, strconv.Itoa(int(h.Port())))
	if h.HTTPGet == nil {
		return "http://" + at + "/"
	}
	u, err := url.Parse(h.HTTPGet.Path)
	if err != nil {
		u = &url.URL{Path: h.HTTPGet.Path}
	}
	u.Scheme, u.Host = scheme(h.HTTPGet), at
	return u.String()
}

func scheme(get *appprobe.HTTPGet) string {
	if get.Scheme == appprobe.SchemeHTTPS {
		return "https"
	}
	return "http"
}

// reset ends the connection as an application that crashed.
func reset(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if linger, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = linger.SetLinger(0) // otherwise it is closed
	}
	_ = c.Close()
}
