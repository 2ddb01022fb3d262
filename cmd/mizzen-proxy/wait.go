package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/config"
)

func waitCommand() *cobra.Command {
	timeout := time.Minute
	url := "http://localhost:" + strconv.Itoa(config.AgentPort) + "/startupz"
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Wait until the sidecar is ready",
		Long: `Wait until the sidecar is ready.

The sidecar's postStart hook: the kubelet starts nothing after it in the pod before it ends. If the time
is over, the reason is printed and the exit code is 1; the kubelet then restarts the sidecar.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return waitReady(ctx, url)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "longest wait")
	cmd.Flags().StringVar(&url, "url", url, "what to ask")
	_ = cmd.Flags().MarkHidden("url") // fails only for a name that does not exist
	return cmd
}

// waitReady asks until the answer is 200 or ctx ends; the error then says what was missing last. The
// agent answers when it is ready or some time has passed, so asking again at once is right; before it
// listens there is nobody to ask.
func waitReady(ctx context.Context, url string) error {
	reason := errors.New("no answer")
	for {
		err := ask(ctx, url)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil { // else it says only that the time is over
			reason = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", reason)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func ask(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return nil
	}
	body, err := io.ReadAll(res.Body)
	return errors.Join(errors.New(strings.TrimSpace(string(body))), err)
}
