package e2e

import (
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// transparencyCase is one call, made on both sides.
type transparencyCase struct {
	name string
	call api.Call
	// want is a regular expression for the whole of the answer's text. A fixed one, and not just "the same on
	// both sides", as a fault of the test would fail the same way twice.
	want string
	// meshed is what the mesh answers instead, where a proxy between has to show.
	meshed string
	// within bounds the call, 3 s if 0. Detecting the protocol of an undeclared port takes 1 s when the
	// server speaks first.
	within time.Duration
	// self makes the call from the pod of Service self, which has to answer it.
	self, needsIPv6 bool
}

const (
	mysqlAnswer = `greeting "8\.0\.36", echo select 1`
	smtpAnswer  = `220 test ESMTP, then 250`
	// unreachable covers what Kubernetes does with a destination that nobody has: reject or drop, by kube-proxy's
	// mode. A proxy accepts and then closes, or answers 503.
	unreachable = `failed: (?:refused|closed|timeout|other)|503 .*`
	// refusedByProxy is a target that refuses, behind a proxy that does not know HTTP or does.
	refusedByProxy = `failed: (?:refused|closed)|503 .*`
)

func get(target string) api.Call {
	return api.Call{Kind: api.HTTP, Target: "http://" + target, Host: "h"}
}
func ask(kind api.Kind, target string) api.Call { return api.Call{Kind: kind, Target: target} }

const httpAnswer = "200 GET / host=h body=0"

var transparencyCases = []transparencyCase{
	// Server-first protocols.
	{name: "MySQL on 3306", call: ask(api.MySQL, "server:3306"), want: mysqlAnswer, within: 500 * time.Millisecond},
	{name: "MySQL-like on an odd undeclared port", call: ask(api.MySQL, "server:13306"), want: mysqlAnswer},
	{name: "SMTP on 25", call: ask(api.SMTP, "server:25"), want: smtpAnswer, within: 500 * time.Millisecond},
	{name: "bytes that are no HTTP, client first", call: ask(api.Echo, "server:4445"), want: "echo select 1"},
	{name: "MySQL by pod IP", call: ask(api.MySQL, "{pod}:3306"), want: mysqlAnswer},

	// HTTP in all its forms.
	{name: "HTTP to a named targetPort", call: get("server/"), want: httpAnswer},
	{name: "HTTP to a numeric targetPort, undeclared protocol", call: get("server:81/"), want: httpAnswer},
	{name: "HTTP/2 with prior knowledge", call: api.Call{Kind: api.HTTP2, Target: "http://server/", Host: "h"}, want: httpAnswer},
	{name: "HTTP/2 on an undeclared port", call: api.Call{Kind: api.HTTP2, Target: "http://server:81/", Host: "h"}, want: httpAnswer},
	{name: "another authority", call: api.Call{Kind: api.HTTP, Target: "http://server/x", Host: "self:8080"}, want: "200 GET /x host=self:8080 body=0"},
	{name: "big body there", call: api.Call{Kind: api.HTTP, Target: "http://server/", Host: "h", Method: "POST", Body: 20 << 20}, want: "200 POST / host=h body=20971520"},
	{name: "big body back", call: get("server/big?n=20971520"), want: "200 20971520 bytes"},
	{name: "body there and back", call: api.Call{Kind: api.HTTP, Target: "http://server/echo", Method: "PUT", Body: 3 << 20}, want: "200 3145728 bytes"},
	{name: "chunks and trailers", call: ask(api.HTTPStream, "http://server/stream?n=20"), want: `200 20 chunks, trailer "whole"`},
	{name: "WebSocket", call: ask(api.WebSocket, "server:80"), want: "5 messages echoed"},
	{name: "503 of the application", call: get("server/status?code=503"), want: "503 "},
	{name: "404 of the application", call: get("server/status?code=404"), want: "404 "},

	// gRPC.
	{name: "gRPC", call: ask(api.GRPC, "server:50051"), want: "1 replies, 0 bytes"},
	{name: "gRPC big message", call: api.Call{Kind: api.GRPC, Target: "server:50051", Body: 5 << 20}, want: "1 replies, 5242880 bytes"},
	{name: "gRPC server stream", call: ask(api.GRPCStream, "server:50051"), want: "10 replies, 0 bytes"},
	{name: "gRPC chat", call: ask(api.GRPCChat, "server:50051"), want: "10 replies, 0 bytes"},

	// Names and addresses.
	{name: "several Services on one pod", call: get("second:8888/"), want: httpAnswer},
	{name: "HTTP on a shared port number", call: get("shared-http:9000/"), want: httpAnswer},
	{name: "TCP on a shared port number", call: ask(api.MySQL, "shared-tcp:9000"), want: mysqlAnswer},
	{name: "headless Service", call: get("headless:8080/"), want: httpAnswer},
	{name: "headless Service, gRPC", call: ask(api.GRPC, "headless:50051"), want: "1 replies, 0 bytes"},
	{name: "headless Service, MySQL", call: ask(api.MySQL, "headless:3306"), want: mysqlAnswer},
	{name: "StatefulSet pod 0", call: get("sts-0.sts:8080/"), want: httpAnswer},
	{name: "StatefulSet pod 1, gRPC", call: ask(api.GRPC, "sts-1.sts.{ns}.svc.cluster.local:50051"), want: "1 replies, 0 bytes"},
	{name: "StatefulSet pod 1, server first", call: ask(api.MySQL, "sts-1.sts:3306"), want: mysqlAnswer},
	{name: "ExternalName of a Service", call: get("alias/"), want: httpAnswer},
	{name: "ExternalName to the outside", call: get("alias-outside:9880/"), want: httpAnswer},
	{name: "ExternalName to the outside, TLS", call: api.Call{Kind: api.TLS, Target: "alias-outside:9843", Host: "h"}, want: httpAnswer},
	{name: "Service with publishNotReadyAddresses", call: get("unready:8080/"), want: httpAnswer},
	{name: "IPv4 of a dual-stack Service", call: get("{service}:8080/"), want: httpAnswer},
	{name: "IPv6 of a dual-stack Service", call: get("{service6}:8080/"), want: httpAnswer, needsIPv6: true},
	{name: "IPv6 of a dual-stack Service, gRPC", call: ask(api.GRPC, "{service6}:50051"), want: "1 replies, 0 bytes", needsIPv6: true},
	{name: "IPv6 of a pod", call: get("{pod6}:8080/"), want: httpAnswer, needsIPv6: true},
	{name: "Service of the other namespace", call: get("server.{other}/"), want: httpAnswer},
	{name: "Service of the other namespace, gRPC", call: ask(api.GRPC, "server.{other}:50051"), want: "1 replies, 0 bytes"},
	{name: "Service of the other namespace, MySQL", call: ask(api.MySQL, "server.{other}:3306"), want: mysqlAnswer},

	// A pod and itself.
	{name: "a pod calls its own Service", call: get("self:8080/"), want: httpAnswer, self: true},
	{name: "a pod calls its own Service, gRPC", call: ask(api.GRPC, "self:50051"), want: "1 replies, 0 bytes", self: true},
	{name: "a pod calls its own localhost", call: get("localhost:8080/"), want: httpAnswer, self: true},
	{name: "127.0.0.1 only, from outside by Service", call: get("local-only:8085/"), want: "failed: refused", meshed: refusedByProxy},
	{name: "127.0.0.1 only, from outside by pod IP", call: get("{pod}:8085/"), want: "failed: refused", meshed: refusedByProxy},

	// Outside the mesh, and nowhere.
	{name: "TLS through a Service", call: api.Call{Kind: api.TLS, Target: "server:443", Host: "h"}, want: httpAnswer},
	{name: "TLS to outside", call: api.Call{Kind: api.TLS, Target: "{host}:9843", Host: "h"}, want: httpAnswer},
	{name: "HTTP to outside", call: get("{host}:9880/"), want: httpAnswer},
	{name: "MySQL to outside", call: ask(api.MySQL, "{host}:9806"), want: mysqlAnswer},
	{name: "IP of a pod outside the mesh", call: get("{stranger}:8080/"), want: httpAnswer},
	{name: "IP of a pod outside the mesh, TLS", call: api.Call{Kind: api.TLS, Target: "{stranger}:8443", Host: "h"}, want: httpAnswer},
	{name: "the API server", call: ask(api.APIServer, "https://kubernetes.default/version"), want: "200 version=true"},
	{name: "a pod's port that no Service has", call: get("{pod}:9090/hooks"), want: "200 "},
	{name: "a Service's address, a port it does not have", call: get("server:7777/"), want: unreachable, within: 5 * time.Second},
	{name: "nobody listens on a pod's port", call: ask(api.Connect, "{pod}:7777"), want: "failed: refused", meshed: refusedByProxy},
	{name: "Service without endpoints, HTTP", call: get("nobody/"), want: unreachable, meshed: "503 .+", within: 5 * time.Second},
	{name: "Service without endpoints, gRPC", call: ask(api.GRPC, "nobody:50051"), want: "failed: (?:Unavailable|DeadlineExceeded)", meshed: "failed: Unavailable", within: 5 * time.Second},

	// What is not TCP.
	{name: "UDP", call: ask(api.UDP, "server:5353"), want: "udp ping"},
	{name: "UDP by pod IP", call: ask(api.UDP, "{pod}:5353"), want: "udp ping"},
	{name: "DNS", call: ask(api.DNS, "kubernetes.default.svc.cluster.local"), want: `[0-9a-f.: ]+`},
	{name: "DNS of a name that is not there", call: ask(api.DNS, "no-such-name.default.svc.cluster.local"), want: "failed: no such host"},
}
