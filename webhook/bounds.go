package webhook

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// bound is a quantity with the object that sets it.
type bound struct {
	resource.Quantity
	by string
}

// bounds are the demands of LimitRanges and ResourceQuotas on one resource of each container. A nil field has no
// demand.
type bounds struct {
	low, high, ratio, limit, request *bound
	// needRequest and needLimit name the object that refuses a container without a request or limit.
	needRequest, needLimit string
}

// boundsOf collects the bounds. The narrowest of several bounds applies, and the first of several defaults, as in
// Kubernetes, whose LimitRanger applies one LimitRange after another.
func boundsOf(name corev1.ResourceName, limitRanges []*corev1.LimitRange, quotas []*corev1.ResourceQuota) bounds {
	var b bounds
	for _, lr := range limitRanges {
		for _, item := range lr.Spec.Limits {
			if item.Type != corev1.LimitTypeContainer {
				continue
			}
			by := "LimitRange " + lr.Name
			b.low = pick(b.low, item.Min, name, by, 1)
			b.high = pick(b.high, item.Max, name, by, -1)
			b.ratio = pick(b.ratio, item.MaxLimitRequestRatio, name, by, -1)
			b.limit = pick(b.limit, item.Default, name, by, 0)
			b.request = pick(b.request, item.DefaultRequest, name, by, 0)
		}
	}
	for _, quota := range quotas {
		for _, key := range wantsOf(quota) {
			switch want := computeKeys[key]; {
			case want.resource != name:
			case want.limit:
				b.needLimit = "ResourceQuota " + quota.Name
			default:
				b.needRequest = "ResourceQuota " + quota.Name
			}
		}
	}
	switch {
	case b.limit != nil:
		b.needLimit = b.limit.by
	case b.high != nil:
		b.needLimit = b.high.by
	case b.ratio != nil:
		b.needLimit = b.ratio.by
	}
	for _, o := range []*bound{b.request, b.low, b.ratio} {
		if o != nil && b.needRequest == "" {
			b.needRequest = o.by
		}
	}
	return b
}

// pick returns the larger (1) or smaller (-1) of a known quantity and the list's quantity, or the first of them (0).
func pick(known *bound, list corev1.ResourceList, name corev1.ResourceName, by string, sign int) *bound {
	q, ok := list[name]
	if !ok || known != nil && (sign == 0 || q.Cmp(known.Quantity) != sign) {
		return known
	}
	return &bound{q, by}
}

// share has the sidecar's request and limit of one resource. Nil means none.
type share struct{ request, limit *resource.Quantity }

func shareOf(r corev1.ResourceRequirements, name corev1.ResourceName) share {
	var s share
	if q, ok := r.Requests[name]; ok {
		s.request = &q
	}
	if q, ok := r.Limits[name]; ok {
		s.limit = &q
	}
	return s
}

func (s share) equal(o share) bool {
	same := func(a, b *resource.Quantity) bool { return (a == nil) == (b == nil) && (a == nil || a.Cmp(*b) == 0) }
	return same(s.request, o.request) && same(s.limit, o.limit)
}

func (s share) String() string {
	text := func(q *resource.Quantity) string {
		if q == nil {
			return "none"
		}
		return q.String()
	}
	return fmt.Sprintf("request %s, limit %s", text(s.request), text(s.limit))
}

// fit returns the share within the bounds. because names the objects that changed it, each once.
func (b bounds) fit(s share, name corev1.ResourceName) (out share, because []string) {
	why := func(by string) {
		if by != "" && !slices.Contains(because, by) {
			because = append(because, by)
		}
	}
	if s.request == nil && s.limit != nil {
		s.request = s.limit // Kubernetes' own default
	}
	if s.request == nil && b.needRequest != "" {
		s.request = leastRequest(name)
		if b.request != nil {
			s.request = &b.request.Quantity
		}
		why(b.needRequest)
	}
	if s.limit == nil && b.needLimit != "" {
		s.limit = roomyLimit(s.request, name)
		if b.limit != nil && b.limit.Cmp(*s.limit) > 0 {
			s.limit = &b.limit.Quantity
		}
		why(b.needLimit)
	}
	if s.request == nil {
		s.request = s.limit
	}
	if b.high != nil && s.limit != nil && s.limit.Cmp(b.high.Quantity) > 0 {
		s.limit = &b.high.Quantity
		why(b.high.by)
	}
	if b.low != nil {
		if s.limit != nil && s.limit.Cmp(b.low.Quantity) < 0 {
			s.limit = &b.low.Quantity
			why(b.low.by)
		}
		if s.request != nil && s.request.Cmp(b.low.Quantity) < 0 {
			s.request = &b.low.Quantity
			why(b.low.by)
		}
	}
	if s.request != nil && s.limit != nil {
		if s.request.Cmp(*s.limit) > 0 {
			s.request = s.limit
		}
		if b.ratio != nil {
			if least := divided(*s.limit, b.ratio.Quantity, name); s.request.Cmp(least) < 0 {
				s.request = &least
				why(b.ratio.by)
			}
		}
	}
	return s, because
}

// leastRequest is the request of a sidecar that needs one but has none configured.
func leastRequest(name corev1.ResourceName) *resource.Quantity {
	if name == corev1.ResourceCPU {
		return new(resource.MustParse("50m"))
	}
	return new(resource.MustParse("64Mi"))
}

// roomyLimit is the limit of a sidecar that needs one but has none configured. A limit that is too low throttles or
// kills all traffic of the pod, so it is well above the request: four times the CPU, twice the memory.
func roomyLimit(request *resource.Quantity, name corev1.ResourceName) *resource.Quantity {
	if request == nil {
		request = leastRequest(name)
	}
	if name == corev1.ResourceCPU {
		return resource.NewMilliQuantity(4*request.MilliValue(), request.Format)
	}
	return resource.NewQuantity(2*request.Value(), request.Format)
}

// divided is limit/ratio, rounded up to the unit in which Kubernetes counts.
func divided(limit, ratio resource.Quantity, name corev1.ResourceName) resource.Quantity {
	per := ratio.MilliValue()
	if per <= 0 {
		return limit
	}
	// limit/(per/1000), without overflow up to some 9 PB
	if name == corev1.ResourceCPU {
		return *resource.NewMilliQuantity(ceilDiv(limit.MilliValue()*1000, per), limit.Format)
	}
	return *resource.NewQuantity(ceilDiv(limit.Value()*1000, per), limit.Format)
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
