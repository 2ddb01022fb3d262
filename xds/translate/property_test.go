package translate

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/translate/translatetest"
)

// TestAccumulatedIsAll: after any changes, in whatever portions they are built, what has accumulated is what comes of the
// objects that there are: resources, classes of pods, statuses and problems.
func TestAccumulatedIsAll(t *testing.T) {
	for seed := range uint64(16) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			cfg := config.Default()
			cfg.MTLS.TrustDomain = "cluster.local"
			if seed%4 == 0 {
				cfg = configtest.WithoutIdentity()
			}
			cluster, followed, got := translatetest.New(seed), New(cfg), newPublished()
			check := envoy.Check
			if seed%2 == 1 {
				check = refusesSome
			}
			followed.check = check
			take := func(r *Result) {
				if err := got.apply(r); err != nil {
					t.Fatal(err)
				}
			}
			for _, addr := range called(cfg) {
				followed.Ask(addr)
			}
			for range 40 {
				for range 1 + cluster.IntN(4) {
					changed := map[mesh.ID]metav1.Object{} // as a source has them, each once and in no order
					for range 1 + cluster.IntN(4) {
						cluster.Change(translatetest.Kinds, func(id mesh.ID, _, now translatetest.Object) {
							if changed[id] = nil; now != nil {
								changed[id] = now
							}
						})
					}
					for id, now := range changed {
						if now == nil {
							followed.Delete(id)
						} else {
							followed.Set(now)
						}
					}
					if got.built && cluster.IntN(2) == 0 {
						now, _ := followed.Urgent()
						take(now)
					}
				}
				take(followed.Build())
				if cluster.IntN(3) > 0 {
					continue
				}
				followed.Overdue()
				followed.Reconnect(got.reconnect.UnsortedList()...)
				clear(got.reconnect)
				take(followed.Build())
				want := newPublished()
				fresh := New(cfg)
				fresh.check = check
				fresh.gateways.parameters = maps.Clone(followed.gateways.parameters) // of which those with a mistake are as before
				for _, addr := range called(cfg) {
					fresh.Ask(addr)
				}
				for _, o := range cluster.Objects {
					fresh.Set(o)
				}
				parts := func(change envoy.Change) {
					if err := want.apply(&Result{Change: change}); err != nil {
						t.Fatal(err)
					}
				}
				all := fresh.BuildInParts(1+cluster.IntN(5), parts)
				if len(all.GatewayErrors) > 0 {
					continue // what is published for them is what it was
				}
				if err := want.apply(all); err != nil {
					t.Fatal(err)
				}
				if diff := differ(fresh, followed, want.texts(), got.texts()); diff != "" {
					t.Fatalf("- all from nothing, + accumulated:\n%s", diff)
				}
				followed.forget()
				take(followed.Build())
				if diff := cmp.Diff(want.texts(), got.texts()); diff != "" {
					t.Fatalf("after everything is built anew: - all from nothing, + accumulated:\n%s", diff)
				}
				if followed.Waiting() || len(followed.reconnectPending) > 0 {
					t.Fatalf("still held: %v, to connect anew: %v", followed.held, followed.reconnectPending)
				}
			}
			for id := range cluster.Objects {
				followed.Delete(id)
			}
			take(followed.Build())
			left := []int{
				len(followed.parsed), len(followed.slices), len(followed.serviceOf), len(followed.cidrs), len(followed.namespaces), len(followed.declared),
				len(followed.policies), len(followed.grants), len(followed.objects), len(followed.services), len(followed.inbounds.classes),
				len(followed.inbounds.policies), len(followed.inbounds.podsInClass), len(followed.policyStatus), len(followed.depend.refs), len(followed.depend.byPod),
				len(followed.depend.byAddr), len(followed.depend.routes), len(followed.depend.byParent), len(followed.depend.byBackend),
				len(followed.depend.byBackendNamespace), len(followed.depend.targets), len(followed.depend.byTarget), len(followed.held), len(followed.lagging), len(followed.overdue), len(followed.depend.byGateway),
				len(followed.gateways.classes), len(followed.gateways.sets), len(followed.gateways.secrets), len(followed.gateways.configMaps), len(followed.gateways.refs),
				len(followed.gateways.byRef), len(followed.gateways.namespaces), len(followed.gateways.services), len(followed.gateways.service), len(followed.gateways.byService), len(followed.gateways.parameters), len(followed.gateways.built), len(followed.gateways.held), len(got.statuses), len(got.whole), len(got.problems),
			}
			if slices.Max(left) > 0 {
				t.Errorf("of a cluster without objects is left: %v", left)
			}
		})
	}
}

// refusesSome refuses routes with a path, many routes together, and a Gateway with a parameter.
func refusesSome(resources []envoy.Resource) error {
	for _, r := range resources {
		if body, err := proto.Marshal(r.Message); err != nil || bytes.Contains(body, []byte(translatetest.RefusedPath)) {
			return fmt.Errorf("%s: refused", r.Name)
		}
		if h, ok := r.Message.(*routev3.VirtualHost); ok && len(h.Routes) > 4 {
			return fmt.Errorf("%s: %d routes", r.Name, len(h.Routes))
		}
		if l, ok := r.Message.(*listenerv3.Listener); ok && r.Owner != "" {
			for _, c := range l.FilterChains {
				for _, f := range c.Filters {
					m := &hcmv3.HttpConnectionManager{}
					if f.GetTypedConfig().MessageIs(m) && f.GetTypedConfig().UnmarshalTo(m) == nil && m.XffNumTrustedHops > 0 {
						return fmt.Errorf("%s: refused", r.Name)
					}
				}
			}
		}
	}
	return envoy.Check(resources)
}

// called are the addresses that sidecars ask for.
func called(cfg *config.Mesh) []netip.AddrPort {
	var out []netip.AddrPort
	for _, ip := range append(slices.Clone(translatetest.PodIPs), "10.1.2.1") {
		for _, port := range []uint16{8080, 8081} {
			if cfg.MTLS.On() {
				out = append(out, netip.AddrPortFrom(netip.MustParseAddr(ip), port))
			}
		}
	}
	return out
}

// forget drops identities and ranges beyond those that there are: they are kept, because to forget one is to change a
// cluster or a listener.
func (t *Translator) forget() {
	for key := range t.services {
		t.hold(key)
	}
	t.addresses.ranges, t.addresses.listeners = nil, nil
}

// differ compares what comes of two Translators. The one that has followed the changes may know identities and ranges of pods
// beyond those that there are, and pods that come and go do not change the policies that its clusters name; what has these is
// not compared then.
func differ(fresh, followed *Translator, want, got map[string]string) string {
	leave := func(kind, name string) {
		for _, texts := range []map[string]string{want, got} {
			for id := range texts {
				if strings.HasPrefix(id, "resource ") && strings.Contains(id, kind+" "+name) {
					texts[id] = ""
				}
			}
		}
	}
	for key, svc := range fresh.services {
		other := followed.services[key]
		if other == nil || slices.Equal(svc.model.Identities, other.model.Identities) && svc.model.Policies == other.model.Policies {
			continue
		}
		if !within(svc.model.Identities, other.model.Identities) {
			return fmt.Sprintf("%s: identities %q, want %q", key, other.model.Identities, svc.model.Identities)
		}
		leave(".Cluster", "")
	}
	if a, b := fresh.addresses.ranges, followed.addresses.ranges; !slices.Equal(a, b) {
		if !within(a, b) {
			return fmt.Sprintf("ranges %v, want %v", b, a)
		}
		leave(".Listener", "outbound")
		leave(".Listener", "detect")
	}
	return cmp.Diff(want, got)
}

// published is what has accumulated of results.
type published struct {
	built     bool
	resources map[envoy.ID]map[string]string // by variant
	classes   map[string]string
	zones     map[string]string
	statuses  map[mesh.ID][]mesh.Status
	whole     map[mesh.ID]mesh.Status
	problems  map[mesh.ID][]mesh.Problem
	reconnect sets.Set[mesh.Key]
}

func newPublished() *published {
	return &published{
		resources: map[envoy.ID]map[string]string{}, classes: map[string]string{}, zones: map[string]string{}, statuses: map[mesh.ID][]mesh.Status{},
		whole: map[mesh.ID]mesh.Status{}, problems: map[mesh.ID][]mesh.Problem{}, reconnect: sets.Set[mesh.Key]{},
	}
}

func (p *published) apply(r *Result) error {
	p.built = true
	for key, err := range r.Errors {
		return fmt.Errorf("Service %s: %w", key, err)
	}
	for _, id := range r.Change.Remove {
		delete(p.resources, id)
	}
	set := map[envoy.ID]map[string]string{}
	for _, resource := range r.Change.Set {
		id := resource.ID()
		if set[id] == nil {
			set[id] = map[string]string{}
		}
		if _, twice := set[id][resource.Variant]; twice {
			return fmt.Errorf("%v, variant %q: twice in one change", id, resource.Variant)
		}
		body, err := proto.MarshalOptions{Deterministic: true}.Marshal(resource.Message)
		if err != nil {
			return err
		}
		set[id][resource.Variant] = fmt.Sprintf("%x", sha256.Sum256(body))
	}
	maps.Copy(p.resources, set)
	for pod, class := range r.Change.Classes {
		if p.classes[fmt.Sprint(pod)] = class; class == "" {
			delete(p.classes, fmt.Sprint(pod))
		}
	}
	for name, zone := range r.Change.Zones {
		if p.zones[name] = zone; zone == "" {
			delete(p.zones, name)
		}
	}
	for key, list := range r.Statuses {
		if p.statuses[key] = list; len(list) == 0 {
			delete(p.statuses, key)
		}
	}
	for _, id := range r.DeletedPolicies {
		delete(p.whole, id)
	}
	for _, s := range r.PolicyStatuses {
		p.whole[s.Object] = s
	}
	for id, list := range r.Problems {
		if p.problems[id] = list; len(list) == 0 {
			delete(p.problems, id)
		}
	}
	p.reconnect = p.reconnect.Union(r.Reconnect)
	return nil
}

// texts are what a difference is shown by.
func (p *published) texts() map[string]string {
	out := map[string]string{}
	for id, variants := range p.resources {
		out[fmt.Sprint("resource ", id)] = fmt.Sprint(variants)
	}
	for pod, class := range p.classes {
		out["class of "+pod] = class
	}
	for name, zone := range p.zones {
		out["zone of "+name] = zone
	}
	for key, list := range p.statuses {
		for i, s := range list {
			ref, _ := json.Marshal(s.Ref)
			out[fmt.Sprint("status ", i, " of ", key)] = fmt.Sprint(s.Object, " ", string(ref), s.Generation, s.Conditions, s.Lost)
		}
	}
	for id, s := range p.whole {
		out["status "+id.String()] = fmt.Sprint(s.Generation, s.Conditions)
	}
	for id, list := range p.problems {
		out["problems of "+id.String()] = fmt.Sprint(list)
	}
	return out
}
