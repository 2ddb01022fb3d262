package agent

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

// Settings are everything the agent is told from outside.
type Settings struct {
	// ControlPlane is the host:port of the ADS server.
	ControlPlane string
	// LogLevel is one of LogLevels.
	LogLevel string
	// LogAnswers writes a line for each request that the sidecar answered itself.
	LogAnswers bool
	// Concurrency is the number of Envoy's worker threads; 0 is one per CPU.
	Concurrency int
	// DrainTimeout bounds how long active requests are waited for at the end.
	DrainTimeout time.Duration
	// AwaitCapture starts Envoy only once the capture rules for a pod with identity are in place.
	AwaitCapture bool
	// CaptureByCNI says that the node's CNI plugin writes the capture rules, so that they may be missing.
	CaptureByCNI bool
	// Node is the pod that the agent runs in. Its ConfigScope comes from a flag.
	Node node.Node
	// Probes are carried out for the kubelet.
	Probes appprobe.Handlers
	// ProbeKey is shown by whoever may ask for them.
	ProbeKey string

	// EnvoyPath is the Envoy binary.
	EnvoyPath string
	// IdentityAddress is the host:port of the control plane's identity server. Empty is no identity: no
	// certificate, and plain gRPC to the ADS server.
	IdentityAddress string
	// TrustBundle holds the mesh's roots in PEM; it comes with IdentityAddress.
	TrustBundle string
	// TokenFile holds the service account token that is shown for a certificate.
	TokenFile string

	// Dir holds the bootstrap and the sockets; it must be writable.
	Dir string
	// KeepDir holds what the next container of the pod is to know, sealed with KeepKey; an empty key keeps nothing.
	KeepDir, KeepKey string
	// Listen is the address of the agent's HTTP server.
	Listen string
}

// Defaults gives the settings that hold unless somebody says otherwise.
func Defaults() Settings {
	return Settings{
		LogLevel:     "warning",
		Concurrency:  2,
		DrainTimeout: 5 * time.Second,
		TokenFile:    filepath.Join(config.TokenDir, config.TokenFile),
		EnvoyPath:    "/usr/local/bin/envoy",
		Dir:          config.ProxyDir,
		KeepDir:      config.KeepDir,
		Listen:       ":" + strconv.Itoa(config.AgentPort),
	}
}

// LogLevels are Envoy's own names.
var LogLevels = []string{"trace", "debug", "info", "warning", "error", "critical", "off"}

// ReadEnv fills in what the injector gives in the container's environment. Every error names the variable.
func (s *Settings) ReadEnv(getenv func(string) string) error {
	var errs []error
	required := func(name string) string {
		value := getenv(name)
		if value == "" {
			errs = append(errs, fmt.Errorf("environment variable %s is not set", name))
		}
		return value
	}
	s.Node = node.Node{
		Pod:            required("POD_NAME"),
		Namespace:      required("POD_NAMESPACE"),
		UID:            required("POD_UID"),
		ServiceAccount: required("SERVICE_ACCOUNT"),
		NodeName:       getenv("NODE_NAME"),
		Version:        version.Version,
		ConfigScope:    s.Node.ConfigScope,
		Workload:       getenv("WORKLOAD"),
	}
	if ips := required("POD_IPS"); ips != "" {
		for ip := range strings.SplitSeq(ips, ",") {
			addr, err := netip.ParseAddr(ip)
			if err != nil {
				errs = append(errs, fmt.Errorf("environment variable POD_IPS: %q: want IP addresses, separated by commas", ip))
				continue
			}
			s.Node.IPs = append(s.Node.IPs, addr)
		}
	}
	if getenv(appprobe.EnvVar) != "" {
		s.ProbeKey = required(appprobe.KeyEnv)
	}
	s.TrustBundle = getenv(config.TrustBundleEnv)
	s.KeepKey = getenv(config.KeepKeyEnv)
	var err error
	if s.Probes, err = appprobe.Unmarshal(getenv(appprobe.EnvVar)); err != nil {
		errs = append(errs, fmt.Errorf("environment variable %w", err))
	}
	return errors.Join(errs...)
}

// Validate checks what came from flags. Every error names the flag, the value and what is allowed.
func (s *Settings) Validate() error {
	var errs []error
	if _, _, err := s.controlPlane(); err != nil {
		errs = append(errs, err)
	}
	if s.IdentityAddress != "" {
		if _, _, err := splitAddress("--identity-address", s.IdentityAddress); err != nil {
			errs = append(errs, err)
		}
		if s.TrustBundle == "" {
			errs = append(errs, fmt.Errorf("environment variable %s is not set; --identity-address needs it", config.TrustBundleEnv))
		}
	}
	if !slices.Contains(LogLevels, s.LogLevel) {
		errs = append(errs, fmt.Errorf("--log-level: %q: want one of %s", s.LogLevel, strings.Join(LogLevels, ", ")))
	}
	if s.Concurrency < 0 || s.Concurrency > 1024 {
		errs = append(errs, fmt.Errorf("--concurrency: %d: want 0 (one per CPU) to 1024", s.Concurrency))
	}
	if s.DrainTimeout < 0 || s.DrainTimeout > time.Hour {
		errs = append(errs, fmt.Errorf("--drain-timeout: %s: want 0s to 1h", s.DrainTimeout))
	}
	if !config.ValidConfigScope(s.Node.ConfigScope) {
		errs = append(errs, fmt.Errorf("--config-scope: %q: want one of %s", s.Node.ConfigScope, strings.Join(config.ConfigScopes, ", ")))
	}
	return errors.Join(errs...)
}

// controlPlane splits ControlPlane.
func (s *Settings) controlPlane() (host string, port uint16, err error) {
	return splitAddress("--control-plane", s.ControlPlane)
}

func splitAddress(flag, address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	n, perr := strconv.ParseUint(text, 10, 16)
	if err != nil || perr != nil || host == "" || n == 0 {
		return "", 0, fmt.Errorf("%s: %q: want <host>:<port>", flag, address)
	}
	return host, uint16(n), nil
}

func (s *Settings) adminSocket() string   { return filepath.Join(s.Dir, "admin.sock") }
func (s *Settings) rootsFile() string     { return filepath.Join(s.KeepDir, "mizzen-roots") }
func (s *Settings) bootstrapFile() string { return filepath.Join(s.Dir, "bootstrap.json") }
