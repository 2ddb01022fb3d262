// Package contract is what the injector says to the two containers of a sidecar: their arguments and their environment. The
// injector writes it, the containers read it, and so do those who look at pods: control plane, the node's CNI plugin, mizzenctl.
// Nobody else knows the names.
//
// A pod keeps for its life what it was injected with. So a name never gets another meaning, and who looks at pods
// (ReadCaptured) passes over what it does not know; only the containers, which come with the injector's version, refuse that.
//
// It may import config and a parser of flags: the CNI plugin's binary has it.
package contract

import (
	"slices"
	"strings"
)

// Commands are the first argument of a container.
const (
	CaptureCommand = "capture"
	RunCommand     = "run"
)

// Flags that a reader of pods knows by name; Capture and Run have the others.
const (
	// CaptureByCNIFlag says that the node's CNI plugin captures the pod's traffic.
	CaptureByCNIFlag = "capture-by-cni"
	// AwaitSidecarFlag has the container that captures hold the pod's start until the sidecar is ready.
	AwaitSidecarFlag = "await-sidecar"
	// IdentityAddressFlag says where certificates come from.
	IdentityAddressFlag = "identity-address"
)

// IsOn reports whether a flag without a value is among arguments.
func IsOn(args []string, flag string) bool { return slices.Contains(args, "--"+flag) }

// IsSet reports whether a flag with a value is among arguments.
func IsSet(args []string, flag string) bool {
	return slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, Arg(flag, "")) })
}

// Arg returns the argument that sets a flag.
func Arg(flag, value string) string { return "--" + flag + "=" + value }

// set returns the argument that sets a flag, or none for an empty value.
func set(args []string, flag, value string) []string {
	if value == "" {
		return args
	}
	return append(args, Arg(flag, value))
}

// turnOn returns the argument of a flag that is on, or none.
func turnOn(args []string, flag string, on bool) []string {
	if !on {
		return args
	}
	return append(args, "--"+flag)
}
