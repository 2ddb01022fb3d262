package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/cni/api"
	"github.com/mizzen-mesh/mizzen/internal/httpjson"
)

// SocketName is the name of the socket in its directory.
const SocketName = "mizzen-cni.sock"

// Server answers the plugin.
type Server struct {
	// Find returns a pod, or nil if the API server does not know it.
	Find func(context.Context, api.Pod) (*corev1.Pod, error)
	// Word distinguishes this process from its predecessor and its successor.
	Word string
	// Captured counts pods that the plugin captured or failed to capture.
	Captured, Failed func()
	Log              *slog.Logger
}

// Handler answers on the socket.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.PodPath, s.servePod)
	mux.HandleFunc("POST "+api.ReportPath, s.serveReport)
	mux.HandleFunc("POST "+api.AlivePath, func(w http.ResponseWriter, _ *http.Request) { _ = httpjson.Write(w, http.StatusOK, s.Word) })
	return mux
}

func (s *Server) servePod(w http.ResponseWriter, r *http.Request) {
	var asked api.Pod
	if !read(w, r, &asked) {
		return
	}
	pod, err := s.Find(r.Context(), asked)
	if err != nil {
		s.Log.Error("unknown pod; it waits if it has a sidecar", "pod", asked.String(), "error", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if pod == nil {
		_ = httpjson.Write(w, http.StatusOK, api.Answer{Reason: "the API server does not know the pod"})
		return
	}
	answer, err := Decide(pod)
	if err != nil {
		s.Log.Error("pod refused", "pod", asked.String(), "error", err)
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	s.Log.Debug("asked", "pod", asked.String(), "captured", answer.Capture != nil, "reason", answer.Reason)
	_ = httpjson.Write(w, http.StatusOK, answer)
}

func (s *Server) serveReport(w http.ResponseWriter, r *http.Request) {
	var report api.Report
	if !read(w, r, &report) {
		return
	}
	if report.Error {
		s.Failed()
		s.Log.Error("not captured", "pod", report.Pod.String(), "error", report.Text)
	} else {
		s.Captured()
		s.Log.Info("captured", "pod", report.Pod.String(), "rules", report.Text)
	}
	_ = httpjson.Write(w, http.StatusOK, struct{}{})
}

func read(w http.ResponseWriter, r *http.Request, out any) bool {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, api.MaxBody))
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

// Listen takes the socket in dir, from the process before it in one step: the plugin finds one of the two.
func Listen(dir, word string) (net.Listener, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// Listen on a temporary name, and then rename it.
	tmp := filepath.Join(dir, word+".tmp")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	// When this process ends, the name may belong to the next process.
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, filepath.Join(dir, SocketName))); err != nil {
		return nil, errors.Join(err, l.Close(), os.Remove(tmp))
	}
	return l, nil
}

// Succeeded reports whether another process has taken the socket in dir.
func Succeeded(ctx context.Context, dir, word string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	now, err := (api.Client{Socket: filepath.Join(dir, SocketName)}).Alive(ctx)
	return err == nil && now != word
}

// RemoveSocket removes the socket in dir.
func RemoveSocket(dir string) error {
	if err := os.Remove(filepath.Join(dir, SocketName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the socket: %w", err)
	}
	return nil
}
