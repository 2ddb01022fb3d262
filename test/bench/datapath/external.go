//go:build !sidecarsalone

package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// external is the pair of proxies of -external, nil without.
var external *externalPair

// externalPair are two proxies that somebody has built, and how they are started in the namespaces of client and server.
type externalPair struct {
	// Name is that of the layout.
	Name string `json:"name"`
	// Ports are those at which the pair listens. The capture rules of Mizzen leave them alone.
	Ports []uint16 `json:"ports"`
	// HTTP and TCP are host and port to which the client sends. TCP may be empty.
	HTTP string `json:"http"`
	TCP  string `json:"tcp"`
	// Client and Server are the programs in the client's and the server's namespace, in the order of their start.
	Client []externalProgram `json:"client"`
	Server []externalProgram `json:"server"`
}

// externalProgram is one process. ${SERVER_IP}, ${SERVER_HTTP} and ${SERVER_TCP} in its command and environment are the
// address and the ports of the server's application.
type externalProgram struct {
	Command     []string          `json:"command"`
	Environment map[string]string `json:"environment"`
	// Helper marks what is not a proxy, such as a control plane: its processor time does not count, and it runs as root.
	Helper bool `json:"helper"`
}

// readExternal reads the file of -external.
func readExternal(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var p externalPair
	if err := yaml.UnmarshalStrict(text, &p); err != nil {
		return err
	}
	switch {
	case p.Name == "":
		return fmt.Errorf("name: missing")
	case p.HTTP == "":
		return fmt.Errorf("http: missing; want host:port, where the client sends HTTP requests")
	}
	for side, programs := range map[string][]externalProgram{"client": p.Client, "server": p.Server} {
		proxies := 0
		for i, program := range programs {
			if len(program.Command) == 0 {
				return fmt.Errorf("%s[%d].command: missing", side, i)
			}
			if _, err := program.expanded(); err != nil {
				return fmt.Errorf("%s[%d]: %w", side, i, err)
			}
			if !program.Helper {
				proxies++
			}
		}
		if proxies == 0 {
			return fmt.Errorf("%s: want a program that is no helper", side)
		}
	}
	external = &p
	return nil
}

// expanded returns the command with the server's address and ports in place of their names.
func (p externalProgram) expanded() (*exec.Cmd, error) {
	values := map[string]string{
		"SERVER_IP": world.ServerIP, "SERVER_HTTP": strconv.Itoa(plainHTTP), "SERVER_TCP": strconv.Itoa(plainTCP),
	}
	var unknown error
	expand := func(s string) string {
		return os.Expand(s, func(name string) string {
			value, ok := values[name]
			if !ok {
				unknown = fmt.Errorf("%q: ${%s} is not known; want SERVER_IP, SERVER_HTTP or SERVER_TCP", s, name)
			}
			return value
		})
	}
	var args []string
	for _, a := range p.Command {
		args = append(args, expand(a))
	}
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // Stop ends it
	cmd.Env = os.Environ()
	for name, value := range p.Environment {
		cmd.Env = append(cmd.Env, name+"="+expand(value))
	}
	return cmd, unknown
}

// start starts all programs and waits until a request comes through.
func (p *externalPair) start(pods *world.Pods) (*layout, error) {
	l := &layout{name: p.Name, http: p.HTTP, tcp: p.TCP}
	for _, side := range []struct {
		ns       world.NS
		programs []externalProgram
	}{{pods.Client, p.Client}, {pods.Server, p.Server}} {
		for _, program := range side.programs {
			cmd, err := program.expanded()
			if err != nil {
				return nil, err
			}
			if program.Helper {
				_, err = side.ns.Start(cmd)
			} else {
				var started *world.Process
				started, err = side.ns.StartProxy(cmd)
				l.proxies = append(l.proxies, started)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	client := &http.Client{Timeout: 2 * time.Second}
	return l, world.Await("a request comes through", func() error {
		res, err := client.Get("http://" + p.HTTP + "/64") //nolint:noctx // it has a timeout
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s", res.Status)
		}
		return nil
	})
}
