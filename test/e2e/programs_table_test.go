package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// program is a server as Debian or Maven publishes it, or a client, and what must come of a call.
type program struct {
	// name is that of the server in programs/serve.sh, of its Service, and of the call in programs/call.sh.
	name string
	// server is empty where it is that of the same name.
	server string
	port   int32
	// declared is the name that its chart gives the Service's port.
	declared string
	// replicas are pods with names of their own, one below the other, where there are more than one.
	replicas int32
	// undeclaredPort is that of the other Service where the server has one of its own for it.
	undeclaredPort int32
	want           func(c programCall) error
}

// programCall is what a call has printed.
type programCall struct {
	out string
	// from is the caller's address, and meshed says that it has a sidecar.
	from   string
	meshed bool
}

// says wants the output to be exactly a text, in which FROM stands for the caller's address.
func says(text string) func(programCall) error {
	return func(c programCall) error {
		if want := strings.ReplaceAll(text, "FROM", c.from); strings.TrimSpace(c.out) != want {
			return fmt.Errorf("got %q, want %q", strings.TrimSpace(c.out), want)
		}
		return nil
	}
}

// balanced wants the calls of one channel to be spread over three servers, beside those of others that take turns with them.
// Without a sidecar all go to one, which is what the mesh is for.
func balanced(c programCall) error {
	var counts []int
	for _, f := range strings.Fields(c.out) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return fmt.Errorf("got %q", c.out)
		}
		counts = append(counts, n)
	}
	if !c.meshed || withoutMesh {
		if !slices.Equal(counts, []int{60}) {
			return fmt.Errorf("60 calls over one channel were answered by servers as %v, want one for all", counts)
		}
		return nil
	}
	if len(counts) != 3 || slices.Min(counts) < 10 {
		return fmt.Errorf("60 calls over one channel were answered by servers as %v, want at least 10 by each of three", counts)
	}
	return nil
}

// programs are what people run, with the names of ports that their charts use.
var programs = []program{
	{name: "postgres", port: 5432, declared: "tcp-postgresql", want: says("no password supplied\nFROM")},
	{name: "mariadb", port: 3306, declared: "mysql", want: says("app@FROM")},
	{name: "redis", port: 6379, declared: "tcp-redis", replicas: 3, want: says("30")},
	{name: "memcached", port: 11211, declared: "memcache", want: says("kept")},
	{name: "rabbitmq", port: 5672, declared: "amqp", want: says("passed")},
	{name: "mosquitto", port: 1883, declared: "mqtt", want: says("heard")}, //nolint:misspell // its name
	{name: "kafka", port: 9092, declared: "tcp-client", undeclaredPort: 9094, want: says("passed")},
	{name: "nats", port: 4222, declared: "nats", want: says("answered")},
	{name: "zookeeper", port: 2181, declared: "tcp-client", replicas: 3, want: says("kept")},
	{name: "nginx", port: 8080, declared: "http", want: fromCaller},
	{name: "haproxy", port: 8080, declared: "http", want: fromCaller},
	{name: "vsftpd", port: 21, declared: "ftp", want: says("20000000")},
	{name: "httpclient", server: "backend", port: 8080, declared: "http", want: says("200 from= peer=FROM\n200 from= peer=FROM")},
	{name: "grpc-python", server: "echo", port: grpcPort, declared: "grpc", want: balanced},
	{name: "grpc-node", server: "echo", port: grpcPort, declared: "grpc", want: balanced},
	{name: "grpc-java", server: "echo", port: grpcPort, declared: "grpc", want: balanced},
}

// fromCaller wants a proxy's server to be told the caller's address. Behind the proxy the backend sees that of the proxy.
func fromCaller(c programCall) error {
	if want := "from=" + c.from + " peer="; !strings.HasPrefix(c.out, want) || strings.Contains(c.out, "peer="+c.from) {
		return fmt.Errorf("got %q, want %q and the proxy's address", c.out, want)
	}
	return nil
}

func (p program) serverName() string {
	if p.server != "" {
		return p.server
	}
	return p.name
}

// programTime is how long a call may take, with the start of its client.
const programTime = 45 * time.Second
