// Package capture writes the nftables rules that lead a pod's TCP traffic through its sidecar.
//
// Rules is pure: it turns settings into a Ruleset, which prints itself in nft syntax and is what the
// goldens in testdata hold. Install is the one side effect: it hands a Ruleset to the kernel over
// netlink, so that the image needs neither nft nor a shell.
//
// The package may import the netlink libraries, config (the fixed port numbers and the UID) and internal/sidecar/contract (what the
// pod's containers are told), and nothing else of this module.
package capture
