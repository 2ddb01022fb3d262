// Package api is the contract between the test application, which runs in pods, and the tests, which
// drive it over its control port. It imports nothing.
package api

import "time"

// ControlPort is where every pod of the test application takes orders:
//
//	POST /call          Call → Answer
//	POST /load          Load → {"id": …}
//	GET  /load/{id}     → Result so far
//	POST /load/{id}/stop
//	POST /ready?value=false, POST /crash, GET /hooks, GET /executed
//	POST /fail?code=14   every gRPC call is carried out and answered with this code, until code=0
const ControlPort = 9090

// Kind of a call.
type Kind string

// The kinds of call that the application can make.
const (
	HTTP       Kind = "http"        // Target is a URL
	HTTP2      Kind = "h2c"         // Target is a URL; prior knowledge
	HTTPStream Kind = "http-stream" // Target is a URL; counts the chunks of a streamed answer
	WebSocket  Kind = "websocket"   // Target is host:port
	GRPC       Kind = "grpc"        // Target is host:port
	GRPCOther  Kind = "grpc-other"  // Target is host:port; another method
	GRPCStream Kind = "grpc-stream" // Target is host:port; ten replies
	GRPCChat   Kind = "grpc-chat"   // Target is host:port; ten messages there and back
	WhoAmI     Kind = "whoami"      // Target is host:port; the gRPC method of examples/grpc-balance
	MySQL      Kind = "mysql"       // Target is host:port; the server speaks first
	SMTP       Kind = "smtp"        // Target is host:port; the server speaks first
	Echo       Kind = "echo"        // Target is host:port; the client speaks first, bytes that are no HTTP
	TLS        Kind = "tls"         // Target is host:port; HTTP over TLS, certificate not verified
	Connect    Kind = "connect"     // Target is host:port; connects and waits for the other side for a moment
	UDP        Kind = "udp"         // Target is host:port
	DNS        Kind = "dns"         // Target is a name; answers its addresses
	APIServer  Kind = "apiserver"   // Target is a URL; the service account's token and CA
	Exchange   Kind = "exchange"    // Target is host:port; Content goes there, and what comes back is answered
	GRPCBytes  Kind = "grpc-bytes"  // Target is host:port; a stream of GRPCMethod that begins with Content
)

// Call is one call.
type Call struct {
	Kind   Kind
	Target string
	// Host overrides the authority.
	Host string `json:",omitempty"`
	// Method of an HTTP call, GET if empty.
	Method string `json:",omitempty"`
	// Headers of an HTTP call.
	Headers map[string]string `json:",omitempty"`
	// Body is the number of bytes to send; they must come back.
	Body int `json:",omitempty"`
	// Delay is how long the server shall take.
	Delay time.Duration `json:",omitempty"`
	// Code, unless 0, is the gRPC code that the server shall answer with once it has carried out the call.
	Code int32 `json:",omitempty"`
	// Pause is how long a GRPCChat is idle after its first message.
	Pause time.Duration `json:",omitempty"`
	// Content of an HTTP call's body, an Exchange or a GRPCBytes, byte by byte.
	Content []byte `json:",omitempty"`
	// GRPCMethod of a GRPCBytes: "/package.Service/Method".
	GRPCMethod string `json:",omitempty"`
	// TLS is how an Exchange, a GRPCBytes or an HTTP call to an https URL is secured. Without it the first two are plain text.
	TLS *ClientTLS `json:",omitempty"`
	// Want is what the Text of an answer must hold for the call to be OK.
	Want string `json:",omitempty"`
	// PodInBody: the body of an HTTP answer is the name of the pod.
	PodInBody bool `json:",omitempty"`
	// Timeout of the call, 5 s if 0.
	Timeout time.Duration `json:",omitempty"`
}

// ClientTLS is what a client shows. It takes any certificate of the server, and answers it as Answer.Peer.
type ClientTLS struct {
	// Certificate and Key in PEM, or none.
	Certificate, Key string   `json:",omitempty"`
	ServerName       string   `json:",omitempty"`
	ALPN             []string `json:",omitempty"`
}

// Answer of a call.
type Answer struct {
	// OK says that the call reached an application and its answer was whole.
	OK bool
	// Text is what can be compared between two environments: no names or addresses of pods in it.
	Text string
	// Pod that answered, where the protocol tells.
	Pod string `json:",omitempty"`
	// Status is the HTTP status or the gRPC code.
	Status int `json:",omitempty"`
	// Error is why the call failed.
	Error string `json:",omitempty"`
	// Peer has the server's certificates in PEM, where a call has TLS.
	Peer    string `json:",omitempty"`
	Elapsed time.Duration
}

// Load is a series of calls over one connection (Fresh: over a new one each).
type Load struct {
	Call
	// Calls is how many to make; 0 is until Duration or a stop.
	Calls int
	// Rate is calls a second, started on time whether earlier ones are done or not; 0 is as fast as
	// Concurrency allows.
	Rate float64
	// Concurrency is the number of calls in flight without a Rate; 0 is 1. With a Rate it is the most that may be in
	// flight; calls that are late for it are made up. 0 is no bound then.
	Concurrency int
	Duration    time.Duration
	Fresh       bool
	// Reconnect makes an Echo or a MySQL connect again when its connection has ended, as pools of connections do: before the next
	// call. Without it all calls after the end fail.
	Reconnect bool `json:",omitempty"`
	// Keep is how many failures the Result holds in full; 0 is 100.
	Keep int `json:",omitempty"`
}

// Failure of one call of a load.
type Failure struct {
	At      time.Time
	Elapsed time.Duration
	Error   string
}

// Result of a load so far.
type Result struct {
	Done  bool
	Start time.Time
	Calls int
	// Pods counts the answers by pod; First and Last are when a pod's first and latest answer came.
	Pods        map[string]int
	First, Last map[string]time.Time
	Failed      int
	// Failures holds the first ones, as many as Keep of the Load says; LastFailed is when the latest one began.
	Failures           []Failure
	LastFailed         time.Time
	InFlight           int
	P50, P90, P99, Max time.Duration
}
