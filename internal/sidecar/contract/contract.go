// Package contract defines the arguments and the environment of a sidecar's two containers. The injector writes them.
// The containers read them, and so do the control plane, the node's CNI plugin and mizzenctl. No other code knows the
// names.
//
// A pod keeps its arguments and environment for life. So a name never gets another meaning, and readers of pods
// (ReadCaptured) ignore unknown names. Only the containers, which have the injector's version, refuse them.
//
// It may import config/fixed and a parser of flags: the CNI plugin's binary has it.
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

// Flags that readers of pods look for by name. Capture and Run have the others.
const (
	// CaptureByCNIFlag says that the node's CNI plugin captures the pod's traffic.
	CaptureByCNIFlag = "capture-by-cni"
	// AwaitSidecarFlag makes the capture container hold the pod's start until the sidecar is ready.
	AwaitSidecarFlag = "await-sidecar"
	// IdentityAddressFlag has the address of the identity server.
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
