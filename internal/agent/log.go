package agent

import (
	"io"
	"log/slog"
)

// NewLogger writes one line an event to w, at one of LogLevels. Settings.Validate has checked level.
func NewLogger(w io.Writer, level string) *slog.Logger {
	var l slog.Level
	switch level {
	case "trace", "debug":
		l = slog.LevelDebug
	case "info":
		l = slog.LevelInfo
	case "warning":
		l = slog.LevelWarn
	case "off":
		return slog.New(slog.DiscardHandler)
	default:
		l = slog.LevelError
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})).With("source", "agent")
}
