// Package capture writes the nftables rules that redirect a pod's TCP traffic to its sidecar.
//
// Rules is pure: it turns settings into a Ruleset. A Ruleset prints itself in nft syntax, which the goldens in testdata
// contain. Install is the only side effect: it passes a Ruleset to the kernel over netlink, so the image needs neither
// nft nor a shell.
//
// The package may import the netlink libraries, config/fixed (the port numbers and the UID) and
// internal/sidecar/contract (the settings of the pod's containers), and nothing else of this module.
package capture
