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

	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/agent"
)

// startupURL is where the agent says that the sidecar is ready.
var startupURL = "http://localhost:" + strconv.Itoa(fixed.AgentPort) + "/startupz"

// waitReady asks until the answer is 200 or ctx ends; the error then says what was missing last. What is missing is written
// to out whenever it is something else. The agent answers when it is ready, or some time has passed and something else is
// missing than what it is told is known, so whoever got an answer may ask again at once.
func waitReady(ctx context.Context, url string, out io.Writer) error {
	reason, question := "", url
	for pause := agent.FirstAsk; ; {
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
			pause = agent.FirstAsk
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
			pause = agent.NextAsk(pause)
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
