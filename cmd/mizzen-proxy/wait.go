package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	neturl "net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agent"
)

// startupURL is where the agent says that the sidecar is ready.
var startupURL = "http://localhost:" + strconv.Itoa(config.AgentPort) + "/startupz"

// Before the agent listens nobody answers, so the pauses between requests begin short and grow.
const firstAsk, slowestAsk = 10 * time.Millisecond, time.Second

// waitReady asks until the answer is 200 or ctx ends; the error then has the last reason. It writes each new reason to
// out. It tells the agent the reason that it knows. The agent answers when the sidecar is ready, when the reason has
// changed, or after some time. So after an answer, waitReady may ask again at once.
func waitReady(ctx context.Context, url string, out io.Writer) error {
	reason, question := "", url
	for pause := firstAsk; ; {
		answered, missing := ask(ctx, question)
		switch {
		case ctx.Err() != nil:
			if reason == "" {
				reason = "no answer yet"
			}
			return fmt.Errorf("stopped before the sidecar was ready: %s", reason)
		case missing == "":
			return nil
		case answered:
			pause = firstAsk
		}
		if missing != reason && answered {
			fmt.Fprintln(out, "the sidecar is not ready:", missing)
		}
		if reason = missing; answered {
			question = url + "?" + agent.KnownParameter + "=" + neturl.QueryEscape(missing)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(pause*5/4, slowestAsk)
		}
	}
}

// ask returns what is missing, and whether the agent answered.
func ask(ctx context.Context, url string) (answered bool, missing string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err.Error()
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return true, ""
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<12))
	if err != nil || len(body) == 0 {
		return true, errors.Join(errors.New(res.Status), err).Error()
	}
	return true, strings.TrimSpace(string(body))
}
