package xds_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
)

// hashing is Service cart with three endpoints.
func hashing(t *testing.T, algorithm string, by config.HashBy) *fleet {
	t.Helper()
	svc := service("cart")
	svc.Policy = config.ServicePolicy{LoadBalancing: algorithm, HashBy: &by}
	f := newFleet(t, svc)
	f.set("cart", named(t, "a").address, named(t, "b").address, named(t, "c").address)
	f.serve(nil)
	return f
}

// The same header goes to the same endpoint, others to all of them, and few move when one is added.
func TestHashByHeader(t *testing.T) {
	for _, algorithm := range []string{config.RingHash, config.Maglev} {
		t.Run(algorithm, func(t *testing.T) {
			f := hashing(t, algorithm, config.HashBy{Source: config.ByHeader, Name: "x-user"})
			const users = 300
			of := func(user int) string {
				_, name := f.get("/", "x-user", fmt.Sprint(user))
				return name
			}
			first, shares := map[int]string{}, map[string]int{}
			for user := range users {
				first[user] = of(user)
				shares[first[user]]++
			}
			for name, n := range shares {
				if len(shares) != 3 || n < users/6 {
					t.Errorf("endpoint %s has %d of %d users: %v", name, n, users, shares)
				}
			}
			for user := range users {
				if got := of(user); got != first[user] {
					t.Fatalf("user %d went to %s, then to %s", user, first[user], got)
				}
			}
			f.set("cart", append(f.members["cart"], named(t, "d").address)...)
			eventually(t, "calls to the new endpoint", func() bool {
				for user := range users {
					if of(user) == "d" {
						return true
					}
				}
				return false
			})
			moved := 0
			for user := range users {
				if got := of(user); got != first[user] {
					moved++
				}
			}
			if moved > users/2 { // a quarter has to; without consistent hashing three quarters would
				t.Errorf("%d of %d users moved to another endpoint", moved, users)
			}
		})
	}
}

// A client without the cookie is given one, which keeps it at its endpoint.
func TestHashByCookie(t *testing.T) {
	for want, ttl := range map[string]time.Duration{"": 0, "Max-Age=3600": time.Hour} {
		f := hashing(t, config.RingHash, config.HashBy{Source: config.ByCookie, Name: "cart", TTL: ttl})
		seen := map[string]bool{}
		for range 40 {
			// A client is a connection: all requests of one get the same cookie.
			http.DefaultTransport.(*http.Transport).CloseIdleConnections()
			res, name := f.get("/")
			cookie := theCookie(t, res, "cart")
			if got := res.Header.Get("Set-Cookie"); !strings.Contains(got, want) || strings.Contains(got, "Max-Age") != (want != "") || cookie.Path != "/" {
				t.Fatalf("lifetime %v: Set-Cookie: %s", ttl, got)
			}
			seen[name] = true
			for range 5 {
				res, again := f.get("/x/y", "cookie", "other=1; cart="+cookie.Value)
				if again != name || len(res.Header["Set-Cookie"]) > 0 {
					t.Fatalf("the cookie of %s led to %s, Set-Cookie: %q", name, again, res.Header["Set-Cookie"])
				}
			}
		}
		if len(seen) != 3 {
			t.Errorf("40 clients met the endpoints %v, want all three", seen)
		}
	}
}

// The source address is the caller's, so all its calls go to one endpoint.
func TestHashBySourceIP(t *testing.T) {
	f := hashing(t, config.RingHash, config.HashBy{Source: config.BySourceIP})
	_, first := f.get("/")
	for i := range 50 {
		if _, name := f.get("/", "x-user", fmt.Sprint(i)); name != first {
			t.Fatalf("went to %s, then to %s", first, name)
		}
	}
}

// A hash that leads to an endpoint which refuses leads a further try to another.
func TestHashedCallsAreTriedElsewhere(t *testing.T) {
	for _, algorithm := range []string{config.RingHash, config.Maglev} {
		f := hashing(t, algorithm, config.HashBy{Source: config.ByHeader, Name: "x-user"})
		f.set("cart", append([]netip.AddrPort{reserved(t)}, f.members["cart"][:2]...)...)
		eventually(t, "the change", func() bool { // "c" is gone
			for user := range 60 {
				if _, name := f.get("/", "x-user", fmt.Sprint(user)); name == "c" {
					return false
				}
			}
			return true
		})
		for user := range 300 {
			if res, body := f.get("/", "x-user", fmt.Sprint(user)); res.StatusCode != 200 {
				t.Errorf("%s, user %d: %d %s", algorithm, user, res.StatusCode, body)
			}
		}
	}
}

func TestOtherAlgorithms(t *testing.T) {
	for _, algorithm := range []string{config.LeastRequest, config.RoundRobin, config.Random} {
		svc := service("cart")
		svc.Policy.LoadBalancing = algorithm
		f := newFleet(t, svc)
		f.set("cart", named(t, "a").address, named(t, "b").address, named(t, "c").address)
		f.serve(nil)
		shares := map[string]int{}
		for range 300 {
			_, name := f.get("/")
			shares[name]++
		}
		least := 50
		if algorithm == config.RoundRobin {
			least = 100
		}
		for _, name := range []string{"a", "b", "c"} {
			if shares[name] < least {
				t.Errorf("%s: %v", algorithm, shares)
			}
		}
	}
}

func theCookie(t *testing.T, res *http.Response, name string) *http.Cookie {
	t.Helper()
	cookies := res.Cookies()
	if len(cookies) != 1 || cookies[0].Name != name || !cookies[0].HttpOnly {
		t.Fatalf("Set-Cookie: %q, want one for %s", res.Header["Set-Cookie"], name)
	}
	return cookies[0]
}
