// Testapp is the one application of the end-to-end tests. It knows nothing of a mesh.
//
//	testapp server …      every kind of server, and a control port that makes calls and loads
//	testapp call …        one call, first attempt, exit 1 if it fails: init containers and Jobs
//	testapp outcaller …   a server's client that goes on calling after SIGTERM and logs the outcome
//	testapp sleep         until SIGTERM
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/client"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testapp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{
		"server": runServer, "call": runCall, "outcaller": runOutcaller,
		"sleep": func(ctx context.Context, _ []string) error { <-ctx.Done(); return nil },
	}
	if len(args) == 0 || commands[args[0]] == nil {
		return errors.New("want one of: server, call, outcaller, sleep")
	}
	return commands[args[0]](ctx, args[1:])
}

// addrs is a flag of addresses with commas between.
type addrs []string

func (a *addrs) String() string     { return strings.Join(*a, ",") }
func (a *addrs) Set(v string) error { *a = strings.Split(v, ","); return nil }

func runServer(ctx context.Context, args []string) error {
	pod, err := os.Hostname()
	if err != nil {
		return err
	}
	o := server.Options{Pod: pod, Control: []string{fmt.Sprintf(":%d", api.ControlPort)}}
	fs := flag.NewFlagSet("server", flag.ContinueOnError)
	for name, list := range map[string]*[]string{
		"http": &o.HTTP, "grpc": &o.GRPC, "tls": &o.TLS, "mysql": &o.MySQL, "smtp": &o.SMTP, "echo": &o.Echo, "udp": &o.UDP, "control": &o.Control,
	} {
		fs.Var((*addrs)(list), name, "addresses to listen on, with commas between")
	}
	fs.DurationVar(&o.ReadyDelay, "ready-delay", 0, "how long /healthz answers 503 after the start")
	fs.StringVar(&o.CrashMarker, "crash-marker", "", "file that a crash leaves; with it the process serves nothing")
	fs.DurationVar(&o.ShutdownTimeout, "shutdown-timeout", 20*time.Second, "how long open calls are waited for")
	if err := fs.Parse(args); err != nil {
		return err
	}
	return server.New(o, client.Control()).Run(ctx)
}

func callFlags(name string) (*flag.FlagSet, *api.Call) {
	c := &api.Call{}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.StringVar((*string)(&c.Kind), "kind", "http", "kind of call, see package api")
	fs.StringVar(&c.Target, "target", "", "URL or host:port")
	fs.DurationVar(&c.Timeout, "timeout", client.DefaultTimeout, "of one call")
	return fs, c
}

func runCall(ctx context.Context, args []string) error {
	fs, c := callFlags("call")
	// Only hooks need this, to wait for their own application to listen.
	retryFor := fs.Duration("retry-for", 0, "try again for so long; 0 is one attempt")
	if err := fs.Parse(args); err != nil {
		return err
	}
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		a := client.Do(ctx, *c)
		if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
			return err
		}
		if a.OK {
			return nil
		}
		if time.Since(start) >= *retryFor {
			return fmt.Errorf("%s %s: %s", c.Kind, c.Target, a.Error)
		}
	}
}

// runOutcaller calls at a steady rate, also for a while after SIGTERM, and logs the figures as JSON.
func runOutcaller(ctx context.Context, args []string) error {
	fs, c := callFlags("outcaller")
	after := fs.Duration("after", 25*time.Second, "how long to go on after SIGTERM")
	rate := fs.Float64("rate", 20, "calls a second")
	if err := fs.Parse(args); err != nil {
		return err
	}
	load, err := client.Start(context.WithoutCancel(ctx), api.Load{Call: *c, Rate: *rate})
	if err != nil {
		return err
	}
	<-ctx.Done()
	before := load.Result()
	time.Sleep(*after)
	load.Stop()
	load.Wait()
	return json.NewEncoder(os.Stdout).Encode(map[string]any{"event": "outcaller", "before": before, "all": load.Result()})
}
