package main

import (
	"io"
	stdlog "log"
	"log/slog"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// slogLevels gives config.LogLevels as slog sees them. logr's V(n) is slog's level -n.
var slogLevels = map[string]slog.Level{
	"trace":    -8,
	"debug":    slog.LevelDebug,
	"info":     slog.LevelInfo,
	"warning":  slog.LevelWarn,
	"error":    slog.LevelError,
	"critical": slog.LevelError + 1,
	"off":      slog.LevelError + 1, // nothing that is logged is above an error
}

// newLogger makes one JSON object a line, for Mizzen, controller-runtime and client-go alike.
func newLogger(w io.Writer, level string) logr.Logger {
	log := logr.FromSlogHandler(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slogLevels[level]}))
	ctrl.SetLogger(log)
	klog.SetLogger(log.WithName("client-go"))
	return log
}

// errorLog takes what net/http has to say, mostly failed handshakes of strangers, at debug level.
func errorLog(log logr.Logger) *stdlog.Logger {
	return slog.NewLogLogger(logr.ToSlogHandler(log), slog.LevelDebug)
}
