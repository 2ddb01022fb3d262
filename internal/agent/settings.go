package agent

import (
	"errors"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

// Settings are the agent's settings, from flags and environment.
type Settings struct {
	contract.Run

	// DrainTimeout bounds the wait for active requests at the end.
	DrainTimeout time.Duration
	// DrainDelay is how long a gateway goes on as before when it is no longer ready. MaxConnections bounds its connections.
	DrainDelay     time.Duration
	MaxConnections int
	// MemoryLimit is that of the container in bytes; 0 for what its cgroup says.
	MemoryLimit uint64
	// Node is the pod that the agent runs in. Its ConfigScope is that of Run.
	Node node.Node
	// Probes are the actions that the agent runs for the kubelet.
	Probes appprobe.Handlers
	// ProbeKey is the secret that a caller of the probes must send.
	ProbeKey string

	// EnvoyPath is the Envoy binary.
	EnvoyPath string
	// TrustBundle holds the mesh's roots in PEM; it comes with IdentityAddress.
	TrustBundle string
	// TokenFile holds the service account token that is shown for a certificate.
	TokenFile string

	// Dir holds the bootstrap and the sockets; it must be writable.
	Dir string
	// KeepDir has data for the pod's next container, sealed with KeepKey. With an empty key nothing is stored.
	KeepDir, KeepKey string
	// Listen is the address of the agent's HTTP server.
	Listen string
}

// GatewayDrainTimeout is the default of DrainTimeout in a gateway. With DrainDelay's it is within Kubernetes' default grace
// period of 30 s.
const GatewayDrainTimeout = 20 * time.Second

// MemoryLimitEnv has the memory limit of a gateway's container in bytes; without it the container's cgroup says it.
const MemoryLimitEnv = "MIZZEN_MEMORY_LIMIT"

// Defaults returns the default settings. On MaxConnections: an idle connection with TLS takes Envoy some 50 kB, so the heap is
// usually the first limit. Envoy's own recommendation for edge proxies is the same.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/best_practices/edge
func Defaults() Settings {
	return Settings{
		Run:            contract.Run{LogLevel: "warning", Concurrency: 2},
		DrainTimeout:   5 * time.Second,
		DrainDelay:     5 * time.Second,
		MaxConnections: 50_000,
		TokenFile:      filepath.Join(fixed.TokenDir, fixed.TokenFile),
		EnvoyPath:      "/usr/local/bin/envoy",
		Dir:            fixed.ProxyDir,
		KeepDir:        fixed.KeepDir,
		Listen:         ":" + strconv.Itoa(fixed.AgentPort),
	}
}

// LogLevels are Envoy's own names.
var LogLevels = []string{"trace", "debug", "info", "warning", "error", "critical", "off"}

// ReadEnv reads the settings that the injector puts into the container's environment. Every error names the variable.
func (s *Settings) ReadEnv(getenv func(string) string) error {
	env, err := contract.ReadEnv(getenv)
	s.Node = node.Node{
		Pod: env.Pod, Namespace: env.Namespace, UID: env.UID, ServiceAccount: env.ServiceAccount, IPs: env.IPs,
		NodeName: env.NodeName, Version: version.Version, ConfigScope: s.ConfigScope, Workload: env.Workload,
		Gateway: s.Gateway,
	}
	s.TrustBundle, s.KeepKey = env.TrustBundle, env.KeepKey
	errs := []error{err}
	if s.Gateway {
		if text := getenv(MemoryLimitEnv); text != "" {
			if s.MemoryLimit, err = strconv.ParseUint(text, 10, 64); err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %q: want bytes", MemoryLimitEnv, text))
			}
		}
		return errors.Join(errs...) // no probes: there is no application
	}
	if getenv(appprobe.EnvVar) != "" {
		if s.ProbeKey = getenv(appprobe.KeyEnv); s.ProbeKey == "" {
			errs = append(errs, fmt.Errorf("environment variable %s is not set", appprobe.KeyEnv))
		}
	}
	if s.Probes, err = appprobe.Unmarshal(getenv(appprobe.EnvVar)); err != nil {
		errs = append(errs, fmt.Errorf("environment variable %w", err))
	}
	return errors.Join(errs...)
}

// Validate checks the settings from flags. Every error names the flag, the value and the allowed values.
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
			errs = append(errs, fmt.Errorf("environment variable %s is not set; --identity-address needs it", contract.TrustBundleEnv))
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
	if s.DrainDelay < 0 || s.DrainDelay > time.Hour {
		errs = append(errs, fmt.Errorf("--drain-delay: %s: want 0s to 1h", s.DrainDelay))
	}
	if s.MaxConnections < 1 || s.MaxConnections > math.MaxInt32 {
		errs = append(errs, fmt.Errorf("--max-connections: %d: want 1 to %d", s.MaxConnections, math.MaxInt32))
	}
	if !fixed.ValidConfigScope(s.ConfigScope) {
		errs = append(errs, fmt.Errorf("--config-scope: %q: want one of %s", s.ConfigScope, strings.Join(fixed.ConfigScopes, ", ")))
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
func (s *Settings) leavingFile() string   { return filepath.Join(s.Dir, "leaving") }
func (s *Settings) rootsFile() string     { return filepath.Join(s.KeepDir, "mizzen-roots") }
func (s *Settings) bootstrapFile() string { return filepath.Join(s.Dir, "bootstrap.json") }
