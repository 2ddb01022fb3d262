package mesh

import (
	"cmp"
	"strings"
)

// Host names are empty for any, a name in lower case, or "*." and a suffix, which stands for one label or more:
// https://gateway-api.sigs.k8s.io/reference/spec/#hostname

// HostCovers reports whether every name that b stands for is one that a stands for.
func HostCovers(a, b string) bool {
	if a == "" || a == b {
		return true
	}
	return isWildcard(a) && strings.HasSuffix(strings.TrimPrefix(b, "*"), a[1:])
}

// HostCovering returns the names that stand for every name that b stands for, the most specific first: itself, wildcards, "" for any.
func HostCovering(b string) []string {
	if b == "" {
		return []string{""}
	}
	out := []string{b}
	rest := strings.TrimPrefix(b, "*.")
	for {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			return append(out, "")
		}
		rest = rest[i+1:]
		out = append(out, "*."+rest)
	}
}

// hostsMeet returns the names that both a and b stand for. It reports false if there are none.
func hostsMeet(a, b string) (string, bool) {
	switch {
	case HostCovers(a, b):
		return b, true
	case HostCovers(b, a):
		return a, true
	}
	return "", false
}

// CompareHosts orders host names, the more specific first: names, then the longest suffix, then any.
func CompareHosts(a, b string) int {
	rank := func(name string) int {
		switch {
		case name == "":
			return 2
		case isWildcard(name):
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), -cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}
