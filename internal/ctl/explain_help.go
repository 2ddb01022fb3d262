package ctl

// help says for each reason what to do, in the order in which it is worth trying. docs/troubleshooting.md has it, too.
var help = map[string][]string{
	"no-endpoint": {
		"`kubectl get endpointslices -l kubernetes.io/service-name=SERVICE -n NAMESPACE`: is a pod ready, and does the selector of the Service fit?",
	},
	"no-service": {
		"The client uses an old address: let it resolve the name again. `kubectl get services -A` shows the addresses that there are.",
	},
	"no-configuration": {
		"`mizzenctl status`: is the control plane there, and is the caller's pod connected?",
		"`kubectl logs POD -c mizzen-proxy` of the caller says what keeps it from the control plane.",
	},
	"overflow": {
		"`kubectl get service SERVICE -o yaml`: one of `mizzen.dev/max-connections`, `max-pending-requests` and `max-requests` is reached. They count for each calling pod.",
		"More replicas, or a larger limit. The client may repeat the call: no server has seen it.",
	},
	"overloaded": {
		"Raise `mizzen.dev/proxy-memory-limit` of the pod, or the memory limit of the Gateway's parameters.",
		"A server that reads slowly, or many calls at a time, make a proxy hold what it cannot pass on: more replicas, or a limit (`mizzen.dev/max-requests`).",
	},
	"timeout": {
		"`mizzenctl routes SERVICE` shows the timeout and where it is from: a rule of a route, or `mizzen.dev/timeout`.",
		"A server may have begun the call. Repeat it only if it may be executed twice.",
	},
	"tls-failed": {
		"`mizzenctl identity POD` of the server: does it have a certificate that is valid, and one of the service accounts of the Service's pods?",
		"An EndpointSlice of your own must name the pod (`targetRef`).",
	},
	"connect-timeout": {
		"`kubectl get pod -o wide`: are the pod and its node there? Until Kubernetes takes a lost node's pods out, calls are tried elsewhere.",
		"A NetworkPolicy that lets the caller's pods in must be there for the port of the pod, not of the Service.",
	},
	"connect-failed": {
		"Does the application listen on the port that the Service targets, and on the pod's address, not on 127.0.0.1 alone?",
		"It may start later than its pod is ready: give it a readiness probe.",
	},
	"too-large-to-repeat": {"The client may repeat the call. Smaller bodies, or several calls, are repeated by the sidecar."},
	"connection-lost": {
		"`kubectl get pods`: has the server restarted? Its log says why.",
		"A server that closes idle connections after less than 4 s meets calls that are under way: let it keep them longer.",
		"If the calls may be executed twice, `mizzen.dev/retry-on` repeats them.",
	},
	"stream-reset": {"The server's log says why it has reset the stream. gRPC servers do so when a handler ends without a status."},
	"bad-answer":   {"Declare the port as TCP (`appProtocol: tcp`), if its protocol is not HTTP. The text says what Envoy has not understood."},
	"no-backend":   {"`mizzenctl routes SERVICE` shows the reference that cannot be resolved; `mizzenctl check -f` would have told before."},
	"denied": {
		"`mizzenctl identity POD` of the server lists who may call it, and the policies that say so.",
		"The text of the answer names the policy. A policy in dry run tells of such calls before: `mizzenctl dryrun`.",
	},
	"upgrade-refused":   {"A policy that judges requests cannot judge what is in a tunnel: use a policy about callers for this port."},
	"upgrade-not-taken": {"The server does not speak WebSocket at this path. Its answer has another meaning without the body."},
	"redirect":          {"`mizzenctl routes SERVICE` shows the rule that redirects."},
	"no-rule":           {"`mizzenctl routes SERVICE --request 'GET /path'` says which rules there are, and why none of them matches."},
	"bad-rule":          {"`mizzenctl routes SERVICE` shows the rule, and `kubectl get httproute -o yaml` its status."},
	"head-too-large":    {"The client sends more than 1 MB, or more than 1000 header fields: often a cookie that grows."},
	"bad-request":       {"The text says what is wrong with the request. If the protocol is not HTTP, declare the port as TCP."},
	"other":             {"The text has Envoy's name of the reason. `mizzen.dev/log-answers: \"true\"` on the caller's pod logs such answers with more."},
}
