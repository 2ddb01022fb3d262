package ctl

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
)

// maxText bounds a text from a pod, in bytes.
const maxText = 1 << 10

// printable returns a text from a pod without characters that control the terminal.
func printable(text string) string {
	if len(text) > maxText {
		text = text[:maxText] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// printableIdentity does the same to all texts in an agent's identity.
func printableIdentity(id agentapi.Identity) agentapi.Identity {
	authorities := func(list []agentapi.Authority) []agentapi.Authority {
		var out []agentapi.Authority
		for _, a := range list {
			a.Subject, a.Fingerprint = printable(a.Subject), printable(a.Fingerprint)
			out = append(out, a)
		}
		return out
	}
	id.Roots, id.Intermediates = authorities(id.Roots), authorities(id.Intermediates)
	id.ControlPlane, id.Trouble = printable(id.ControlPlane), printable(id.Trouble)
	if id.Certificate != nil {
		c := *id.Certificate
		c.ID, c.Serial, c.Issuer = printable(c.ID), printable(c.Serial), printable(c.Issuer)
		id.Certificate = &c
	}
	return id
}
