// Command coredns is CoreDNS with only the plugins that the Corefiles of the
// embedded cluster and of the Gateway API's conformance suite use. The upstream
// program links every cloud provider's SDK.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	// The plugins register themselves.
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/hosts"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
	_ "github.com/coredns/coredns/plugin/whoami"
)

// init sets the order in which a query passes through the plugins; the order in the Corefile means nothing. It is the
// upstream order, except that "template" comes after "kubernetes": it answers NXDOMAIN to names that no other plugin knows.
func init() {
	dnsserver.Directives = []string{
		"reload", "bind", "health", "ready", "errors", "log", "hosts", "kubernetes", "template", "forward", "whoami",
	}
}

func main() { coremain.Run() }
