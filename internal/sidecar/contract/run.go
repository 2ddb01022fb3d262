package contract

import (
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// Run has the arguments of the proxy.
type Run struct {
	// ControlPlane is the host:port of the ADS server.
	ControlPlane string
	// IdentityAddress is the host:port of the control plane's identity server. Empty means no identity: no certificate,
	// and plain gRPC to the ADS server.
	IdentityAddress string
	// LogLevel is one of Envoy's log levels.
	LogLevel string
	// LogAnswers logs a line for each request that the sidecar answers itself.
	LogAnswers bool
	// Concurrency is the number of Envoy's worker threads; 0 means one per CPU.
	Concurrency int
	// ConfigScope is one of fixed.ConfigScopes, or empty for automatic.
	ConfigScope string
	// AwaitCapture delays the start of Envoy until the capture rules for a pod with identity exist.
	AwaitCapture bool
	// CaptureByCNI says that the node's CNI plugin writes the capture rules, so they may be missing at the start.
	CaptureByCNI bool
	// Gateway says that the proxy is alone in a pod of a Gateway, without an application. Such a proxy takes no SidecarFlags.
	Gateway bool
}

const (
	controlPlaneFlag = "control-plane"
	logLevelFlag     = "log-level"
	logAnswersFlag   = "log-answers"
	concurrencyFlag  = "concurrency"
	configScopeFlag  = "config-scope"
	awaitCaptureFlag = "await-capture"
	gatewayFlag      = "gateway"
)

// SidecarFlags are the flags of Run and Captured that only a sidecar takes: traffic that is captured, and the Services that the
// application may call.
var SidecarFlags = []string{awaitCaptureFlag, CaptureByCNIFlag, inboundFlag, outboundFlag, outboundCIDRsFlag, ownCallsFlag, configScopeFlag}

// Args returns the proxy's arguments. captured are the settings for the CNI plugin, used only with CaptureByCNI.
func (r Run) Args(captured Captured) []string {
	args := []string{RunCommand, Arg(controlPlaneFlag, r.ControlPlane), Arg(logLevelFlag, r.LogLevel), Arg(concurrencyFlag, strconv.Itoa(r.Concurrency))}
	args = set(args, configScopeFlag, r.ConfigScope)
	args = turnOn(args, awaitCaptureFlag, r.AwaitCapture)
	args = turnOn(args, logAnswersFlag, r.LogAnswers)
	args = turnOn(args, gatewayFlag, r.Gateway)
	if r.CaptureByCNI {
		args = append(turnOn(args, CaptureByCNIFlag, true), captured.args()...)
	}
	return set(args, IdentityAddressFlag, r.IdentityAddress)
}

// Add adds the flags, with the values of r as defaults. levels are the allowed values of LogLevel.
func (r *Run) Add(f *pflag.FlagSet, levels []string) {
	f.StringVar(&r.ControlPlane, controlPlaneFlag, r.ControlPlane, "host:port of the control plane's ADS server (required)")
	f.StringVar(&r.IdentityAddress, IdentityAddressFlag, r.IdentityAddress,
		"host:port of the control plane's identity server; empty means no certificate, and no TLS to the control plane")
	f.StringVar(&r.LogLevel, logLevelFlag, r.LogLevel, "log level of Envoy and the agent: "+strings.Join(levels, ", "))
	f.BoolVar(&r.LogAnswers, logAnswersFlag, r.LogAnswers, "log a line for each request that the proxy answers itself")
	f.IntVar(&r.Concurrency, concurrencyFlag, r.Concurrency, "Envoy's worker threads; 0 means one per CPU of the node")
	f.BoolVar(&r.AwaitCapture, awaitCaptureFlag, r.AwaitCapture,
		"wait for the rules of \"capture --capture-own-calls\", which may run later, before starting Envoy")
	f.StringVar(&r.ConfigScope, configScopeFlag, r.ConfigScope,
		"Services to be sent ahead of the first call: "+strings.Join(fixed.ConfigScopes, ", ")+"; empty means automatic")
	f.BoolVar(&r.CaptureByCNI, CaptureByCNIFlag, r.CaptureByCNI,
		"wait until the node's CNI plugin has captured the pod's traffic before starting anything; the plugin reads the flags of \"capture\" from this command")
	f.BoolVar(&r.Gateway, gatewayFlag, r.Gateway, "run in a pod of a Gateway: nothing is captured, and there is no application")
}
