package main

import (
	"io"
	stdlog "log"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// slogLevels maps config.LogLevels to slog's levels. logr's V(n) is slog's level -n.
var slogLevels = map[string]slog.Level{
	"trace":    -8,
	"debug":    slog.LevelDebug,
	"info":     slog.LevelInfo,
	"warning":  slog.LevelWarn,
	"error":    slog.LevelError,
	"critical": slog.LevelError + 1,
	"off":      slog.LevelError + 1, // nothing is logged above the error level
}

// newLogger returns a logger that writes one JSON object a line, for Mizzen, controller-runtime and client-go.
func newLogger(w io.Writer, level string) logr.Logger {
	log := logr.FromSlogHandler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slogLevels[level]}))
	ctrl.SetLogger(log)
	klog.SetLogger(log.WithName("client-go"))
	return log
}

// errorLog logs messages of net/http, mostly failed handshakes of unknown clients, at debug level.
func errorLog(log logr.Logger) *stdlog.Logger {
	return slog.NewLogLogger(logr.ToSlogHandler(log), slog.LevelDebug)
}
