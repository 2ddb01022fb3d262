package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/webhookcert"
)

type options struct {
	config            string
	namespace         string
	podName           string
	webhookConfigName string
	webhookService    string
	webhookSecret     string
	identitySecret    string
	keepCA            bool
	serviceAccount    string
	webhookPort       int
	xdsPort           int
	identityPort      int
	httpPort          int
	logLevel          string
	leaderElect       bool
	shutdownDelay     time.Duration
	certificates      rotation.Lifetimes
}

func defaultOptions() *options {
	return &options{
		config:            "/etc/mizzen/mesh.yaml",
		namespace:         os.Getenv("POD_NAMESPACE"),
		podName:           os.Getenv("POD_NAME"),
		webhookConfigName: "mizzen",
		webhookService:    config.ControllerService,
		webhookSecret:     "mizzen-webhook-ca",
		identitySecret:    "mizzen-ca",
		keepCA:            true,
		serviceAccount:    "mizzen-controller",
		webhookPort:       config.WebhookPort,
		xdsPort:           config.XDSPort,
		identityPort:      config.IdentityPort,
		httpPort:          config.ControllerHTTPPort,
		logLevel:          "info",
		leaderElect:       true,
		shutdownDelay:     5 * time.Second,
		certificates:      webhookcert.DefaultLifetimes,
	}
}

func (o *options) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.config, "config", o.config, "mesh configuration file")
	f.StringVar(&o.namespace, "namespace", o.namespace, "namespace of the control plane (default: $POD_NAMESPACE)")
	f.StringVar(&o.podName, "pod-name", o.podName, "name of this replica in leader election (default: $POD_NAME, else the host's name)")
	f.StringVar(&o.webhookConfigName, "webhook-config-name", o.webhookConfigName, "MutatingWebhookConfiguration whose caBundle the control plane writes; in a revision followed by its name, as the next two")
	f.StringVar(&o.webhookService, "webhook-service", o.webhookService, "Service of the webhook, which owns the objects that the control plane creates")
	f.StringVar(&o.webhookSecret, "webhook-ca-secret", o.webhookSecret, "Secret that holds the webhook's CA")
	f.StringVar(&o.identitySecret, "identity-ca-secret", o.identitySecret, "Secret that holds the CA of the mesh's identities")
	f.BoolVar(&o.keepCA, "keep-ca", o.keepCA, "keep this Secret, and the ConfigMap with the same name, at uninstallation, for a later installation")
	f.StringVar(&o.serviceAccount, "service-account", o.serviceAccount, "service account of the control plane: its identity")
	f.IntVar(&o.webhookPort, "webhook-port", o.webhookPort, "HTTPS port of the admission webhook")
	f.IntVar(&o.xdsPort, "xds-port", o.xdsPort, "gRPC port of the xDS server")
	f.IntVar(&o.identityPort, "identity-port", o.identityPort, "HTTPS port of the identity server, which signs sidecars' certificates")
	f.IntVar(&o.httpPort, "http-port", o.httpPort, "HTTP port of /metrics, /healthz, /readyz and /debug/")
	f.StringVar(&o.logLevel, "log-level", o.logLevel, "one of "+strings.Join(config.LogLevels, ", "))
	f.BoolVar(&o.leaderElect, "leader-elect", o.leaderElect, "elect a leader for writes to the cluster; turn off only with a single replica")
	f.DurationVar(&o.shutdownDelay, "shutdown-delay", o.shutdownDelay, "how long to keep serving after SIGTERM, so that callers stop choosing this replica")
	f.DurationVar(&o.certificates.CALifetime, "webhook-ca-lifetime", o.certificates.CALifetime, "lifetime of the webhook's CA; its successor is made when a third of the lifetime is left")
	f.DurationVar(&o.certificates.LeafLifetime, "webhook-cert-lifetime", o.certificates.LeafLifetime, "lifetime of a serving certificate, which is renewed at half of it")
	f.DurationVar(&o.certificates.Settle, "webhook-ca-settle", o.certificates.Settle, "how long a new CA is in the caBundle before it signs")
}

// complete checks the flags and loads the configuration. An error names the flag or field, its value and the allowed
// values.
func (o *options) complete() (*config.Mesh, error) {
	if o.podName == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("--pod-name: not set, and the host has no name: %w", err)
		}
		o.podName = name
	}
	for flag, value := range map[string]string{
		"namespace": o.namespace, "webhook-config-name": o.webhookConfigName,
		"webhook-service": o.webhookService, "webhook-ca-secret": o.webhookSecret,
		"identity-ca-secret": o.identitySecret, "service-account": o.serviceAccount,
	} {
		if value == "" {
			return nil, fmt.Errorf("--%s: %q: want a name", flag, value)
		}
	}
	if err := o.checkPorts(); err != nil {
		return nil, err
	}
	if !slices.Contains(config.LogLevels, o.logLevel) {
		return nil, fmt.Errorf("--log-level: %q: want one of %s", o.logLevel, strings.Join(config.LogLevels, ", "))
	}
	if o.shutdownDelay < 0 {
		return nil, fmt.Errorf("--shutdown-delay: %q: want 0s or more", o.shutdownDelay)
	}
	if err := o.certificates.Validate(); err != nil {
		return nil, fmt.Errorf("--webhook-ca-lifetime, --webhook-cert-lifetime, --webhook-ca-settle: %w", err)
	}
	mesh, err := config.Load(o.config)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	if err := mesh.ValidateForInjection(); err != nil {
		return nil, fmt.Errorf("--config: %s: %w", o.config, err)
	}
	o.nameFor(mesh.Revision)
	return mesh, nil
}

// nameFor gives the objects of a revision names of their own. Its identity is that of every control plane: sidecars and replicas
// trust all alike.
func (o *options) nameFor(revision string) {
	for _, name := range []*string{&o.webhookConfigName, &o.webhookService, &o.webhookSecret} {
		*name = config.OfRevision(*name, revision)
	}
}

func (o *options) checkPorts() error {
	taken := map[int]string{}
	for _, p := range []struct {
		flag string
		port int
	}{{"webhook-port", o.webhookPort}, {"xds-port", o.xdsPort}, {"identity-port", o.identityPort}, {"http-port", o.httpPort}} {
		if p.port < 1 || p.port > 65535 {
			return fmt.Errorf("--%s: %d: want a TCP port from 1 to 65535", p.flag, p.port)
		}
		if other, ok := taken[p.port]; ok {
			return fmt.Errorf("--%s: %d: already the port of --%s; want another port", p.flag, p.port, other)
		}
		taken[p.port] = p.flag
	}
	return nil
}
