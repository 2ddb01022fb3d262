package authority

import (
	"encoding/hex"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// Report is what one replica knows of the agents that are connected to it.
type Report struct {
	// Bundle is the version of the bundle that the replica gives out; empty if it has no CA.
	Bundle string `json:"bundle"`
	// Signer is the key id, in hex, of the CA that the replica signs with.
	Signer string `json:"signer"`
	// Have counts the agents by the version of the bundle that their Envoy has acknowledged; "" is none.
	Have map[string]int `json:"have"`
	// Issuers counts the agents by the key id of the CA that signed their certificate.
	Issuers map[string]int `json:"issuers"`
}

// Agents are the reports of all replicas.
type Agents struct {
	Reports []Report
	// Silent replicas did not give theirs.
	Silent int
	// Starting counts the pods that have not started yet, by the version of the bundle that they were given. One that
	// starts after a root that it does not know signs never gets a certificate.
	Starting map[string]int
}

// lacking counts the agents, replicas and starting pods that do not have the version of the bundle, as far as is known.
func (a Agents) lacking(version string) int {
	n := a.Silent
	for have, count := range a.Starting {
		if have != version {
			n += count
		}
	}
	for _, r := range a.Reports {
		if r.Bundle != version {
			n++
		}
		for have, count := range r.Have {
			if have != version {
				n += count
			}
		}
	}
	return n
}

// using counts the agents that have a certificate of another CA than the signer, and the replicas that may
// give one.
func (a Agents) using(s rotation.State) int {
	n, signer := a.Silent, keyID(s.Signer)
	for _, r := range a.Reports {
		if r.Signer != signer {
			n++
		}
		for issuer, count := range r.Issuers {
			if issuer != signer {
				n += count
			}
		}
	}
	return n
}

func keyID(a *ca.Authority) string {
	if a == nil {
		return ""
	}
	return hex.EncodeToString(a.Certificate().SubjectKeyId)
}
