package chaos

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const (
	// label marks the namespaces of runs, so that a later run can clear them away.
	label      = "mizzen-chaos"
	labelValue = "run"
	// readyTimeout is for pods to get ready on a small machine, cleanupTimeout for a namespace to go.
	readyTimeout, cleanupTimeout = 3 * time.Minute, 3 * time.Minute
)

// Deployments, and the pods that call them.
const (
	server, green, strict = "server", "green", "strict"
	gatewayPods           = "public-mizzen"
	callerPod, outsidePod = "caller", "outside"
)

// replicas of the Deployments of servers.
var replicas = map[string]int{server: 3, green: 2, strict: 2}

// gone names the Deployments of which pods may be taken away, in an order that is always the same.
var gone = []string{green, server, strict}

// manifest of a Deployment. %[1]s is its name, %[2]d the number of its pods, %[3]s the image, %[4]s the mode of mTLS. The control port is in
// plain text in every mode, for whoever runs the test.
const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  strategy: {rollingUpdate: {maxUnavailable: 0, maxSurge: 1}}
  template:
    metadata:
      labels: {app: %[1]s, part: server}
      annotations: {%[4]s}
    spec:
      containers:
        - name: app
          image: %[3]s
          imagePullPolicy: IfNotPresent
          args: [server, "--http=:8080", "--grpc=:50051", "--echo=:4445"]
          resources: {requests: {cpu: 1m}}
          readinessProbe: {periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2, httpGet: {path: /healthz, port: 9090}}
---
`

// callingPod makes calls alone. %[1]s is its name and service account, %[2]s the image, %[3]s its labels, %[4]s its annotations.
const callingPod = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[1]s}
---
apiVersion: v1
kind: Pod
metadata:
  name: %[1]s
  labels: {app: %[1]s, %[3]s}
  annotations: {%[4]s}
spec:
  serviceAccountName: %[1]s
  containers:
    - name: app
      image: %[2]s
      imagePullPolicy: IfNotPresent
      args: [server]
      resources: {requests: {cpu: 1m}}
      readinessProbe: {periodSeconds: 1, timeoutSeconds: 10, failureThreshold: 2, httpGet: {path: /healthz, port: 9090}}
---
`

// service has the ports under names that begin with their protocols. %[1]s is its name, %[2]s the selector, %[3]s the end of the ports'
// names.
const service = `
apiVersion: v1
kind: Service
metadata: {name: %[1]s}
spec:
  selector: {%[2]s}
  ports: [{name: "http%[3]s", port: 8080}, {name: "grpc%[3]s", port: 50051}, {name: "tcp%[3]s", port: 4445}]
---
`

const headless = `
apiVersion: v1
kind: Service
metadata: {name: server-each}
spec:
  clusterIP: None
  selector: {app: server}
  ports: [{name: http, port: 8080}]
---
`

// policy lets the caller alone in to the strict pods.
const policy = `
apiVersion: mizzen.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: strict}
spec:
  podSelector: {matchLabels: {app: strict}}
  rules: [{from: [{serviceAccount: {name: caller}}]}]
---
`

// routes divide the calls to the Service routed. %[1]d and %[2]d are the weights.
const routes = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: routed}
spec:
  parentRefs: [{group: "", kind: Service, name: routed, port: 8080}]
  rules: [{backendRefs: [{name: server, port: 8080, weight: %[1]d}, {name: green, port: 8080, weight: %[2]d}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: routed}
spec:
  parentRefs: [{group: "", kind: Service, name: routed, port: 50051}]
  rules: [{backendRefs: [{name: server, port: 50051, weight: %[1]d}, {name: green, port: 50051, weight: %[2]d}]}]
---
`

const gateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public}
spec:
  gatewayClassName: mizzen
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: public}]
  hostnames: [web.example.com]
  rules: [{backendRefs: [{name: server, port: 8080}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc}
spec:
  parentRefs: [{name: public}]
  hostnames: [grpc.example.com]
  rules: [{backendRefs: [{name: server, port: 50051}]}]
---
`

// setUp makes the namespace with all that is in it, and waits until it is ready.
func (s *suite) setUp(ctx context.Context) error {
	if err := s.InstallExperimentalGatewayAPI(ctx); err != nil {
		return fmt.Errorf("the Gateway API's CRDs: %w", err)
	}
	labels := map[string]string{label: labelValue, config.LabelInjection: config.InjectionEnabled}
	maps.Copy(labels, s.Labels)
	if err := s.CreateNamespace(ctx, s.ns, labels); err != nil {
		return err
	}
	control := fmt.Sprintf("%s: 9090=permissive", config.AnnotationMTLSPorts)
	var all strings.Builder
	for _, name := range gone {
		mode := control
		if name == strict {
			mode = config.AnnotationMTLS + ": strict"
		}
		fmt.Fprintf(&all, deployment, name, replicas[name], s.image, mode)
		fmt.Fprintf(&all, service, name, "app: "+name, "")
	}
	fmt.Fprintf(&all, service, "routed", "app: server", "")
	fmt.Fprintf(&all, callingPod, callerPod, s.image, "part: caller", control)
	fmt.Fprintf(&all, callingPod, outsidePod, s.image, config.LabelInjection+": "+config.InjectionDisabled, "")
	fmt.Fprintf(&all, headless+policy+routes+gateway, 50, 50)
	if err := s.Apply(ctx, s.ns, all.String()); err != nil {
		return err
	}
	for _, name := range gone {
		if err := s.WaitDeployment(ctx, s.ns, name, readyTimeout); err != nil {
			return err
		}
	}
	for _, name := range []string{callerPod, outsidePod} {
		if err := s.WaitPodReady(ctx, s.pod(name), readyTimeout); err != nil {
			return err
		}
	}
	return s.gatewayReady(ctx)
}

// gatewayReady waits until the Gateway is programmed and has its pods.
func (s *suite) gatewayReady(ctx context.Context) error {
	if _, err := s.GatewayAddress(ctx, s.ns, "public", readyTimeout); err != nil {
		return err
	}
	return s.WaitDeployment(ctx, s.ns, gatewayPods, readyTimeout)
}

// clear removes the namespaces of all runs, with all that is in them.
func (s *suite) clear(ctx context.Context) error {
	return s.DeleteNamespaces(ctx, label+"="+labelValue, cleanupTimeout)
}

// pod names one of the run.
func (s *suite) pod(name string) cluster.Pod { return cluster.Pod{Namespace: s.ns, Name: name} }
